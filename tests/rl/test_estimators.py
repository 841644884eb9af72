"""Estimators against the enumeration of every trajectory, in float64."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import rl
from metajax.learners.maml_rl import Gathered
from metajax.rl.estimators import Path
from tests.rl.enumeration import (
    HORIZON,
    THETA,
    every_trajectory,
    sampled,
    small_mdp,
    small_policy,
    value,
)

RATE = 0.7
LISTED = every_trajectory()


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def error(ours, exact):
    return float(jnp.linalg.norm(ours - exact) / jnp.linalg.norm(exact))


def expected(estimator, baseline=0.0):
    """The estimator's expectation over all trajectories, as a surrogate of θ."""

    def surrogate(table):
        old = jax.lax.stop_gradient(LISTED.log_probs(table))
        ones = jnp.ones_like(old)
        shift = baseline * jnp.asarray(LISTED.states, old.dtype)
        path = Path(
            LISTED.log_probs(table), old, LISTED.returns - shift, LISTED.rewards, ones
        )
        chances = jax.lax.stop_gradient(LISTED.chances(table))
        return jnp.sum(chances * estimator(path))

    return surrogate


@cache
def compiled(order, function):
    """A derivative of a function at θ, as one program."""
    return jax.jit(order(function))(jnp.asarray(THETA))


EXACT = {"dice": rl.dice, "loaded dice": rl.loaded_dice()}
BIASED = {"lvc": rl.lvc, "clipped": rl.clipped(), "score": rl.score}
BIASED["loaded dice at 0"] = rl.loaded_dice(0.0)


@pytest.mark.parametrize("name", EXACT | BIASED)
def test_every_gradient_is_exact(name):
    ours = compiled(jax.grad, expected((EXACT | BIASED)[name]))
    assert error(ours, compiled(jax.grad, value)) < 1e-12


@pytest.mark.parametrize("name", EXACT)
def test_exact_hessians(name):
    ours = compiled(jax.hessian, expected(EXACT[name]))
    assert error(ours, compiled(jax.hessian, value)) < 1e-12


@pytest.mark.parametrize("name", BIASED)
def test_biased_hessians(name):
    # Else the tests of this file could not tell estimators apart.
    ours = compiled(jax.hessian, expected(BIASED[name]))
    assert error(ours, compiled(jax.hessian, value)) > 0.1


def test_loaded_dice_takes_any_baseline():
    for order in (jax.grad, jax.hessian):
        ours = compiled(order, expected(rl.loaded_dice(), baseline=3.0))
        assert error(ours, compiled(order, value)) < 1e-12


def test_third_derivatives_of_dice():
    third = lambda f: jax.jacfwd(jax.hessian(f))  # noqa: E731
    ours = compiled(third, expected(rl.dice))
    assert error(ours, compiled(third, value)) < 1e-12


def test_loaded_dice_at_0_is_lvc_up_to_the_second_order():
    ours, theirs = (expected(x) for x in (rl.loaded_dice(0.0), rl.lvc))
    assert error(*(compiled(jax.hessian, x) for x in (ours, theirs))) < 1e-12


def learner_of(inner, **settings):
    sampling = rl.sampling(small_mdp(), small_policy(), trajectories=1, discount=1.0)
    return mj.maml_rl(sampling, optax.sgd(RATE), 1, inner=inner, **settings)


def ascent(table, gradient):
    """The inner step of the learner: the mean over the steps of a trajectory."""
    return table + RATE * gradient / HORIZON


def outer_of(table):
    count = len(LISTED.states)
    return sampled(LISTED, table, count * LISTED.chances(table))


def gradient_of(learner, inner, outer):
    """∇ of the learner's loss, in the value's scale; of many at once, `[n, 1, ...]`."""
    data = Gathered(jax.tree.map(lambda x: x[:, None], inner), outer)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def gradient(table, data):
        loss = lambda table: learner.loss({"model": table, "head": ()}, data)[0]  # noqa: E731
        return jax.grad(loss)(table)

    return -HORIZON * gradient(jnp.asarray(THETA), data)


def stacked(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def first_objective(table):
    """J_I: the value after a step along the expected gradient."""
    return value(ascent(table, jax.grad(value)(table)))


@pytest.mark.parametrize(
    "name, least, most",
    [
        ("dice", 0, 1e-10),
        ("loaded dice", 0, 1e-10),
        ("lvc", 1e-3, 1),
        ("score", 0.1, 9),
    ],
)
def test_meta_gradient_of_the_first_objective(name, least, most):
    theta = jnp.asarray(THETA)
    inner = outer_of(theta)  # all trajectories, as often as they come
    outer = outer_of(ascent(theta, compiled(jax.grad, value)))
    learner = learner_of((EXACT | BIASED)[name])
    (ours,) = gradient_of(learner, stacked([inner]), stacked([outer]))
    off = error(ours, compiled(jax.grad, first_objective))
    assert least <= off <= most


def one_gradient(table, row):
    """ĝ of one trajectory."""
    part = type(LISTED)(*(x[row : row + 1] for x in LISTED))
    gain = lambda table: jnp.sum(part.log_probs(table) * part.returns)  # noqa: E731
    return jax.grad(gain)(table), part


def second_objective(table):
    """J_II: the expected value after a step along one trajectory's gradient."""
    chances = LISTED.chances(table)
    values = [
        value(ascent(table, one_gradient(table, row)[0])) for row in range(len(chances))
    ]
    return jnp.sum(chances * jnp.stack(values))


@pytest.mark.parametrize(
    "inner, presampling, least, most",
    [(None, True, 0, 1e-10), (rl.score, False, 0.01, 9), (rl.dice, False, 0.01, 9)],
)
def test_meta_gradient_of_the_second_objective(inner, presampling, least, most):
    theta = jnp.asarray(THETA)
    learner = learner_of(inner, presampling=presampling)
    rows = [one_gradient(theta, row) for row in range(len(LISTED.states))]
    inner = stacked([sampled(part, theta, np.ones(1)) for _, part in rows])
    outer = stacked([outer_of(ascent(theta, gradient)) for gradient, _ in rows])
    each = gradient_of(learner, inner, outer)
    total = jnp.tensordot(LISTED.chances(theta), each, 1)
    off = error(total, compiled(jax.grad, second_objective))
    assert least <= off <= most
