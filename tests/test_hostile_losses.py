"""`exact` on losses that break what `mixed` rests on, under every transformation.

The oracle is a loop in Python of `jax.grad`, differentiated by `jax.grad`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.ode import odeint
from jax.scipy.sparse.linalg import cg

import metajax as mj
from tests.helpers import relative

RATE, STEPS, TASKS = 0.1, 2, 2


@jax.custom_vjp
def straight_through(x):
    return jnp.round(4 * x) / 4


straight_through.defvjp(lambda x: (jnp.round(4 * x) / 4, None), lambda _, g: (g,))


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_vjp
def clipped_gradient(x):
    return x


clipped_gradient.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@jax.custom_jvp
def saturated(x):
    return jnp.clip(x, -0.5, 0.5)


@saturated.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jnp.clip(x, -0.5, 0.5), t / (1 + x**2)


@jax.custom_jvp
def relu(x):
    """Of the name of a function of JAX, and with a derivative of its own."""
    return jnp.maximum(x, 0.0)


relu.defjvp(lambda x, t: (jnp.maximum(x[0], 0.0), t[0] * jnp.exp(x[0])))

leaky = jax.custom_jvp(jax.nn.relu)
leaky.defjvp(lambda x, t: (jax.nn.relu(x[0]), t[0] * jnp.where(x[0] > 0, x[0], 0.1)))


def root(x):
    """y of y³ + y = x, by a solver that stops early."""

    def newton(f, y):
        for _ in range(3):
            y = y - f(y) / (1 + 3 * y**2)
        return y

    solve = lambda g, y: y / g(jnp.ones_like(y))  # noqa: E731
    return jax.lax.custom_root(lambda y: y**3 + y - x, jnp.zeros_like(x), newton, solve)


def solved(w, x, solve):
    gram = x.T @ x + jnp.diag(1 + w["a"] ** 2)
    return solve(gram, x.T @ jnp.tanh(x @ w["a"]))


def half_read(w, x):
    """A factor of the lower half of a matrix that is not symmetric."""
    lower = jnp.outer(w["a"], jnp.tanh(x[0])) + 3 * jnp.eye(3)
    factor = jax.scipy.linalg.cho_factor(lower, lower=True)
    return jax.scipy.linalg.cho_solve(factor, x.T) * w["c"]


def half_read_vectors(w, x):
    lower = jnp.outer(w["a"], x[0]) + jnp.diag(jnp.arange(3.0))
    values, vectors = jnp.linalg.eigh(lower, symmetrize_input=False)
    return values + vectors**2 * w["c"]


def few_steps(a, b):
    return cg(lambda v: a @ v, b, maxiter=2)[0]


def scanned(f):
    """At some depth: in a call in a branch in a checkpoint in a scan."""

    def step(y, _):
        inner = lambda y: jax.lax.cond(y[0] > -9, jax.jit(f), lambda y: y, y)  # noqa: E731
        return jax.checkpoint(inner)(y) * 1.1, None

    return lambda y: jax.lax.scan(step, y, length=2)[0]


def path(w, x):
    slope = lambda y, t, w: jnp.tanh(y * w["a"]) + w["c"]  # noqa: E731
    return odeint(slope, x[0], jnp.linspace(0.0, 1.0, 3), w)[-1]


def halvings(x):
    """A while loop of as many turns as the data say, which has no reverse mode."""
    return jax.lax.while_loop(
        lambda y: jnp.max(jnp.abs(y)) > 1.0, lambda y: y / 2, 4 * x
    )


def outside(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(np.sin, shape, x, vmap_method="broadcast_all")


def spectrum(w, x):
    return jnp.abs(jnp.fft.fft(jnp.tanh(x * w["a"]))) ** 2


def learnt_inside(w, x):
    """What a MAML of its own adapts."""

    def loss(a, x):
        return jnp.mean(jnp.tanh(x @ a) ** 2) + w["c"] * jnp.sum(a**3)

    return x @ mj.inner_loop(loss, optax.sgd(0.3), 2)(w["a"], x)


def slope_in_inputs(w, x):
    """As a physics-informed network has it."""
    field = lambda x: jnp.tanh(x @ w["a"]) * w["c"]  # noqa: E731
    second = jax.vmap(lambda x: jnp.trace(jax.hessian(field)(x)))
    return second(x) + jax.vmap(field)(x)


def of(f):
    """`f` between layers."""
    return lambda w, x: f(jnp.tanh(x @ w["a"]) * w["c"])


LOSSES = {
    "straight-through": of(straight_through),
    "gradient reversal": of(reversed_gradient),
    "clipped gradient": of(clipped_gradient),
    "custom_vjp at depth": of(scanned(straight_through)),
    "another jvp": of(saturated),
    "custom_jvp at depth": of(scanned(saturated)),
    "a name of JAX's": of(relu),
    "JAX's relu, another jvp": of(leaky),
    "root": of(root),
    "solve": lambda w, x: solved(w, x, jnp.linalg.solve),
    "cholesky of a half": half_read,
    "eigh of a half": half_read_vectors,
    "few steps of cg": lambda w, x: solved(w, x, few_steps),
    "ode": path,
    "stop_gradient": lambda w, x: (
        jnp.tanh(x @ w["a"]) * jax.lax.stop_gradient(w["c"] * w["a"][0])
    ),
    "straight-through by stop_gradient": of(
        lambda y: y + jax.lax.stop_gradient(jnp.round(4 * y) / 4 - y)
    ),
    "while over data": lambda w, x: jnp.tanh(halvings(x) @ w["a"]) * w["c"],
    "callback over data": lambda w, x: jnp.tanh(outside(x) @ w["a"]) * w["c"],
    "complex": spectrum,
    "relu": of(lambda y: jax.nn.relu(y) + jax.nn.softplus(y)),
    "an inner loop": learnt_inside,
    "derivatives in the inputs": slope_in_inputs,
    "sort": of(jnp.sort),
}
# Those of which `mixed` is right, as `exact` finds out.
ORDINARY = {
    "stop_gradient",
    "straight-through by stop_gradient",
    "while over data",
    "complex",
    "relu",
    "derivatives in the inputs",
    "sort",
}


def tasks():
    """Parameters, and what each task has: floats, labels, a mask, bytes, a key."""
    keys = jax.random.split(jax.random.key(0), 6)
    w = {"a": 0.5 * jax.random.normal(keys[0], (3,)), "c": jnp.array(1.3)}
    x = 0.6 * jax.random.normal(keys[1], (TASKS, 4, 3))
    labels = jax.random.randint(keys[2], (TASKS, 4), 0, 3)
    mask = jax.random.bernoulli(keys[3], 0.7, (TASKS, 4))
    shift = jax.random.normal(keys[4], (TASKS,)) + 1j
    weights = jnp.arange(TASKS, dtype=jnp.bfloat16)
    return w, (x, labels, mask, shift, weights, jax.random.split(keys[5], TASKS))


def task_loss(output, task, w):
    """All that a task has is closed over; the batch is the inputs alone."""
    x, labels, mask, shift, weight, key = task
    y = output(w, x)
    noise = jax.random.normal(key, y.shape)
    wanted = jax.nn.one_hot(labels, 3, dtype=y.dtype).sum() + jnp.abs(shift)
    scale = jnp.where(mask.any(), 1.0, 0.1) + weight.astype(y.dtype)
    errors = scale * (y - 0.1 * wanted + 0.1 * noise) ** 2
    return jnp.mean(errors) + 0.01 * jnp.sum(w["a"] ** 4)


def adapted(grad, output, w, task):
    rate = jnp.abs(task[3]) * RATE  # a rate that is closed over, too

    def loss(w, x):
        return task_loss(output, (x, *task[1:]), w)

    if grad is None:
        for _ in range(STEPS):
            w = jax.tree.map(lambda p, g: p - rate * g, w, jax.grad(loss)(w, task[0]))
        return w
    return mj.inner_loop(loss, optax.sgd(rate), STEPS, grad=grad)(w, task[0])


def gradients(grad, output):
    """The meta-gradient under one transformation and another."""

    def meta_loss(w, task):
        return task_loss(output, task, adapted(grad, output, w, task))

    def each(w):
        return functools.partial(jax.grad(meta_loss), w)

    def in_a_scan(w, tasks):
        def add(total, task):
            return jax.tree.map(jnp.add, total, each(w)(task)), None

        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, w), tasks)[0]

    def of_mean(w, tasks):
        return jnp.mean(jax.vmap(meta_loss, (None, 0))(w, tasks))

    def by_data(w, tasks):
        along_x = lambda x, rest: meta_loss(w, (x, *rest))  # noqa: E731
        return jax.vmap(jax.grad(along_x))(tasks[0], tasks[1:])

    return {
        "grad of vmap": jax.grad(of_mean),
        "vmap of grad": lambda w, tasks: jax.vmap(each(w))(tasks),
        "map of grad": lambda w, tasks: jax.lax.map(each(w), tasks),
        "scan": in_a_scan,
        "by data": by_data,
    }


WITHOUT_DATA = {"while over data", "callback over data"}  # no derivative by them


@pytest.mark.parametrize("name", LOSSES)
def test_exact_equals_a_loop_of_reverse(float64, relaxed, name):
    w, data = tasks()
    oracle, ours = (gradients(g, LOSSES[name]) for g in (None, mj.exact))
    if name in WITHOUT_DATA:
        del oracle["by data"], ours["by data"]
    if name == "ode":  # which takes long to compile
        oracle, ours = ({"vmap of grad": f["vmap of grad"]} for f in (oracle, ours))

    @jax.jit
    def both(w, data):
        return [{n: f(w, data) for n, f in ways.items()} for ways in (oracle, ours)]

    wanted, found = both(w, data)
    for way, expected in wanted.items():
        assert optax.tree.norm(expected) > 1e-6, way
        assert relative(found[way], expected) < 1e-12, way


@pytest.mark.parametrize("name", LOSSES)
def test_mixed_is_right_or_refuses(float64, relaxed, name):
    w, data = tasks()
    task = jax.tree.map(lambda x: x[0], data)

    def meta_loss(w, grad):
        return task_loss(LOSSES[name], task, adapted(grad, LOSSES[name], w, task))

    if name not in ORDINARY:
        with pytest.raises(mj.InputError, match="exact or reverse"):
            jax.grad(meta_loss)(w, mj.mixed)
    else:
        ours, oracle = (
            jax.jit(jax.grad(functools.partial(meta_loss, grad=g)))(w)
            for g in (mj.mixed, None)
        )
        assert relative(ours, oracle) < 1e-12


def test_complex_parameters(float64, relaxed):
    def loss(w, x):
        return jnp.mean(jnp.abs(jnp.exp(x * w) - w**2) ** 2)

    def meta_loss(w, grad):
        if grad is not None:
            return loss(mj.inner_loop(loss, optax.sgd(0.1), 2, grad=grad)(w, x), x)
        for _ in range(2):
            w = w - 0.1 * jax.grad(loss)(w, x)
        return loss(w, x)

    x = jnp.array([0.3, 0.7])
    w = jnp.array([0.2 + 0.5j, -0.4 + 0.1j])
    wanted, found = (jax.grad(meta_loss)(w, g) for g in (None, mj.exact))
    assert relative(found, wanted) < 1e-12
