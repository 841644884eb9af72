from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax._pytrees.packing import packing
from metajax.ops.forms import JOINED_FROM, tracing_for
from metajax.types import Batch
from tests.helpers import INNER, KEY, lenient, relative, sine_episode

MODEL = mj.mlp(hidden=(8,), dtype=jnp.float64)


# So many biases that the loop carries them as one vector, on a GPU or a TPU.
DEEP = mj.mlp(hidden=(3,) * 8)
DEEP_DOUBLE = mj.mlp(hidden=(3,) * 8, dtype=jnp.float64)


@pytest.fixture
def joined():
    """A loop carries many vectors as one, as it does on a GPU or a TPU."""
    with tracing_for("gpu"):
        yield


def loss_fn(params, batch, model=MODEL):
    return mj.mse(model.apply(params, batch.inputs), batch.targets)


def by_hand(name, rate, steps, params, batch, loss_fn=loss_fn):
    """The optimizers written out, as in their papers."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    m, v = zeros, zeros
    for k in range(1, steps + 1):
        g = jax.grad(loss_fn)(params, batch)
        if name == "adam":
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
            update = jax.tree.map(
                lambda m, v: (
                    (m / (1 - 0.9**k)) / (jnp.sqrt(v / (1 - 0.999**k) + 1e-8) + 1e-8)
                ),
                m,
                v,
            )
        else:
            decay = {"sgd": 0.0, "momentum": 0.9}[name]
            m = jax.tree.map(lambda m, g: decay * m + g, m, g)
            update = m
        params = jax.tree.map(lambda p, u: p - rate * u, params, update)
    return params


@pytest.mark.parametrize("name", INNER)
def test_follows_the_optimizer(float64, name):
    params, batch = MODEL.init(KEY), sine_episode(KEY, jnp.float64).support
    adapted = mj.inner_loop(loss_fn, INNER[name](0.05), 4)(params, batch)
    expected = by_hand(name, 0.05, 4, params, batch)
    assert relative(adapted, expected) < 1e-12


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_follows_the_optimizer_of_many_vectors(float64, joined, name):
    params, batch = DEEP_DOUBLE.init(KEY), sine_episode(KEY, jnp.float64).support
    loss = partial(loss_fn, model=DEEP_DOUBLE)
    adapt = mj.inner_loop(loss, INNER[name](0.05), 2)
    expected = partial(by_hand, name, 0.05, 2, loss_fn=loss)
    outer, hand = (
        jax.grad(lambda p, f=f: loss(f(p, batch), batch)) for f in (adapt, expected)
    )
    assert relative(adapt(params, batch), expected(params, batch)) < 1e-12
    assert relative(outer(params), jax.jit(hand)(params)) < 1e-10


def test_carries_many_vectors_as_one():
    tree = {"matrix": jnp.ones((2, 2)), "large": jnp.ones(5000), "count": jnp.arange(3)}
    tree |= {f"b{i}": jnp.full((i,), i, jnp.float32) for i in range(8)}
    tree |= {f"h{i}": jnp.full((1,), i, jnp.bfloat16) for i in range(8)}
    tree |= {"weak": jnp.full((2,), 2.0), "scalar": jnp.ones(()), "none": None}
    few = [jnp.ones(3)] * 7
    pack, unpack = packing((tree, few), 8)
    shapes = sorted(x.shape for x in jax.tree.leaves(pack((tree, few))))
    apart = [(), (2,), (2, 2), *[(3,)] * 8, (5000,)]
    assert shapes == sorted([*apart, (8,), (28,)])
    again, few_again = unpack(pack((tree, few)))
    assert len(few_again) == 7
    for name, x in tree.items():
        if x is not None:
            assert jax.typeof(again[name]) == jax.typeof(x), name
            np.testing.assert_array_equal(again[name], x)


def scans_of(function, *args):
    equations = jax.make_jaxpr(function)(*args).jaxpr.eqns
    return [each for each in equations if each.primitive.name == "scan"]


def test_joins_for_the_backend_that_it_is_traced_for():
    params, batch = DEEP.init(KEY), sine_episode(KEY).support
    adapt = mj.inner_loop(partial(loss_fn, model=DEEP), optax.sgd(0.1), 2)

    def carried():
        (scan,) = scans_of(adapt, params, batch)
        return scan.params["num_carry"]

    assert carried() == len(jax.tree.leaves(params)) == 18
    for backend, fewest in JOINED_FROM.items():
        with tracing_for(backend):
            assert carried() == (18 if fewest is None else 10)


def test_first_order_stores_no_step_of_many_vectors(joined):
    """The optimizer's state has no derivative, as if it were carried by itself."""
    adapt = mj.inner_loop(
        partial(loss_fn, model=DEEP), INNER["adam"](0.1), 3, grad=mj.first_order
    )
    params, batch = DEEP.init(KEY), sine_episode(KEY).support
    outer = jax.grad(lambda p: loss_fn(adapt(p, batch), batch, DEEP))
    scans = scans_of(outer, params)
    assert scans
    for scan in scans:
        assert len(scan.outvars) == scan.params["num_carry"]


