"""The tables: every strategy on the same tasks, published figures beside them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import jax
import numpy as np

from benchmarks.rl import bandits, mdp_strategies, mdps, published
from benchmarks.rl.gittins import gittins
from benchmarks.rl.optimum import (
    MOST_STATES,
    bayes_optimal,
    count_states,
    optimal_value,
)
from benchmarks.rl.rows import Row, beside, measured
from benchmarks.rl.runs import read_runs
from benchmarks.rl.settings import Bandit, Mdp
from metajax.experiments.families import BanditData, MdpData
from metajax.rl import TabularMDP

CONSTANTS = 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0  # to tune UCB1 among


def bandit_tables(settings: Bandit) -> dict[str, list[Row]]:
    """The table of mean total rewards, by its title."""
    arms, pulls, tasks = settings.arms, settings.pulls, settings.tasks
    keys = jax.random.split(jax.random.key(settings.seed), 4)
    means, others = (bandits.sample_means(key, tasks, arms) for key in keys[:2])

    def played(name: str, build: Callable[[], bandits.Strategy]) -> Row:
        return measured(
            name, lambda: bandits.total_rewards(build(), means, pulls, keys[2])
        )

    constant = _best_constant(others, pulls, keys[3])
    tuned = f"UCB1, c = {constant}, tuned on other tasks"
    rows = {
        "random": played("random", lambda: bandits.uniform),
        "greedy": played("greedy", lambda: bandits.greedy),
        "Thompson": played("Thompson", lambda: bandits.thompson),
        "untuned": played("UCB1, c = 1", lambda: bandits.ucb1(1.0)),
        "UCB1": played(tuned, lambda: bandits.ucb1(constant)),
        "Gittins": played("Gittins, finite horizon", lambda: gittins(pulls)),
    }
    if count_states(arms, pulls) <= MOST_STATES:
        rows["exact"] = _exact_row(arms, pulls)
        rows["optimum"] = played(
            "Bayes optimum, played", lambda: bayes_optimal(arms, pulls)
        )
    rows |= read_runs(settings.runs, BanditData(arms, pulls))
    title = f"{arms} arms, {pulls} pulls: mean total reward over {tasks:,} tasks"
    papers = published.BANDIT_TOTALS.get((arms, pulls), {})
    return {title: beside(rows, papers)}


def _best_constant(means: jax.Array, pulls: int, key: jax.Array) -> float:
    """UCB1's constant of the largest mean total reward on these tasks."""

    def score(constant: float) -> float:
        strategy = bandits.ucb1(constant)
        return bandits.total_rewards(strategy, means, pulls, key).mean()

    return max(CONSTANTS, key=score)


def _exact_row(arms: int, pulls: int) -> Row:
    began = time.perf_counter()
    value = optimal_value(arms, pulls)
    seconds = time.perf_counter() - began
    return Row("Bayes optimum, exact", value, seconds=seconds)


def mdp_tables(settings: Mdp) -> dict[str, list[Row]]:
    """Tables of mean total rewards and of each kind of share, by their titles."""
    sizes = settings.states, settings.actions, settings.horizon, settings.episodes
    of_tasks, of_plays = jax.random.split(jax.random.key(settings.seed))
    tasks = mdps.sample_mdps(of_tasks, settings.tasks, *sizes[:2])
    rows, totals = _play_mdps(tasks, settings, of_plays)
    own = read_runs(settings.runs, MdpData(*sizes))

    def shares(discount: float) -> dict[str, Row]:
        optimal = mdps.optimal_returns(tasks, settings.horizon, discount)
        return _in_shares(rows, totals, settings.episodes * optimal)

    work = (
        f"{settings.states} states, {settings.actions} actions, {settings.episodes} "
        f"episodes of {settings.horizon} steps, {settings.tasks:,} tasks"
    )
    share, discount = f"{work}: share of value iteration", published.SHARE_DISCOUNT
    of_totals, of_shares = (
        papers.get(sizes, {}) for papers in (published.MDP_TOTALS, published.MDP_SHARES)
    )
    discounted = beside(shares(discount), of_shares)
    return {
        f"{work}: mean total reward": beside(rows | own, of_totals),
        share: beside(shares(1.0), {}),
        f"{share} discounted by {discount}": discounted,
    }


def _play_mdps(
    tasks: TabularMDP, settings: Mdp, key: jax.Array
) -> tuple[dict[str, Row], dict[str, np.ndarray]]:
    """The rows of total rewards, and the total reward of each task in each."""
    episodes, horizon = settings.episodes, settings.horizon
    rows: dict[str, Row] = {}
    totals: dict[str, np.ndarray] = {}
    for published_as, name, strategy in (
        ("random", "random", mdp_strategies.uniform),
        ("greedy", "greedy on posterior means", mdp_strategies.greedy()),
        ("PSRL, own prior", "PSRL, rewards' prior N(1, 1)", mdp_strategies.psrl()),
        ("PSRL", "PSRL, rewards' prior N(0, 1)", mdp_strategies.psrl(0.0)),
    ):

        def play(strategy=strategy, row=published_as) -> np.ndarray:
            rewards = mdp_strategies.play(strategy, tasks, episodes, horizon, key)
            totals[row] = np.asarray(rewards, float).sum(axis=(1, 2))
            return totals[row]

        rows[published_as] = measured(name, play)

    def best() -> np.ndarray:
        totals["optimum"] = episodes * mdps.optimal_returns(tasks, horizon)
        return totals["optimum"]

    return rows | {"optimum": measured("value iteration, known MDP", best)}, totals


def _in_shares(
    rows: Mapping[str, Row], totals: Mapping[str, np.ndarray], whole: np.ndarray
) -> dict[str, Row]:
    """The rows with shares of a whole in place of total rewards."""
    figures = {key: mdps.optimal_share(totals[key], whole) for key in rows}
    return {
        key: replace(row, value=figures[key][0], interval=figures[key][1])
        for key, row in rows.items()
    }
