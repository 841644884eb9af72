"""Playing: what is remembered, and what is not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import rl
from metajax.rl.policies import Outputs
from metajax.rl.rollout import play_side_by_side, play_trial

KEY = jax.random.key(0)
EPISODES, HORIZON = 3, 5
HEAD = rl.categorical(2)


def clock(*, done=jnp.equal, after=0.0):
    """A clock that rings at the time of the task, and what it shows `after` that."""

    def reset(task, key):
        return jnp.float32(0), jnp.zeros(1)

    def step(task, state, action, key):
        late = state >= task
        time = jnp.where(late, after, state + 1)
        reward = jnp.where(late, after, 10 + jax.random.uniform(key))
        return rl.Transition(time, time[None], reward, done(time, task))

    def sample(key):
        return 1 + jax.random.randint(key, (), 0, HORIZON).astype(jnp.float32)

    return rl.Environment(sample, reset, step, HORIZON, 2)


def counter():
    """A policy that remembers how many steps it has lived, and expects as much."""

    def apply(params, memory, seen):
        return Outputs(params, memory.astype(jnp.float32)), memory + 1

    def unroll(params, memory, seen, alive):
        raise AssertionError

    def start(params):
        return jnp.int32(0)

    return rl.Policy(lambda key: jnp.zeros(2), start, apply, unroll, HEAD)


def remembering():
    return rl.gru(1, HEAD, units=4)


def play(environment, policy, task, key=KEY):
    params = policy.init(KEY)
    return play_trial(environment, policy, params, task, key, EPISODES)


@pytest.mark.parametrize("length", [1, 3, HORIZON])
def test_what_is_carried_over_episodes(length):
    run = jax.jit(partial(play, clock(), counter()))
    carried, steps = jax.device_get(run(jnp.float32(length)))
    alive = np.arange(HORIZON) < np.full((EPISODES, 1), length)
    np.testing.assert_array_equal(steps.alive, alive)
    lived = EPISODES * length
    # The memory, the last action and the last reward go on over an episode's end.
    np.testing.assert_array_equal(steps.value[alive], np.arange(lived))
    np.testing.assert_array_equal(carried.memory, length * np.arange(1, EPISODES + 1))
    actions, rewards = steps.action[alive], steps.reward[alive]
    np.testing.assert_array_equal(steps.seen.action[alive], [-1, *actions[:-1]])
    np.testing.assert_array_equal(steps.seen.reward[alive], [0, *rewards[:-1]])
    first = np.arange(HORIZON) == 0
    begins = first & (np.arange(EPISODES)[:, None] > 0)
    np.testing.assert_array_equal(steps.seen.done[alive], begins[alive])
    # Each episode begins anew.
    times = np.broadcast_to(np.arange(HORIZON), alive.shape)
    np.testing.assert_array_equal(steps.seen.observation[..., 0][alive], times[alive])
    assert (rewards > 10).all() and not steps.reward[~alive].any()
    assert len(set(rewards.tolist())) == lived


def test_what_follows_the_end_changes_nothing():
    policy, task = remembering(), jnp.float32(2)
    run = jax.jit(lambda after: play(clock(after=after), policy, task))
    clean, *dirty = (run(jnp.float32(after)) for after in (0.0, 1e6, np.nan))
    for other in dirty:
        jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_done_may_be_a_plain_bool():
    environment = clock(done=lambda time, task: True)
    rl.check_environment(environment)
    _, steps = jax.jit(partial(play, environment, counter()))(jnp.float32(3))
    np.testing.assert_array_equal(steps.alive.sum(1), 1)


def test_trials_of_a_batch_never_leak():
    environment, policy = clock(), remembering()
    params = policy.init(KEY)

    @jax.jit
    @jax.vmap
    def run(trial):
        return play_trial(environment, policy, params, *trial, EPISODES)

    trials = rl.trials(environment)(KEY, 2)
    others = rl.trials(environment)(jax.random.key(1), 2)
    mixed = jax.tree.map(lambda x, y: jnp.stack([x[0], y[1]]), trials, others)
    one, two = run(trials), run(mixed)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert not np.array_equal(one[1].reward[1], two[1].reward[1])


def test_a_trial_knows_nothing_of_the_one_before():
    environment, policy = clock(), remembering()
    params = policy.init(KEY)
    task, key = jnp.float32(2), jax.random.key(7)
    run = jax.jit(partial(play_trial, environment, policy, episodes=2))
    first = run(params, task, key)
    run(params, jnp.float32(4), KEY)
    jax.tree.map(np.testing.assert_array_equal, first, run(params, task, key))
    assert not first[1].seen.reward[0, 0] and first[1].seen.action[0, 0] == -1


def test_episodes_side_by_side_know_nothing_of_one_another():
    run = partial(play_side_by_side, clock(), counter(), jnp.zeros(2))
    steps = jax.jit(run, static_argnums=2)(jnp.float32(3), KEY, EPISODES)
    np.testing.assert_array_equal(steps.value[:, 0], 0)
    np.testing.assert_array_equal(steps.seen.done, 0)
    assert len(set(steps.reward[:, 0].tolist())) == EPISODES


def test_log_probs_are_those_of_the_actions():
    policy = remembering()
    params = jax.tree.map(lambda x: x + 0.5, policy.init(KEY))

    @jax.jit
    def run(params):
        task = jnp.float32(3)
        _, steps = play_trial(clock(), policy, params, task, KEY, EPISODES)
        trial = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), steps)
        outputs = policy.unroll(params, policy.start(params), trial.seen, trial.alive)
        logs = jax.vmap(HEAD.log_prob)(outputs.action, trial.action)
        return trial, logs, outputs.value

    trial, logs, value = jax.device_get(run(params))
    alive = trial.alive
    np.testing.assert_allclose(trial.log_prob[alive], logs[alive], rtol=1e-5)
    np.testing.assert_allclose(trial.value[alive], value[alive], rtol=1e-5)