@pytest.mark.parametrize("checked", [False, True])
def test_vectors_of_two_shardings_stay_apart(joined, checked):
    """Half of the parameters are split between devices, the others on each."""
    P = jax.sharding.PartitionSpec
    params = {f"b{i}": jnp.arange(2.0) + i for i in range(18)}
    specs = {name: P("d") if i % 2 else P() for i, name in enumerate(params)}
    # In `shard_map`, the loss is the sum of both devices' losses.
    times = {
        name: 2.0 if checked and spec == P() else 1.0 for name, spec in specs.items()
    }

    def adapt(times, params):
        def loss(params, batch):
            return sum(t * jnp.sum(jnp.sin(params[name])) for name, t in times.items())

        loop = mj.inner_loop(loss, optax.sgd(0.1), 2, grad=mj.reverse)
        return loop(params, None)

    expected = adapt(times, params)
    plain = partial(adapt, dict.fromkeys(times, 1.0))
    kind = jax.sharding.AxisType.Auto if checked else jax.sharding.AxisType.Explicit
    mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        placed = {name: jax.device_put(x, specs[name]) for name, x in params.items()}
        if checked:
            plain = jax.shard_map(plain, mesh=mesh, in_specs=(specs,), out_specs=specs)
        assert relative(jax.jit(plain)(placed), expected) < 1e-6


def test_zero_steps_is_the_identity(float64):
    params, batch = MODEL.init(KEY), sine_episode(KEY, jnp.float64).support
    adapted = mj.inner_loop(loss_fn, optax.sgd(0.1), 0)(params, batch)
    assert relative(adapted, params) == 0.0


@pytest.mark.parametrize("name", INNER)
def test_trajectory_is_each_loop(float64, name):
    params, batch = MODEL.init(KEY), sine_episode(KEY, jnp.float64).support
    trajectory = mj.inner_trajectory(loss_fn, INNER[name](0.05), 3)(params, batch)
    for k in range(4):
        adapted = mj.inner_loop(loss_fn, INNER[name](0.05), k)(params, batch)
        assert relative(jax.tree.map(lambda x: x[k], trajectory), adapted) < 1e-13


def test_trajectory_gradient(float64):
    params, batch = MODEL.init(KEY), sine_episode(KEY, jnp.float64).support

    def value(params, build):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(build(params)))

    whole = mj.inner_trajectory(loss_fn, optax.sgd(0.05), 2)
    loops = [mj.inner_loop(loss_fn, optax.sgd(0.05), k) for k in range(3)]
    ours = jax.grad(value)(params, lambda p: whole(p, batch))
    apart = jax.grad(value)(params, lambda p: [loop(p, batch) for loop in loops])
    assert relative(ours, apart) < 1e-12


