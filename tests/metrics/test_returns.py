"""Returns against numpy."""

import jax.numpy as jnp
import numpy as np
import scipy.stats

from metajax.metrics import average_return, episode_return, total_return
from metajax.rl import Steps

RECORDS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
NOTHING = jnp.zeros(())


def steps_of(rewards):
    none = NOTHING, NOTHING, NOTHING, NOTHING
    action, log_prob, value, alive = none
    return Steps(NOTHING, action, jnp.asarray(rewards), log_prob, value, alive)


def test_a_return_is_the_sum_of_an_episode_averaged_over_episodes():
    rewards = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    expected = rewards.sum(1).mean()
    np.testing.assert_allclose(episode_return(steps_of(rewards)), expected, rtol=1e-5)
    for metric in (average_return, total_return):
        np.testing.assert_allclose(
            metric.of_task(steps_of(rewards), None), expected, rtol=1e-5
        )


def test_the_average_after_each_step():
    value, interval = average_return.finish(RECORDS)
    np.testing.assert_allclose(value, RECORDS.mean(0), rtol=1e-5)
    np.testing.assert_allclose(interval, 1.959964 * scipy.stats.sem(RECORDS), rtol=1e-5)


def test_the_total_up_to_each_episode():
    """Its interval is that of the sums: episodes of a trial are not independent."""
    value, interval = total_return.finish(RECORDS)
    sums = np.cumsum(RECORDS.astype(float), axis=1)
    np.testing.assert_allclose(value, sums.mean(0), rtol=1e-5)
    np.testing.assert_allclose(interval, 1.959964 * scipy.stats.sem(sums), rtol=1e-5)
    np.testing.assert_allclose(value[-1], RECORDS.sum(1).mean(), rtol=1e-5)


def test_more_is_better():
    for metric in (average_return, total_return):
        assert metric.better(1.0, 0.0) and not metric.better(0.0, 1.0)
        assert metric.format(-2.34567) == "-2.346"
