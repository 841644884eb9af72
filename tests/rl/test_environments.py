"""Every environment: what all of them must do, and navigation by hand."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax import rl
from metajax.rl.environment import random_action

KEY = jax.random.key(0)
ENVIRONMENTS = {
    "bandit": rl.bernoulli_bandit(3),
    "mdp": rl.tabular_mdp(states=3, actions=2, horizon=4),
    "navigation": rl.navigation(horizon=4),
    "navigation of the port": rl.navigation(horizon=4, scale=1.0),
    "maze": rl.maze(size=5, horizon=4),
}


def forms(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def play(environment, key):
    """All that an episode of random actions gives."""
    keys = jax.random.split(key, 3)
    task = environment.sample(keys[0])
    first = environment.reset(task, keys[1])

    def step(state, key):
        acted, moved = jax.random.split(key)
        action = random_action(environment, acted)
        moved = environment.step(task, state, action, moved)
        return moved.state, moved

    steps = jax.random.split(keys[2], environment.horizon)
    return task, first, jax.lax.scan(step, first[0], steps)[1]


@cache
def episode_of(name):
    return jax.jit(partial(play, ENVIRONMENTS[name]))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_step_gives_what_a_reset_gives(name):
    environment = ENVIRONMENTS[name]
    _, (state, observation), moved = jax.eval_shape(partial(play, environment), KEY)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), moved)
    assert forms(one.state) == forms(state)
    assert forms(one.observation) == forms(observation)
    assert forms(one.reward) == ((), jnp.float32)
    assert forms(one.done) == ((), jnp.bool_)
    assert observation.dtype == jnp.float32
    assert environment.observation_size == observation.size
    rl.check_environment(environment)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_key_gives_the_same_and_another_does_not(name):
    run = episode_of(name)
    first, second, other = run(KEY), run(KEY), run(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    tasks = (jax.tree.leaves(x[0]) for x in (first, other))
    assert not all(np.array_equal(a, b) for a, b in zip(*tasks))
    assert np.isfinite(first[2].reward).all()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_vmap_gives_what_each_gives(name):
    one, keys = episode_of(name), jax.random.split(KEY, 3)
    many = jax.device_get(jax.jit(jax.vmap(one))(keys))
    for i in range(3):
        own = jax.tree.map(lambda x: x[i], many)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), own, one(keys[i])
        )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_action_is_of_the_type_of_an_action(name):
    environment = ENVIRONMENTS[name]
    action = random_action(environment, KEY)
    assert forms(environment.no_action) == forms(action)


def line(**changes):
    """A walk along a line, of which one function is replaced."""
    start = jnp.zeros(2)

    def step(task, state, action, key):
        moved = state + 1
        given = rl.Transition(moved, moved, jnp.float32(0), jnp.array(False))
        return given._replace(**{name: make() for name, make in changes.items()})

    def reset(task, key):
        return start, start

    return rl.Environment(lambda key: (), reset, step, 3, 2)


HOSTILE = {
    "horizon must be a whole number of at least 1, got 0": line()._replace(horizon=0),
    "the observation of step must be like reset's, float32[2], got float32[3]": line(
        observation=lambda: jnp.zeros(3)
    ),
    "the state of step must be like reset's, float32[2], got int32[2]": line(
        state=lambda: jnp.zeros(2, jnp.int32)
    ),
    "the state of step must be like reset's, float32[2], got float32[2], float32[]": (
        line(state=lambda: (jnp.zeros(2), jnp.zeros(())))
    ),
    "reward must be a float of shape (), got float32[1]": line(
        reward=lambda: jnp.zeros(1)
    ),
    "reward must be a float of shape (), got int32[]": line(
        reward=lambda: jnp.int32(1)
    ),
    "done must be a bool of shape (), got float32[]": line(done=lambda: jnp.float32(0)),
    "rewards must be finite numbers, got nan at step 0 of an episode of random "
    "actions": line(reward=lambda: jnp.float32(np.nan)),
    "step must return a metajax.rl.Transition, got tuple": line()._replace(
        step=lambda *args: tuple(line().step(*args))
    ),
}


@pytest.mark.parametrize("said", HOSTILE)
def test_bad_environments_are_refused_in_one_line(said):
    for check in (rl.check_environment, rl.trials):
        with pytest.raises(mj.InputError) as raised:
            check(HOSTILE[said])
        assert str(raised.value) == said


def test_rewards_that_are_not_finite_later_are_refused():
    def step(task, state, action, key):
        reward = jnp.where(state[0] > 1, jnp.inf, 0.0)
        return rl.Transition(state + 1, state, reward, jnp.array(False))

    with pytest.raises(mj.InputError, match="got inf at step 2 of an episode"):
        rl.check_environment(line()._replace(step=step))


def test_trials_hold_tasks_and_keys():
    sampler = rl.trials(ENVIRONMENTS["mdp"])
    trials = jax.jit(lambda key: sampler(key, 4))(KEY)
    assert trials.task.rewards.shape == (4, 3, 2) and trials.key.shape == (4,)
    assert len({tuple(row) for row in jax.random.key_data(trials.key).tolist()}) == 4
    assert len(set(trials.task.rewards[:, 0, 0].tolist())) == 4


GOAL = np.array([0.3, -0.4], np.float32)


@pytest.mark.parametrize(
    "scale, actions, positions",
    [
        (0.1, [(1, 0), (0.5, -2), (9, -1)], [(0.1, 0), (0.15, -0.1), (0.25, -0.2)]),
        (1.0, [(1, 0), (0.05, -2), (9, -0.1)], [(0.1, 0), (0.15, -0.1), (0.25, -0.2)]),
    ],
)
def test_navigation_by_hand(scale, actions, positions):
    environment = rl.navigation(scale=scale)
    state, seen = environment.reset(jnp.array(GOAL), KEY)
    assert state.tolist() == seen.tolist() == [0, 0]
    for action, position in zip(actions, positions):
        moved = environment.step(jnp.array(GOAL), state, jnp.array(action, "f4"), KEY)
        np.testing.assert_allclose(moved.observation, position, rtol=1e-6)
        reward = -np.hypot(*(np.array(position) - GOAL))
        np.testing.assert_allclose(moved.reward, reward, rtol=1e-6)
        assert not moved.done
        state = moved.state


@pytest.mark.parametrize(
    "away, done",
    [
        ((0.0, 0.0), True),
        ((0.0099, -0.0099), True),
        ((0.0101, 0.0), False),
        ((0.0, -0.0101), False),
    ],
)
def test_navigation_ends_at_the_goal(away, done):
    goal = jnp.array(GOAL)
    place = goal + jnp.array(away, "f4")
    moved = rl.navigation().step(goal, place, jnp.zeros(2), KEY)
    assert bool(moved.done) is done


def test_navigation_goals_are_uniform():
    goals = jax.vmap(rl.navigation().sample)(jax.random.split(KEY, 2000))
    assert goals.min() >= -0.5 and goals.max() <= 0.5
    np.testing.assert_allclose(jnp.std(goals, 0), 1 / np.sqrt(12), rtol=0.05)


def test_bandits_pay_as_often_as_their_arm():
    chances = jnp.array([0.0, 0.3, 1.0])
    pull = jax.jit(jax.vmap(rl.bernoulli_bandit(3).step, (None, None, 0, 0)))
    arms = jnp.tile(jnp.arange(3), 3000)
    moved = pull(chances, (), arms, jax.random.split(KEY, len(arms)))
    paid = moved.reward.reshape(3000, 3).mean(0)
    assert paid[0] == 0 and paid[2] == 1 and abs(paid[1] - 0.3) < 0.03
    assert moved.done.all()


def test_mdps_move_and_pay_as_their_tables_say():
    environment = rl.tabular_mdp(states=3, actions=2)
    task = jax.jit(environment.sample)(KEY)
    step = jax.jit(jax.vmap(environment.step, (None, None, None, 0)))
    keys = jax.random.split(KEY, 4000)
    moved = step(task, jnp.int32(2), jnp.int32(1), keys)
    task, moved = jax.device_get((task, moved))
    shares = moved.observation.mean(0)
    np.testing.assert_allclose(shares, task.transitions[2, 1], atol=0.03)
    assert (moved.observation.argmax(1) == moved.state).all()
    np.testing.assert_allclose(moved.reward.mean(), task.rewards[2, 1], atol=0.06)
    np.testing.assert_allclose(moved.reward.std(), 1, atol=0.04)
    np.testing.assert_allclose(task.transitions.sum(-1), 1, rtol=1e-5)