@pytest.mark.parametrize("optimizer", [mj.adam, optax.adam])
def test_adam_has_a_finite_gradient_at_a_dead_unit(optimizer):
    """The weights around a unit whose ReLU is off have gradients of exactly zero."""

    def loss(params, batch):
        hidden = jax.nn.relu(params["in"] * batch.inputs)
        return (jnp.sum(params["out"] * hidden) - 1.0) ** 2

    params = {"in": jnp.array([1.0, -1.0]), "out": jnp.array([2.0, 3.0])}
    batch = Batch(jnp.ones(2), jnp.zeros(2))

    def value(params, optimizer):
        adapted = mj.inner_loop(loss, lenient(optimizer), 2)(params, batch)
        return sum(jnp.sum(x**3) for x in jax.tree.leaves(adapted))

    gradient = jax.grad(value)(params, optimizer(0.1))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_memory_is_flat_in_steps():
    model = mj.mlp(hidden=(16, 16))
    batch = sine_episode(KEY).support
    batch = jax.tree.map(lambda x: jnp.tile(x, (400, 1)), batch)

    def loss(params, batch):
        return mj.mse(model.apply(params, batch.inputs), batch.targets)

    def temporary(steps):
        adapt = mj.inner_loop(loss, optax.sgd(0.01), steps)
        value = lambda p: loss(adapt(p, batch), batch)  # noqa: E731
        compiled = jax.jit(jax.grad(value)).lower(model.init(KEY)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    bytes_of_params = sum(x.nbytes for x in jax.tree.leaves(model.init(KEY)))
    few, many = temporary(5), temporary(50)
    assert many - few < 2 * 45 * bytes_of_params + 0.05 * few


def told(scale):
    """An optimizer that is told the loss: u = -scale L g."""

    def update(updates, state, params=None, *, value_fn, **also):
        value = value_fn(params)
        return jax.tree.map(lambda g: -scale * value * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize("grad", [mj.exact, mj.reverse])
def test_an_optimizer_may_be_told_the_loss(float64, grad):
    params, batch = MODEL.init(KEY), sine_episode(KEY, jnp.float64).support

    def by_hand(params):
        for _ in range(3):
            value, grads = jax.value_and_grad(loss_fn)(params, batch)
            params = jax.tree.map(lambda p, g: p - 0.01 * value * g, params, grads)  # noqa: B023
        return loss_fn(params, batch)

    adapt = mj.inner_loop(loss_fn, told(0.01), 3, grad=grad)
    ours, theirs = (
        jax.value_and_grad(f)(params)
        for f in (lambda p: loss_fn(adapt(p, batch), batch), by_hand)
    )
    assert relative(ours, theirs) < 1e-12


def test_the_loss_is_held_constant_as_the_gradient_is(float64):
    def adapted(offset):
        loss = lambda w, batch: w**2 + offset  # noqa: E731
        return mj.inner_loop(loss, told(0.1), 2, grad=mj.first_order)(2.0, ())

    assert adapted(1.0) != adapted(0.0) and jax.grad(adapted)(1.0) == 0


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("grad", [mj.exact, mj.reverse, mj.first_order])
def test_the_loss_costs_nothing_where_it_is_not_used(grad, steps):
    model = mj.mlp(hidden=(8, 8))
    params, batch, sgd = model.init(KEY), sine_episode(KEY).support, optax.sgd(0.01)

    def loss(params, batch):
        return mj.mse(model.apply(params, batch.inputs), batch.targets)

    def without(params, batch):
        """`inner_loop` that never asks for the loss."""

        def step(params, k):
            grads = grad(loss)(params, batch)
            updates, _ = sgd.update(grads, sgd.init(params), params)
            return optax.apply_updates(params, updates), None

        step = jax.checkpoint(step, prevent_cse=False)
        return jax.lax.scan(step, params, jnp.arange(steps))[0]

    def flops(adapt):
        value = jax.grad(lambda p, b: loss(adapt(p, b), b))
        compiled = jax.jit(value).lower(params, batch).compile()
        return compiled.cost_analysis()["flops"]

    plain = mj.inner_loop(loss, sgd, steps, grad=grad)
    asking = mj.inner_loop(loss, told(0.01), steps, grad=grad)
    assert flops(plain) == flops(without)
    assert flops(asking) > flops(plain)


@pytest.mark.parametrize("steps", [-1, 1.5, None, True])
def test_refuses_bad_steps(steps):
    with pytest.raises(mj.InputError, match="steps must be a whole number"):
        mj.inner_loop(loss_fn, optax.sgd(0.1), steps)


def test_refuses_an_optimizer_that_is_meta_learned():
    adapt = lambda rule: mj.inner_loop(loss_fn, rule, 1)  # noqa: E731
    with pytest.raises(mj.InputError, match="use metajax.learned_maml for one"):
        adapt(mj.learners.meta_lstm(0.1))
    for factory in (mj.learned_maml, mj.maml_plus_plus):
        with pytest.raises(mj.InputError, match="metajax.learners.fixed"):
            factory(MODEL, mj.mse, optax.sgd(0.1), 1)
