"""Strategies for bandits, their plays, and the published figures."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from benchmarks.rl import bandits, optimum, published
from benchmarks.rl.gittins import gittins, index_table

KEY = jax.random.key(0)


def counts(*pairs):
    won, lost = np.array(pairs, np.int32).T
    return jnp.asarray(won), jnp.asarray(lost), jnp.int32(won.sum() + lost.sum())


def test_greedy_and_upper_bounds():
    state = counts((2, 2), (5, 3), (0, 0))
    assert bandits.greedy(*state, KEY) == 1
    assert bandits.ucb1(0.0)(*state, KEY) == 1
    assert bandits.ucb1(9.0)(*state, KEY) == 2  # the arm with the fewest pulls
    means, pulls = np.array([3 / 6, 6 / 10, 1 / 2]), np.array([6, 10, 2])
    for constant in (0.05, 0.1, 0.3):
        bounds = means + constant * np.sqrt(2 * np.log(13) / pulls)
        assert bandits.ucb1(constant)(*state, KEY) == np.argmax(bounds)


def test_thompson_chooses_by_the_chance_of_being_best():
    keys = jax.random.split(KEY, 20_000)
    choose = jax.vmap(Partial(bandits.thompson, *counts((3, 1), (1, 2))))
    share = float(jnp.mean(choose(keys) == 0))
    draws = np.random.default_rng(0)
    chance = np.mean(draws.beta(4, 2, 10**6) > draws.beta(2, 3, 10**6))
    assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / 20_000)


def test_random_chooses_every_arm_alike():
    choose = jax.vmap(Partial(bandits.uniform, *counts((9, 0), (0, 9), (0, 0))))
    shares = np.bincount(choose(jax.random.split(KEY, 9_000)), minlength=3) / 9_000
    assert np.abs(shares - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 9_000)


def exact_index(successes, failures, remaining):
    """By bisection, and a recursion over the arm's own outcomes."""

    def worth(charge):
        @cache
        def pulled(s, f, left):
            chance = (s + 1) / (s + f + 2)
            later = (
                chance * max(0, pulled(s + 1, f, left - 1))
                + (1 - chance) * max(0, pulled(s, f + 1, left - 1))
                if left > 1
                else 0
            )
            return chance - charge + later

        return pulled(successes, failures, remaining)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) > 0 else (low, middle)
    return low


def test_indices_are_those_of_bisection():
    table = np.asarray(index_table(12))
    assert table[10, 0, 0] == pytest.approx(5 / 9, abs=1e-4)  # two pulls remain
    for pull, s, f in ((0, 0, 0), (1, 1, 0), (4, 0, 1), (6, 2, 3), (9, 7, 0)):
        exact = exact_index(s, f, 12 - pull)
        assert table[pull, s, f] == pytest.approx(exact, abs=1e-3)


def test_indices_rise_with_what_remains_and_with_success():
    pulls = 12
    table = np.asarray(index_table(pulls))
    for pull in range(pulls):
        s, f = (each[: pull + 1, : pull + 1] for each in np.indices((pulls, pulls)))
        inside = s + f <= pull
        own, mean = table[pull, : pull + 1, : pull + 1], (s + 1) / (s + f + 2)
        if pull == pulls - 1:
            np.testing.assert_allclose(own[inside], mean[inside], atol=1e-5)
        else:
            later = table[pull + 1, : pull + 1, : pull + 1]
            assert (own > later)[inside].all() and (own > mean)[inside].all()
        assert (np.diff(own, axis=0) > 0)[inside[1:]].all()
        assert (np.diff(own, axis=1) < 0)[inside[:, 1:]].all()


def test_a_strategy_has_its_own_counts():
    means = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    @Partial
    def checking(successes, failures, pull, key):
        right = (successes[2] == 0) & (jnp.sum(successes + failures) == pull)
        won = jnp.sum(successes)
        return jnp.where(right, jnp.where(won > 0, jnp.argmax(successes), pull), 2)

    rewards = np.asarray(bandits.play(checking, means, 6, KEY)).astype(int)
    np.testing.assert_array_equal(rewards, [[1] * 6, [0] + [1] * 5])


def test_tasks_do_not_see_each_other():
    means = bandits.sample_means(KEY, 4, 3)
    before = bandits.play(bandits.thompson, means, 20, KEY)
    after = bandits.play(bandits.thompson, means.at[1:].set(1.0), 20, KEY)
    np.testing.assert_array_equal(before[0], after[0])
    assert not bool(jnp.all(before[1:]))
    assert bool(jnp.all(after[1:]))


@pytest.mark.parametrize(
    "name, strategy, expected, tasks",
    [
        ("random", bandits.uniform, 5.0, 10_000),
        ("greedy", bandits.greedy, None, 10_000),
        ("Thompson", bandits.thompson, 5.84, 3_000),
        ("UCB1", bandits.ucb1(0.05), None, 10_000),
        ("Gittins", gittins(10), None, 10_000),
        (None, optimum.bayes_optimal(5, 10), 6.660, 10_000),
    ],
)
def test_figures_of_5_arms_and_10_pulls(name, strategy, expected, tasks):
    of_means, of_plays = jax.random.split(jax.random.key(1))
    means = bandits.sample_means(of_means, tasks, 5)
    totals = bandits.total_rewards(strategy, means, 10, of_plays)
    error = totals.std() / np.sqrt(tasks)
    assert totals.mean() < optimum.optimal_value(5, 10) + 4 * error
    if expected is not None:
        assert abs(totals.mean() - expected) < 4 * error
    if name is not None:  # 1,000 tasks, rounded to 0.1
        paper = float(published.BANDIT_TOTALS[5, 10][name])
        theirs = totals.std() * np.sqrt(1 / tasks + 1 / 1_000)
        assert abs(totals.mean() - paper) < 3 * theirs + 0.05
