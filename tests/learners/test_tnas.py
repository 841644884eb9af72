"""T-NAS: exact gradients of an architecture, and its schedules."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.models import CellSpace, at_temperature, cells
from metajax.types import Batch, learner_at
from tests.helpers import KEY, gradient, image_episode, relative

SPACE = CellSpace(1, ("none", "skip", "max-pool-3x3", "conv-1x1", "separable-3x3"))
RATE, ALPHA_RATE, STEPS = 0.1, 30.0, 2


def network(dtype=jnp.float64):
    return cells(3, SPACE, ["reduction"], 2, image_shape=(6, 6, 1), dtype=dtype)


def build(model, **settings):
    alphas = optax.sgd(ALPHA_RATE)
    return mj.tnas(
        model, mj.cross_entropy, optax.sgd(RATE), STEPS, alphas=alphas, **settings
    )


@pytest.fixture(scope="module")
def problem():
    """A network, its parameters off the start, an episode and the exact gradient."""
    with jax.enable_x64(True):
        model = network()
        params = jax.tree.map(lambda x: x + 0.1, model.init(KEY))
        keys = jax.random.split(jax.random.key(1), 2)
        params["body"]["alphas"] = {
            kind: jax.random.normal(k, (2, 5), jnp.float64)
            for kind, k in zip(("normal", "reduction"), keys)
        }
        episode = image_episode(KEY, size=6, dtype=jnp.float64)
        exact = jax.jit(gradient(build(model)))(params, episode)
        return model, params, episode, exact


def alphas_of(params):
    return params["body"]["alphas"]


def loop_loss(model, params, episode):
    """The query loss after plain steps in a Python loop."""

    def loss(params, batch):
        return mj.cross_entropy(model.apply(params, batch.inputs), batch.targets)

    for _ in range(STEPS):
        slopes = jax.grad(loss)(params, episode.support)
        moved = jax.tree.map(lambda x, g: x - RATE * g, params, slopes)
        moved["body"]["alphas"] = jax.tree.map(
            lambda x, g: x - ALPHA_RATE * g, alphas_of(params), alphas_of(slopes)
        )
        params = moved
    return loss(params, episode.query)


def test_the_gradient_of_alphas_is_exact(problem, float64):
    model, params, episode, exact = problem
    plain = jax.jit(jax.grad(loop_loss, argnums=1), static_argnums=0)
    loop = plain(model, params, episode)
    assert relative(alphas_of(exact), alphas_of(loop)) < 1e-12
    assert relative(exact, loop) < 1e-12
    reverse = jax.jit(gradient(build(model, grad=mj.reverse)))(params, episode)
    assert relative(alphas_of(exact), alphas_of(reverse)) < 1e-12


def test_the_first_order_gradient_is_another(problem, float64):
    model, params, episode, exact = problem
    short = jax.jit(gradient(build(model, grad=mj.first_order)))(params, episode)
    assert relative(alphas_of(short), alphas_of(exact)) > 0.05


def test_at_one_temperature_it_is_the_plain_learner(problem, float64):
    model, params, episode, _ = problem
    schedule = mj.learners.annealed(
        lambda t: build(at_temperature(model, t)), lambda step: 2.0
    )

    def loss(step):
        return learner_at(schedule, step).loss(params, episode)[0]

    # Their α / 2 take a quarter of each step: by the chain rule, twice a half.
    halved = jax.tree.map(lambda a: a / 2, alphas_of(params))
    start = params | {"body": params["body"] | {"alphas": halved}}
    slower = optax.sgd(ALPHA_RATE / 4)
    settings = model, mj.cross_entropy, optax.sgd(RATE), STEPS
    plain = jax.jit(mj.tnas(*settings, alphas=slower).loss)(start, episode)[0]
    np.testing.assert_allclose(jax.jit(loss)(3), plain, rtol=1e-12)


def test_the_temperature_falls_with_the_meta_steps():
    seen = []
    falling = optax.linear_schedule(1.0, 0.05, 10, transition_begin=10)
    schedule = mj.learners.annealed(
        lambda t: seen.append(float(t)) or build(network()), falling
    )
    for step in (0, 10, 15, 20, 99):
        learner_at(schedule, step)
    np.testing.assert_allclose(seen, [1.0, 1.0, 0.525, 0.05, 0.05], rtol=1e-6)


class Parameters(NamedTuple):
    alphas: jax.Array
    bias: jax.Array


def test_an_attribute_named_alphas_is_an_architecture():
    model = mj.Model(
        lambda key: Parameters(jnp.zeros(1), jnp.zeros(1)),
        lambda params, x: x * params.alphas[None] + params.bias[None],
    )
    settings = model, mj.mse, optax.sgd(0.0), 1
    learner = mj.tnas(*settings, alphas=optax.sgd(1.0))
    adapted = learner.adapt(model.init(KEY), Batch(jnp.ones((2, 1)), jnp.ones((2, 1))))
    assert adapted.alphas[0] == 2 and adapted.bias[0] == 0


@pytest.mark.parametrize("steps", [0, 1])
def test_a_model_without_an_architecture_is_refused(steps):
    learner = mj.tnas(mj.mlp(1, (4,), 1), mj.mse, optax.sgd(0.1), steps)
    meta, batch = learner.init(KEY), Batch(jnp.ones((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(mj.InputError, match="parameters named 'alphas', got .* none"):
        learner.adapt(meta, batch)
