"""The Bayes optimum of bandits is that of every strategy, enumerated."""

import itertools
import math

import jax
import numpy as np
import pytest

from benchmarks.rl import bandits, optimum
from benchmarks.rl.gittins import gittins
from metajax.errors import InputError


def best_of_all_strategies(arms, pulls):
    """By integrating the likelihood over p ~ U[0, 1], strategy by strategy.

    A strategy names an arm for each sequence of outcomes so far.
    """
    histories = [h for n in range(pulls) for h in itertools.product((0, 1), repeat=n)]
    values = []
    for choice in itertools.product(range(arms), repeat=len(histories)):
        arm_after = dict(zip(histories, choice))
        value = 0.0
        for outcomes in itertools.product((0, 1), repeat=pulls):
            counts = np.zeros((arms, 2), int)
            for t, outcome in enumerate(outcomes):
                counts[arm_after[outcomes[:t]], outcome] += 1
            chance = math.prod(
                math.factorial(f) * math.factorial(s) / math.factorial(s + f + 1)
                for f, s in counts.tolist()
            )
            value += chance * sum(outcomes)
        values.append(value)
    return max(values)


def expected_reward(strategy, arms, pulls):
    """Of a strategy that draws nothing, over every count that it can come to."""
    choose = jax.jit(strategy)
    key, known = jax.random.key(0), {}

    def value(successes, failures):
        pull = sum(successes) + sum(failures)
        if pull == pulls:
            return 0.0
        if (successes, failures) not in known:
            counts = (np.array(each, np.int32) for each in (successes, failures))
            arm = int(choose(*counts, np.int32(pull), key))
            won, lost = (
                tuple(n + (i == arm) for i, n in enumerate(each))
                for each in (successes, failures)
            )
            chance = won[arm] / (won[arm] + failures[arm] + 1)
            known[successes, failures] = chance * (1 + value(won, failures)) + (
                1 - chance
            ) * value(successes, lost)
        return known[successes, failures]

    return value((0,) * arms, (0,) * arms)


@pytest.mark.parametrize("arms, pulls", [(1, 3), (2, 1), (2, 2), (3, 2), (2, 3)])
def test_no_strategy_is_better(arms, pulls):
    whole = best_of_all_strategies(arms, pulls)
    assert optimum.optimal_value(arms, pulls) == pytest.approx(whole, abs=1e-12)


def test_known_values():
    assert round(optimum.optimal_value(5, 10), 3) == 6.660
    assert round(optimum.optimal_value(10, 10), 3) == 6.714
    assert optimum.optimal_value(1, 7) == pytest.approx(3.5)


def test_more_arms_and_pulls_are_worth_more():
    values = np.array(
        [[optimum.optimal_value(arms, n) for n in range(1, 7)] for arms in range(1, 6)]
    )
    assert (np.diff(values, axis=1) >= 0.5 - 1e-12).all()  # a random arm's mean
    assert (np.diff(values, 2, axis=1) >= -1e-12).all()  # a later pull knows more
    for pulls in range(1, 7):
        rising = np.diff(values[: pulls + 1, pulls - 1])
        assert (rising[: pulls - 1] > 1e-6).all()
        assert (np.abs(rising[pulls - 1 :]) < 1e-12).all()  # arms that none can pull


@pytest.mark.parametrize("arms, pulls", [(2, 5), (3, 4), (5, 3)])
def test_the_strategy_earns_the_optimum(arms, pulls):
    value = expected_reward(optimum.bayes_optimal(arms, pulls), arms, pulls)
    assert value == pytest.approx(optimum.optimal_value(arms, pulls), abs=1e-12)


def test_other_strategies_earn_less():
    whole = optimum.optimal_value(3, 6)
    earned = {
        "greedy": expected_reward(bandits.greedy, 3, 6),
        "UCB1": expected_reward(bandits.ucb1(1.0), 3, 6),
        "Gittins": expected_reward(gittins(6), 3, 6),
    }
    assert all(value < whole + 1e-12 for value in earned.values())
    assert earned["Gittins"] > 0.999 * whole
    assert earned["Gittins"] > earned["greedy"] > earned["UCB1"] > 3.0


def test_states_are_counted():
    for arms, pulls in ((1, 4), (2, 4), (3, 5), (5, 3)):
        pairs = [(s, n - s) for n in range(pulls) for s in range(n + 1)]
        states = itertools.combinations_with_replacement(pairs, arms)
        count = sum(sum(map(sum, state)) < pulls for state in states)
        assert optimum.count_states(arms, pulls) == count
    assert optimum.count_states(5, 11) == 3_519  # of 10 pulls, with those after them


def test_what_is_too_much_is_refused_at_once():
    with pytest.raises(InputError, match="100 pulls of 5 arms has .* choose fewer"):
        optimum.optimal_value(5, 100)
