"""RL²: its loss by hand, the episodes of a trial, and symmetries."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax import rl
from metajax.learners.rl2 import ActorCritic
from metajax.rl.policies import Seen
from metajax.rl.rollout import play_trial

KEY = jax.random.key(0)
EPISODES, ARMS = 6, 3
BANDIT = rl.bernoulli_bandit(ARMS)
MDP = rl.tabular_mdp(states=3, actions=ARMS, horizon=4)
HEAD = rl.categorical(ARMS)
ORDER = np.array([2, 0, 1])  # the new place of each arm is where ORDER has it
PLACE = np.argsort(ORDER)


def policies(environment):
    size = environment.observation_size
    attend = partial(rl.transformer_policy, width=4, depth=1, heads=2)
    snail = partial(rl.snail_policy, filters=2, attention=[(4, 2), (4, 2)])
    return {
        "gru": rl.gru(size, HEAD, units=4),
        "transformer": attend(size, HEAD, length=4),
        "snail": snail(size, HEAD, length=30),
    }


NAMES = list(policies(BANDIT))
TRAINING = ActorCritic(
    objective=rl.lvc,
    discount=0.9,
    decay=0.8,
    value_weight=0.3,
    entropy_weight=0.2,
    reward_scale=0.5,
)


def drawn(policy):
    """Parameters of which none is zero."""
    draw = np.random.default_rng(0).normal
    shapes = jax.eval_shape(policy.init, KEY)
    return jax.tree.map(lambda x: jnp.array(draw(size=x.shape), x.dtype), shapes)


def close(ours, theirs, rtol=2e-4):
    compare = partial(np.testing.assert_allclose, rtol=rtol, atol=1e-5)
    jax.tree.map(compare, ours, theirs)


def one_trial(environment):
    return jax.tree.map(lambda x: x[0], rl.trials(environment)(KEY, 1))


@cache
def played_by(name):
    """A learner on `MDP`, its parameters, a trial it played, and its loss's slopes."""
    learner = mj.rl2(MDP, policies(MDP)[name], 2, TRAINING)
    params = drawn(policies(MDP)[name])
    played = jax.jit(learner.collect)(params, one_trial(MDP))
    return (
        learner,
        params,
        played,
        jax.jit(jax.value_and_grad(learner.loss, has_aux=True)),
    )


def permuted(params, rows, columns):
    """Weights whose inputs and outputs are put in another order."""
    out = jax.tree.map(lambda x: x[..., columns], params["action"])
    if "inputs" in params:
        return params | {"inputs": params["inputs"][rows], "action": out}
    network = params["network"]
    embedding = network["embedding"]
    embedding = embedding | {"kernel": embedding["kernel"][rows]}
    network = network | {"embedding": embedding}
    return params | {"network": network, "action": out}


def greedy(policy):
    """A policy that takes the action that it thinks best."""
    head = policy.head._replace(
        act=lambda logits, noise: jnp.argmax(logits).astype(jnp.int32)
    )
    return policy._replace(head=head)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_permuting_arms_changes_nothing(name):
    policy = greedy(policies(BANDIT)[name])
    params, trial = drawn(policy), one_trial(BANDIT)
    rows = np.concatenate([ORDER, [ARMS, ARMS + 1]])
    other = permuted(params, rows, ORDER)

    @jax.jit
    def run(params, task):
        return play_trial(BANDIT, policy, params, task, trial.key, 4 * EPISODES)[1]

    ours, theirs = run(params, trial.task), run(other, trial.task[ORDER])
    assert len(set(ours.action.ravel().tolist())) > 1
    np.testing.assert_array_equal(theirs.action, PLACE[ours.action])
    np.testing.assert_array_equal(theirs.reward, ours.reward)
    close((theirs.log_prob, theirs.value), (ours.log_prob, ours.value))


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_permuting_states_and_actions_changes_nothing_of_the_gradient(name):
    _, params, played, slopes = played_by(name)
    seen, states = played.steps.seen, np.array([1, 2, 0])
    last = jnp.where(seen.action < 0, -1, PLACE[seen.action])
    moved = Seen(seen.observation[:, states], last, seen.reward, seen.done)
    steps = played.steps._replace(
        seen=moved, action=jnp.array(PLACE)[played.steps.action]
    )
    rows = np.concatenate([states, 3 + ORDER, [6, 7]])
    _, ours = slopes(params, played)
    _, theirs = slopes(permuted(params, rows, ORDER), played._replace(steps=steps))
    close(theirs, permuted(ours, rows, ORDER))


