"""Every way to differentiate the inner gradient against the others and the truth."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.types import Batch
from tests.helpers import (
    INNER,
    KEY,
    descend,
    image_episode,
    naive_maml,
    relative,
    sine_episode,
    small_conv,
)

CASES = {
    "conv4-max": (small_conv, mj.cross_entropy, image_episode),
    "conv4-stride": (
        lambda dtype: small_conv(dtype, "stride"),
        mj.cross_entropy,
        image_episode,
    ),
    "mlp": (lambda dtype: mj.mlp(hidden=(8, 8), dtype=dtype), mj.mse, sine_episode),
}


def cubic(params, batch):
    return jnp.sum(jnp.sin(params * batch.inputs) ** 3 * batch.targets)


def outer(grad, name, optimizer, steps=3):
    """Outer loss of (θ, learned rate, support inputs)."""
    build, loss, sample = CASES[name]
    model, episode = build(jnp.float64), sample(KEY, dtype=jnp.float64)

    def value(meta, rate, support_inputs):
        learner = mj.maml(model, loss, INNER[optimizer](rate), steps, grad=grad)
        support = episode.support._replace(inputs=support_inputs)
        return learner.loss(meta, episode._replace(support=support))[0]

    arguments = (model.init(KEY), jnp.float64(0.05), episode.support.inputs)
    return value, arguments


@pytest.mark.parametrize(
    "name, optimizer",
    [*(("mlp", optimizer) for optimizer in INNER)]
    + [("conv4-max", "adam"), ("conv4-stride", "momentum")],
)
def test_mixed_equals_reverse(float64, name, optimizer):
    (oracle, arguments), (value, _) = (
        outer(grad, name, optimizer) for grad in (mj.reverse, mj.mixed)
    )
    expected = jax.jit(jax.grad(oracle, (0, 1, 2)))(*arguments)
    ours = jax.jit(jax.grad(value, (0, 1, 2)))(*arguments)
    for part, reference in zip(ours, expected):
        assert optax.tree.norm(reference) > 1e-6
        assert relative(part, reference) < 1e-12


@pytest.mark.parametrize("name", ["conv4-stride", "mlp"])
def test_exact_equals_a_python_loop(float64, name):
    build, loss, sample = CASES[name]
    model, episode = build(jnp.float64), sample(KEY, dtype=jnp.float64)
    meta = model.init(KEY)
    learner = mj.maml(model, loss, optax.sgd(0.1), 2, grad=mj.exact)
    ours = jax.jit(jax.grad(lambda m: learner.loss(m, episode)[0]))(meta)
    naive = naive_maml(model, loss, descend(0.1), 2)
    assert relative(ours, jax.jit(jax.grad(naive))(meta, episode)) < 1e-12


@pytest.mark.parametrize("grad", [mj.exact, mj.mixed, mj.reverse])
def test_reverse_equals_finite_differences(float64, grad):
    value, arguments = outer(grad, "mlp", "sgd")
    check_grads(
        jax.jit(value),
        arguments,
        order=1,
        modes=["rev"],
        eps=1e-6,
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize("grad", [mj.exact, mj.mixed])
def test_second_order_by_reverse_mode(float64, grad):
    batch = Batch(jnp.linspace(0.3, 1.0, 4), jnp.linspace(-1.0, 1.0, 4))
    adapt = mj.inner_loop(cubic, optax.sgd(0.1), 2, grad=grad)
    params = jnp.linspace(0.5, 0.8, 4)
    check_grads(jax.jit(adapt), (params, batch), order=2, modes=["rev"])


def test_reverse_in_every_mode(float64):
    batch = Batch(jnp.linspace(0.3, 1.0, 4), jnp.linspace(-1.0, 1.0, 4))
    adapt = mj.inner_loop(cubic, optax.sgd(0.1), 2, grad=mj.reverse)
    params = jnp.linspace(0.5, 0.8, 4)
    check_grads(jax.jit(adapt), (params, batch), order=2, modes=["fwd", "rev"])


@pytest.mark.parametrize("name", ["conv4-stride", "mlp"])
def test_first_order_equals_stopped_gradient(float64, name):
    build, loss, sample = CASES[name]
    model, episode = build(jnp.float64), sample(KEY, dtype=jnp.float64)
    meta = model.init(KEY)
    learner = mj.fomaml(model, loss, optax.sgd(0.1), 3)
    naive = naive_maml(model, loss, descend(0.1), 3, stop=True)
    ours = jax.jit(jax.grad(lambda m: learner.loss(m, episode)[0]))(meta)
    assert relative(ours, jax.jit(jax.grad(naive))(meta, episode)) < 1e-12
    exact = mj.maml(model, loss, optax.sgd(0.1), 3)
    whole = jax.jit(jax.grad(lambda m: exact.loss(m, episode)[0]))(meta)
    assert relative(ours, whole) > 1e-3


@pytest.mark.parametrize("grad", [mj.exact, mj.mixed])
def test_closed_over_hyperparameters(float64, grad):
    batch = Batch(jnp.linspace(0.3, 1.0, 4), jnp.linspace(-1.0, 1.0, 4))

    def value(log_decay, grad):
        def loss(params, batch):
            return cubic(params, batch) + jnp.exp(log_decay) * jnp.sum(params**2)

        adapt = mj.inner_loop(loss, optax.sgd(0.1), 3, grad=grad)
        return jnp.sum(adapt(jnp.linspace(0.5, 0.8, 4), batch) ** 2)

    ours, oracle = (jax.grad(value)(-1.0, g) for g in (grad, mj.reverse))
    np.testing.assert_allclose(ours, oracle, rtol=1e-12)
    assert abs(oracle) > 1e-3


def test_mixed_under_vmap_over_closed_over_values(float64):
    scales = jnp.array([0.5, 2.0])
    params = jnp.linspace(0.5, 0.8, 4)

    def value(scale, grad):
        loss = lambda p, x: jnp.sum(jnp.sin(scale * p) ** 3 * x)  # noqa: E731
        gradient = lambda p: jnp.sum(grad(loss)(p, 2.0) ** 2)  # noqa: E731
        return jax.grad(gradient)(params)

    ours, oracle = (
        jax.vmap(lambda s: value(s, g))(scales) for g in (mj.mixed, jax.grad)
    )
    np.testing.assert_allclose(ours, oracle, rtol=1e-12)


def test_mixed_takes_integer_and_key_arguments():
    def loss(params, targets, key):
        noise = jax.random.normal(key, params.shape)
        return jnp.sum((params[targets] + noise) ** 3)

    def value(params, grad):
        return jnp.sum(grad(loss)(params, jnp.array([0, 2, 1]), KEY) ** 2)

    params = jnp.array([1.0, 2.0, 3.0])
    ours, oracle = (jax.grad(value)(params, g) for g in (mj.mixed, mj.reverse))
    np.testing.assert_allclose(ours, oracle, rtol=1e-5)


def test_mixed_says_no_to_forward_mode():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(mj.mixed(lambda x: x**3), (2.0,), (1.0,))


@pytest.mark.parametrize("grad", [mj.exact, mj.first_order, mj.reverse])
def test_what_was_differentiated_is_freed(grad):
    alive = []

    def value(params, rate):
        def loss(params):
            return rate * params**3

        alive.append(weakref.ref(loss))
        return grad(loss)(params)

    jax.eval_shape(jax.grad(value, (0, 1)), 2.0, 3.0)
    gc.collect()
    assert [loss() for loss in alive] == [None]
