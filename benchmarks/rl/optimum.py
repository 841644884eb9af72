"""The Bayes-optimal strategy of Bernoulli bandits, exactly, by a dynamic program.

Arms with equal counts are interchangeable, so a state is the sorted counts of the arms
that have been pulled.
"""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks.rl.bandits import Strategy
from metajax.errors import InputError

Counts = tuple[int, int]  # successes, failures
State = tuple[Counts, ...]
MOST_STATES = 300_000  # which take about ten seconds


def optimal_value(arms: int, pulls: int) -> float:
    """The largest expected total reward that any strategy can have, p ~ U[0, 1].

      V(c) = max_i  p_i (1 + V(c + success of i)) + (1 - p_i) V(c + failure of i)
      p_i = (s_i + 1)/(s_i + f_i + 2),   V = 0 after the last pull

    Raises:
      InputError: if there are more than `MOST_STATES` states.

    >>> print(f"{optimal_value(5, 10):.3f}, {optimal_value(10, 10):.3f}")
    6.660, 6.714
    """
    return _solve(arms, pulls)[0]


def bayes_optimal(arms: int, pulls: int) -> Strategy:
    """The strategy whose expected total reward is `optimal_value`.

    Args:
      arms: of a task.
      pulls: of a task.

    Raises:
      InputError: if there are more than `MOST_STATES` states.
    """
    plan = _solve(arms, pulls)[1]
    # The counts of an arm are a random word, and a state the sum of its arms' words.
    for seed in itertools.count():
        words = np.random.default_rng(seed).integers(2**32, size=(pulls, pulls))
        words[0, 0] = 0  # of an arm that has not been pulled
        sums = [sum(int(words[pair]) for pair in state) % 2**32 for state in plan]
        if len({*sums}) == len(plan):
            break
    order = np.argsort(sums)
    sums, best = np.array(sums)[order], np.array(list(plan.values()), np.int32)[order]
    tables = words.astype(np.uint32), sums.astype(np.uint32), best
    return Partial(_look_up, *map(jnp.asarray, tables))


def _look_up(words, sums, best, successes, failures, pull, key):
    state = jnp.sum(words[successes, failures], dtype=jnp.uint32)
    won, lost = best[jnp.searchsorted(sums, state)]
    return jnp.argmax((successes == won) & (failures == lost))


def count_states(arms: int, pulls: int) -> int:
    """The number of states in which a pull is chosen.

    >>> count_states(1, 3)  # no pull, one success or failure, three counts of two pulls
    6
    """
    counts = np.zeros((arms + 1, pulls))  # by the arms and the pulls that a state has
    counts[0, 0] = 1
    for total in range(1, pulls):  # of an arm: `total + 1` different counts
        before = counts.copy()
        for same in range(1, min(arms, (pulls - 1) // total) + 1):
            ways = math.comb(total + same, same)
            counts[same:, same * total :] += ways * before[:-same, : -same * total]
    return int(counts.sum())


@cache
def _solve(arms: int, pulls: int) -> tuple[float, dict[State, Counts]]:
    """The value of the start, and the counts of the best arm in every state."""
    if (states := count_states(arms, pulls)) > MOST_STATES:
        raise InputError(
            f"the exact optimum of {pulls} pulls of {arms} arms has {states:.2g} "
            f"states, and at most {MOST_STATES} can be solved; choose fewer pulls"
        )
    levels: list[set[State]] = [{()}]
    for _ in range(pulls - 1):
        levels.append({s for state in levels[-1] for s in _successors(state, arms)})
    values: dict[State, float] = {}
    plan: dict[State, Counts] = {}
    for level in reversed(levels):
        choices = {state: _best(state, arms, values) for state in level}
        values = {state: value for state, (value, _) in choices.items()}
        plan |= {state: pair for state, (_, pair) in choices.items()}
    return values[()], plan


def _successors(state: State, arms: int) -> Iterator[State]:
    for pair in _choices(state, arms):
        yield from _outcomes(state, pair)


def _choices(state: State, arms: int) -> set[Counts]:
    """The counts of the arms that can be pulled, equal ones once."""
    return {*state} | ({(0, 0)} if len(state) < arms else set())


def _outcomes(state: State, pair: Counts) -> tuple[State, State]:
    """The states after a success and after a failure of an arm with these counts."""
    others = list(state)
    if pair in others:
        others.remove(pair)
    won, lost = pair
    after = (won + 1, lost), (won, lost + 1)
    success, failure = (tuple(sorted([*others, each])) for each in after)
    return success, failure


def _best(state: State, arms: int, values: dict[State, float]) -> tuple[float, Counts]:
    """The largest value of a pull, and the counts of its arm."""

    def value(pair: Counts) -> float:
        success, failure = (values.get(s, 0.0) for s in _outcomes(state, pair))
        chance = (pair[0] + 1) / (sum(pair) + 2)
        return chance * (1 + success) + (1 - chance) * failure

    return max((value(pair), pair) for pair in _choices(state, arms))
