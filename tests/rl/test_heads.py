"""Distributions of actions against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import metajax as mj
from metajax import rl

KEYS = jax.random.split(jax.random.key(0), 4000)
LOGITS = jnp.array([0.3, -1.0, 2.0])
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum()
MEAN, STD = np.array([0.5, -2.0], np.float32), 0.7


def test_categorical():
    head = rl.categorical(3)
    logs = [head.log_prob(LOGITS, jnp.int32(action)) for action in range(3)]
    np.testing.assert_allclose(logs, np.log(CHANCES), rtol=1e-5)
    np.testing.assert_allclose(head.entropy(LOGITS), stats.entropy(CHANCES), rtol=1e-5)
    drawn = jax.vmap(head.sample, (None, 0))(LOGITS, KEYS)
    assert drawn.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(drawn) / len(KEYS), CHANCES, atol=0.03)


def test_categorical_of_a_certain_action_has_no_nan():
    head, certain = rl.categorical(2), jnp.array([0.0, -1e4])
    value, slope = jax.value_and_grad(head.entropy)(certain)
    assert value == 0 and np.isfinite(slope).all()


def test_an_action_of_minus_infinity_is_not_one(float64):
    head, fewer = rl.categorical(3), rl.categorical(2)
    logits = LOGITS.astype(jnp.float64)
    masked, others = logits.at[1].set(-jnp.inf), logits[::2]
    for action in (0, 2):
        ours = jax.value_and_grad(head.log_prob)(masked, jnp.int32(action))
        wanted = jax.value_and_grad(fewer.log_prob)(others, jnp.int32(action // 2))
        np.testing.assert_allclose(ours[0], wanted[0], rtol=1e-14)
        np.testing.assert_allclose(ours[1], np.insert(wanted[1], 1, 0), atol=1e-15)
    ours = jax.value_and_grad(head.entropy)(masked)
    wanted = jax.value_and_grad(fewer.entropy)(others)
    np.testing.assert_allclose(ours[0], wanted[0], rtol=1e-14)
    np.testing.assert_allclose(ours[1], np.insert(wanted[1], 1, 0), atol=1e-15)
    wanted = np.zeros((3, 3))
    wanted[::2, ::2] = jax.hessian(fewer.entropy)(others)
    np.testing.assert_allclose(jax.hessian(head.entropy)(masked), wanted, atol=1e-15)


def test_gaussian():
    head = rl.gaussian(2, std=STD)
    normal = head.apply(head.init(KEYS[0]), jnp.array(MEAN))
    action = np.array([0.1, -1.0], np.float32)
    theirs = stats.norm(MEAN, STD)
    np.testing.assert_allclose(
        head.log_prob(normal, jnp.array(action)), theirs.logpdf(action).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(head.entropy(normal), theirs.entropy().sum(), rtol=1e-5)
    drawn = jax.vmap(head.sample, (None, 0))(normal, KEYS)
    np.testing.assert_allclose(drawn.mean(0), MEAN, atol=0.05)
    np.testing.assert_allclose(drawn.std(0), STD, rtol=0.05)


def test_gaussian_keeps_a_least_std():
    head = rl.gaussian(1, least_std=0.1)
    normal = head.apply({"log_std": jnp.array([-9.0])}, jnp.zeros(1))
    np.testing.assert_allclose(jnp.exp(normal.log_std), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: rl.categorical(0), "actions must be a whole number of at least 1"),
        (lambda: rl.gaussian(0), "dims must be a whole number of at least 1"),
    ],
)
def test_errors(make, said):
    with pytest.raises(mj.InputError, match=f"^{said}, got 0$"):
        make()
