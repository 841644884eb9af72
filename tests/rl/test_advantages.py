"""Returns, advantages and baselines against plain Python, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import rl
from metajax.rl.policies import Seen
from metajax.rl.rollout import Steps

GAMMA, LAMBDA = 0.9, 0.7
COUNT, HORIZON = 4, 6
LENGTHS = [6, 3, 1, 5]  # of episodes, which end early
ALIVE = np.arange(HORIZON) < np.array(LENGTHS)[:, None]


@pytest.fixture(autouse=True)
def always(float64):
    pass


def steps(alive=ALIVE):
    draw = np.random.default_rng(0).normal
    shape = alive.shape
    number = jnp.array(draw(size=shape))
    seen = Seen(jnp.array(draw(size=(*shape, 2))), number, number, number)
    rewards = jnp.array(np.where(alive, draw(size=shape), 0))
    values = jnp.array(draw(size=shape))
    return Steps(seen, number, rewards, number, values, jnp.array(alive))


def plain_returns(rewards, discount=GAMMA):
    total, result = 0.0, []
    for reward in reversed(rewards):
        total = reward + discount * total
        result.append(total)
    return result[::-1]


def plain_gae(rewards, values, discount=GAMMA, decay=LAMBDA):
    """Of steps of which all count."""
    result, later, advantage = [], 0.0, 0.0
    for reward, value in reversed(list(zip(rewards, values))):
        advantage = reward + discount * later - value + discount * decay * advantage
        later = value
        result.append(advantage)
    return np.array(result[::-1])


def test_returns_to_go():
    rewards = steps().reward
    ours = jax.jit(lambda r: rl.returns_to_go(r, GAMMA))(rewards)
    theirs = [plain_returns(row) for row in np.array(rewards)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_gae_of_episodes_that_end_early():
    given = steps()
    ours = np.array(jax.jit(lambda s: rl.gae(s, GAMMA, LAMBDA))(given))
    for row, length in enumerate(LENGTHS):
        parts = (np.array(x[row, :length]) for x in (given.reward, given.value))
        np.testing.assert_allclose(ours[row, :length], plain_gae(*parts), rtol=1e-12)
        assert not ours[row, length:].any()


def test_gae_of_a_trial_passes_over_what_was_not_played():
    # Episodes one after another: the first step of one follows the last of another.
    given = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps())
    ours = np.array(rl.gae(given, GAMMA, LAMBDA))
    played = ALIVE.ravel()
    parts = (np.array(x)[played] for x in (given.reward, given.value))
    np.testing.assert_allclose(ours[played], plain_gae(*parts), rtol=1e-12)
    assert not ours[~played].any()


def test_gae_at_lambda_1_is_the_return_less_the_value():
    given = steps()
    ours = rl.gae(given, GAMMA, 1.0)
    theirs = rl.returns_to_go(given.reward, GAMMA) - given.value
    np.testing.assert_allclose(ours[ALIVE], theirs[ALIVE], rtol=1e-12)


def test_what_follows_the_end_does_not_count():
    given = steps()
    other = given._replace(value=jnp.where(ALIVE, given.value, 1e6))
    np.testing.assert_array_equal(
        rl.gae(given, GAMMA, LAMBDA), rl.gae(other, GAMMA, LAMBDA)
    )


def test_leave_one_out():
    given = steps()
    returns = rl.returns_to_go(given.reward, GAMMA)
    ours = rl.leave_one_out(given, returns)
    for row in range(COUNT):
        others = np.delete(np.array(returns), row, 0)
        np.testing.assert_allclose(ours[row], others.mean(0), rtol=1e-12)
    alone = jax.tree.map(lambda x: x[:1], (given, returns))
    assert not rl.leave_one_out(*alone).any()


def test_linear_features_is_least_squares():
    given = steps()
    returns = rl.returns_to_go(given.reward, GAMMA)
    ours = np.array(rl.linear_features(given, returns))
    time = np.broadcast_to(np.arange(HORIZON) / 100, ALIVE.shape)[..., None]
    x = np.array(given.seen.observation)
    parts = x, x**2, time, time**2, time**3, np.ones_like(time)
    features = np.concatenate(parts, -1)[ALIVE]
    ridge = np.sqrt(1e-5) * np.eye(features.shape[1])
    stacked = np.concatenate([features, ridge])
    targets = np.concatenate([np.array(returns)[ALIVE], np.zeros(len(ridge))])
    weights = np.linalg.lstsq(stacked, targets, rcond=None)[0]
    np.testing.assert_allclose(ours[ALIVE], features @ weights, rtol=1e-6)
    assert not ours[~ALIVE].any()


def test_other_baselines():
    given = steps()
    returns = rl.returns_to_go(given.reward, GAMMA)
    assert not rl.no_baseline(given, returns).any()
    assert rl.learnt_value(given, returns) is given.value
    ours = rl.advantages(rl.learnt_value, decay=LAMBDA)(given, GAMMA)
    np.testing.assert_array_equal(ours, rl.gae(given, GAMMA, LAMBDA))


def test_standardized():
    values = steps().value
    ours = np.array(rl.standardized(values, jnp.array(ALIVE)))
    lived = np.array(values)[ALIVE]
    theirs = (lived - lived.mean()) / lived.std()
    np.testing.assert_allclose(ours[ALIVE], theirs, rtol=1e-6)
    assert not ours[~ALIVE].any()
    assert not rl.standardized(jnp.ones(3), jnp.ones(3, bool)).any()  # no NaN


def test_advantages_are_constant():
    compute = rl.advantages(standardize=rl.standardized)

    def total(rewards):
        return jnp.sum(compute(steps()._replace(reward=rewards), GAMMA) ** 2)

    assert not jax.grad(total)(steps().reward).any()