@pytest.mark.parametrize(
    "environment, name", [(BANDIT, "gru"), *((MDP, name) for name in NAMES)]
)
def test_predict_plays_the_episode_that_follows(environment, name):
    policy = policies(environment)[name]
    learner = mj.rl2(environment, policy, EPISODES)
    params, trial = drawn(policy), one_trial(environment)

    @jax.jit
    def run(params):
        path = learner.trajectory(params, trial.support)
        each = jax.vmap(learner.predict, (0, None))(path, trial)
        last = learner.predict(learner.adapt(params, trial.support), trial)
        whole = play_trial(environment, policy, params, *trial, EPISODES)[1]
        return each, last, whole

    each, last, whole = run(params)
    close(jax.tree.map(lambda x: x[:, 0], each), whole)
    close(last, jax.tree.map(lambda x: x[-1:], whole))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_by_hand(name):
    policy, (_, params, played, slopes) = policies(MDP)[name], played_by(name)
    (total, metrics), _ = slopes(params, played)
    steps = jax.device_get(played.steps)
    after, advantage, gained = 0.0, 0.0, []
    for reward, value in reversed(list(zip(steps.reward, steps.value))):
        advantage = 0.5 * reward + 0.9 * after - value + 0.9 * 0.8 * advantage
        gained.insert(0, advantage)
        after = value
    np.testing.assert_allclose(played.advantages, gained, rtol=1e-4, atol=1e-5)
    memory, entropies, apply = policy.start(params), [], jax.jit(policy.apply)
    for i in range(len(gained)):
        seen = jax.tree.map(lambda x, i=i: x[i], steps.seen)
        outputs, memory = apply(params, memory, seen)
        p = np.array(jax.nn.softmax(outputs.action))
        entropies.append(-np.sum(p * np.log(p)))
        chosen = np.log(p[steps.action[i]])
        np.testing.assert_allclose(steps.log_prob[i], chosen, rtol=1e-4, atol=1e-5)
    theirs = -np.mean(gained) + 0.3 / 2 * np.mean(np.square(gained))
    theirs -= 0.2 * np.mean(entropies)
    np.testing.assert_allclose(total, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["total_return"], steps.reward.sum(), rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], np.mean(entropies), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_trial_is_that_of_playing_it(name):
    learner, params, played, slopes = played_by(name)
    ours = jax.jit(learner.loss)(params, one_trial(MDP))
    close(ours, slopes(params, played)[0])


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_what_follows_an_episodes_end_has_no_gradient(name):
    _, params, played, slopes = played_by(name)
    alive = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    steps = played.steps._replace(
        alive=jnp.array(alive), reward=jnp.where(alive, played.steps.reward, 0)
    )

    def scrambled(x):
        living = alive.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(living, x, jnp.ones_like(x))

    held = played._replace(
        steps=steps, advantages=jnp.where(alive, played.advantages, 0)
    )
    other = jax.tree.map(scrambled, held)
    other = other._replace(
        steps=other.steps._replace(alive=steps.alive, reward=steps.reward),
        advantages=held.advantages,
    )
    close(slopes(params, other), slopes(params, held), rtol=1e-5)


def test_trials_of_a_batch_have_gradients_of_their_own():
    learner = mj.rl2(BANDIT, policies(BANDIT)["gru"], EPISODES)
    params = drawn(policies(BANDIT)["gru"])
    gradient = jax.jit(
        jax.vmap(jax.grad(learner.loss, has_aux=True), in_axes=(None, 0))
    )
    trials, others = (rl.trials(BANDIT)(jax.random.key(i), 2) for i in (0, 1))
    mixed = jax.tree.map(lambda x, y: jnp.stack([x[0], y[1]]), trials, others)
    one, two = gradient(params, trials), gradient(params, mixed)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize(
    "make, said",
    [
        (
            lambda: mj.rl2(BANDIT, policies(BANDIT)["gru"], 0),
            "episodes must be a whole number of at least 1, got 0",
        ),
        (
            lambda: mj.rl2(rl.bernoulli_bandit(5), policies(BANDIT)["gru"], 1),
            "the environment takes one of 5 actions, and the policy gives one of 3 "
            "actions; build its head for these",
        ),
        (
            lambda: mj.rl2(rl.navigation(), policies(BANDIT)["gru"], 1),
            "the environment takes actions of shape (2,), and the policy gives one of "
            "3 actions; build its head for these",
        ),
    ],
)
def test_errors(make, said):
    with pytest.raises(mj.InputError) as raised:
        make()
    assert str(raised.value) == said
