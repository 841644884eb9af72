"""Value iteration is the best of all policies; PSRL is that of its posterior."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from benchmarks.rl import mdp_strategies, mdps
from metajax.rl import TabularMDP

KEY = jax.random.key(0)


def policy_value(mdp, policy, discount):
    transitions, rewards = (np.asarray(x) for x in mdp)
    values = np.zeros(len(rewards))
    for actions in reversed(policy):
        values = np.array(
            [
                rewards[s, a] + discount * transitions[s, a] @ values
                for s, a in enumerate(actions)
            ]
        )
    return values


def one(mdp):
    return jax.tree.map(lambda x: x[0], mdp)


def repeated(mdp, tasks):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (tasks, *x.shape)), mdp)


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_no_policy_is_better(float64, discount):
    mdp, horizon = one(mdps.sample_mdps(KEY, 1, 2, 2)), 3
    actions = list(itertools.product(range(2), repeat=2))
    policies = itertools.product(actions, repeat=horizon)
    values = np.array([policy_value(mdp, p, discount) for p in policies])
    plan = mdps.value_iteration(*mdp, horizon, discount)
    np.testing.assert_allclose(plan.values[0], values.max(axis=0), rtol=1e-12)
    own = policy_value(mdp, np.asarray(plan.policy), discount)
    np.testing.assert_allclose(own, plan.values[0], rtol=1e-12)


def test_tasks_are_drawn_from_their_distributions():
    transitions, rewards = mdps.sample_mdps(KEY, 500)
    assert transitions.shape == (500, 10, 5, 10) and rewards.shape == (500, 10, 5)
    np.testing.assert_allclose(transitions.sum(-1), 1.0, rtol=1e-5)
    # A share of Dirichlet(1, ..., 1) over n states has the variance (n - 1)/n²(n + 1).
    assert float(transitions.var()) == pytest.approx(9 / 1100, rel=0.03)
    assert float(rewards.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(rewards.std()) == pytest.approx(1.0, abs=0.03)


def test_a_posterior_is_sampled_as_it_is():
    visits = jnp.array([[[2.0, 1.0]], [[0.0, 0.0]]])  # 2 states, 1 action
    posterior = mdp_strategies.Posterior(visits, jnp.array([[8.0], [0.0]]))
    mean = posterior.mean(1.0)
    np.testing.assert_allclose(mean.transitions, [[[0.6, 0.4]], [[0.5, 0.5]]])
    np.testing.assert_allclose(mean.rewards, [[9 / 4], [1.0]])
    np.testing.assert_allclose(posterior.mean(0.0).rewards, [[8 / 4], [0.0]])
    draw = jax.vmap(lambda key: posterior.sample(1.0, key))
    draws = draw(jax.random.split(KEY, 20_000))
    for some, middle in zip(draws, mean):
        np.testing.assert_allclose(some.mean(axis=0), middle, atol=0.03)
    np.testing.assert_allclose(draws.rewards.var(axis=0), [[1 / 4], [1.0]], rtol=0.05)
    shares = draws.transitions.var(axis=0)[:, 0, 0]  # ab/(a + b)²(a + b + 1)
    np.testing.assert_allclose(shares, [6 / 150, 1 / 12], rtol=0.05)


def test_the_best_policy_earns_the_optimum():
    mdp, horizon = one(mdps.sample_mdps(jax.random.key(2), 1, 3, 2)), 4
    plan = mdps.value_iteration(*mdp, horizon)
    best = Partial(lambda policy, posterior, horizon, key: policy, plan.policy)
    rewards = mdp_strategies.play(best, repeated(mdp, 2_000), 3, horizon, KEY)
    returns = np.asarray(rewards).sum(axis=-1)
    errors = returns.std(axis=0) / np.sqrt(2_000)
    assert (np.abs(returns.mean(axis=0) - float(plan.values[0, 0])) < 4 * errors).all()
    assert mdps.optimal_returns(repeated(mdp, 2), horizon) == pytest.approx(
        2 * [float(plan.values[0, 0])]
    )


@pytest.mark.parametrize("strategy", [mdp_strategies.psrl(), mdp_strategies.greedy()])
def test_what_was_seen_is_used_from_the_next_episode_on(strategy):
    """Rewards a hundred standard deviations apart leave nothing to chance."""
    transitions = jnp.ones((1, 2, 1))
    good, bad = jnp.array([[-99.0, 99.0]]), jnp.array([[99.0, -99.0]])
    tasks = TabularMDP(repeated(transitions, 2), jnp.stack([good, bad]))
    rewards = np.asarray(mdp_strategies.play(strategy, tasks, 4, 2, KEY))
    assert (rewards[:, 1:] > 90).all()
    assert (np.abs(rewards[:, 0, 0] - rewards[:, 0, 1]) < 20).all()  # one policy


@pytest.mark.parametrize(
    "strategy, published, share",
    [
        (mdp_strategies.uniform, 100.1, 0.460),
        (mdp_strategies.psrl(0.0), 138.1, 0.632),
    ],
)
def test_totals_of_10_episodes(strategy, published, share):
    """The published PSRL fits a prior mean of 0; the shares are of 1,000 tasks."""
    count = 80
    tasks = mdps.sample_mdps(jax.random.key(1), count)
    totals = np.asarray(mdp_strategies.play(strategy, tasks, 10, 10, KEY), float)
    totals = totals.sum(axis=(1, 2))
    error = totals.std() * np.sqrt(1 / count + 1 / 1_000)
    assert abs(totals.mean() - published) < 3 * error
    value, interval = mdps.optimal_share(totals, 10 * mdps.optimal_returns(tasks, 10))
    assert abs(value - share) < 2 * interval < 0.1


def test_a_share_is_a_ratio_of_means():
    totals, optimal = np.array([1.0, 4.0, 1.0]), np.array([4.0, 4.0, 2.0])
    share, interval = mdps.optimal_share(totals, optimal)
    left_out = np.array([5 / 6, 2 / 6, 5 / 8])
    error = np.sqrt(2 / 3 * np.sum((left_out - left_out.mean()) ** 2))
    assert share == pytest.approx(0.6)
    assert interval == pytest.approx(1.959964 * error)
