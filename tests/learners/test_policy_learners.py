"""One table of learners of policies; every property runs over it."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import rl
from metajax.metrics import average_return, total_return
from metajax.training import cutting
from metajax.training.checkpoints import Checkpoints
from tests.helpers import KEY, compilations, gradient, lenient, relative

ADAM = lenient(optax.adam(1e-2))


def brief(states=3, actions=2, horizon=4):
    """MDPs whose episodes end in their last state, at once or never."""
    whole = rl.tabular_mdp(states, actions, horizon)

    def step(*args):
        moved = whole.step(*args)
        return moved._replace(done=moved.state == states - 1)

    return whole._replace(step=step)


BANDIT, BRIEF, POINT = rl.bernoulli_bandit(3), brief(), rl.navigation(horizon=3)


def remembering(environment, dtype):
    policy = rl.gru(environment.observation_size, rl.head_for(environment), units=4)
    return policy if dtype == jnp.float32 else cast(policy, dtype)


def cast(policy, dtype):
    def init(key):
        return jax.tree.map(lambda x: x.astype(dtype), policy.init(key))

    return policy._replace(init=init)


def acting(environment, dtype, value=False):
    """A policy without memory."""
    head, size = rl.head_for(environment), environment.observation_size
    values = mj.mlp(size, (3,), 1, dtype=dtype) if value else None
    body = mj.mlp(size, (4,), head.inputs, dtype=dtype, activation=jnp.tanh)
    return cast(rl.feedforward(body, head, values), dtype)


def rl2(environment, steps, dtype):
    """Whose episodes but the last are its steps."""
    training = mj.learners.ActorCritic(entropy_weight=0.01)
    policy = remembering(environment, dtype)
    return mj.rl2(environment, policy, 1 + steps, training)


def maml(environment, steps, dtype, value=False, rule=optax.sgd, **settings):
    policy = acting(environment, dtype, value)
    sampling = rl.sampling(environment, policy, trajectories=3)
    return mj.maml_rl(sampling, rule(0.1), steps, **settings)


class Row(NamedTuple):
    """`build(environment, steps, dtype)`, and how it is trained and judged."""

    build: Callable[..., mj.Learner]
    environment: rl.Environment
    steps: int = 2
    make_step: Any = mj.train_step
    metric: mj.Metric = average_return


LEARNERS = {
    "rl2": Row(rl2, BANDIT, metric=total_return),
    "rl2-brief": Row(rl2, BRIEF, 1, mj.repeated_step(2, 2), total_return),
    "maml": Row(maml, POINT),
    "maml-clipped": Row(
        partial(
            maml,
            value=True,
            value_weight=0.5,
            outer=rl.clipped(),
            rule=partial(optax.sgd, momentum=0.9),
        ),
        BRIEF,
        make_step=mj.repeated_step(2),
    ),
    "maml-presampling": Row(partial(maml, presampling=True), BRIEF),
    "maml-no-steps": Row(partial(maml, inner=rl.dice), BRIEF, 0),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)


@cache
def learner_of(name, dtype=jnp.float32):
    build, environment, steps, *_ = LEARNERS[name]
    return build(environment, steps, dtype)


def trials_of(name, tasks, key=KEY):
    return rl.trials(LEARNERS[name].environment)(key, tasks)


def judge(learner, adapted, trial):
    return learner.predict(adapted, trial), None


def entry(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def equal(a, b):
    leaves = jax.tree.leaves(a), jax.tree.leaves(b)
    return all(map(np.array_equal, *leaves)) and len(leaves[0]) == len(leaves[1])


def numbers(tree):
    """As float32, with a one, so that no norm is zero."""
    return [jnp.ones(1)] + [jnp.asarray(x, jnp.float32) for x in jax.tree.leaves(tree)]


class Acted(NamedTuple):
    """What a learner does with a trial."""

    path: Any
    steps: rl.Steps
    loss: Any


def act(learner, meta, trial):
    path = learner.trajectory(meta, trial.support)
    steps = jax.lax.map(lambda agent: learner.predict(agent, trial), path)
    slopes = jax.value_and_grad(learner.loss, has_aux=True)(meta, trial)
    return Acted(path, steps, slopes)


@cache
def program(name):
    """Of two trials at once."""
    return jax.jit(jax.vmap(partial(act, learner_of(name)), (None, 0)))


def acted(name, first=0, second=1):
    """What it does with two trials of three."""
    pair = entry(trials_of(name, 3), np.array([first, second]))
    return program(name)(learner_of(name).init(KEY), pair)


@every_learner
def test_vmap_changes_nothing_and_a_trajectory_ends_in_adapt(name):
    learner = learner_of(name)
    meta, batch = learner.init(KEY), trials_of(name, 3)

    @jax.jit
    def alone(trial):
        return learner.adapt(meta, trial.support), act(learner, meta, trial)

    for i in range(2):
        ours, (adapted, theirs) = entry(acted(name), i), alone(entry(batch, i))
        for part, same in zip(ours, theirs, strict=True):
            assert relative(numbers(part), numbers(same)) < 1e-5
        assert relative(numbers(entry(theirs.path, -1)), numbers(adapted)) < 1e-6


@every_learner
def test_a_trajectory_has_every_step(name):
    _, environment, count, *_ = LEARNERS[name]
    path, steps, (_, slopes) = entry(acted(name), 0)
    assert path.step.tolist() == list(range(count + 1))
    shape = steps.reward.shape
    assert (shape[0], shape[-1]) == (count + 1, environment.horizon)
    assert jax.tree.structure(slopes) == jax.tree.structure(path.params)


@every_learner
def test_nothing_counts_after_the_end_of_an_episode(name):
    steps = acted(name).steps
    alive, reward = np.asarray(steps.alive), np.asarray(steps.reward)
    assert alive[..., 0].all() and not reward[~alive].any()
    assert (np.diff(alive.astype(int), axis=-1) <= 0).all()
    if LEARNERS[name].environment is BRIEF:
        assert 0.2 < alive.mean() < 0.95, "episodes end early"


@every_learner
def test_trials_of_a_batch_do_not_leak(name):
    one, other = acted(name, 0, 1), acted(name, 0, 2)
    assert equal(entry(one, 0), entry(other, 0))
    assert not equal(entry(one, 1), entry(other, 1))


@every_learner
def test_what_is_collected_gives_the_loss_of_the_trial(name):
    learner = learner_of(name)
    slopes = jax.value_and_grad(learner.loss, has_aux=True)

    @jax.jit
    def held(meta, trial):
        return slopes(meta, jax.lax.optimization_barrier(learner.collect(meta, trial)))

    own = entry(acted(name).loss, 0)
    ours = held(learner.init(KEY), entry(trials_of(name, 3), 0))
    assert relative(numbers(ours), numbers(own)) < 1e-5


def trained(name, steps=4, sampler=None, **settings):
    row, sampler = LEARNERS[name], sampler or sampler_of(name)
    settings = {"tasks": 4, "steps_per_call": 2, "devices": 1} | settings
    return mj.fit(
        learner_of(name),
        ADAM,
        sampler,
        steps=steps,
        make_step=row.make_step,
        **settings,
    )


@cache
def sampler_of(name):
    return rl.trials(LEARNERS[name].environment)


@every_learner
def test_fit_resumes_bit_for_bit_and_compiles_once(name, tmp_path):
    whole = trained(name)
    with compilations() as programs:
        trained(name, 3, seed=1)
    assert not programs
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    trained(name, 3, checkpoints=checkpoints)
    resumed = trained(name, checkpoints=checkpoints)
    assert equal(resumed, whole) and int(resumed.step) == 4


@every_learner
def test_devices_and_chunks_change_nothing(name, monkeypatch):
    monkeypatch.setattr(cutting, "WORTH_BYTES", 1)  # work enough for two devices
    row, learner = LEARNERS[name], learner_of(name)
    state, batch = mj.init_state(learner, optax.sgd(0.1), KEY), trials_of(name, 4)

    def stepped(**settings):
        step = row.make_step(learner, optax.sgd(0.1), **settings)
        return jax.jit(step)(state, batch)

    whole, metrics = stepped(tasks_per_chunk=None)
    for settings in (dict(tasks_per_chunk=1), dict(devices=2)):
        ours, values = stepped(**settings)
        assert relative(ours.meta, whole.meta) < 1e-5, settings
        assert relative(values, metrics) < 1e-4, settings
    assert len(jax.tree.leaves(ours.meta)[0].devices()) == 2


@every_learner
def test_evaluation_is_a_loop_over_trials(name):
    row, learner = LEARNERS[name], learner_of(name)
    meta, sampler = learner.init(KEY), sampler_of(name)
    settings = dict(tasks=4, seed=3, tasks_per_call=2, judge=judge)
    score = mj.evaluate(learner, meta, sampler, row.metric, **settings).transductive
    assert score.mean.shape == score.interval.shape == (row.steps + 1,)

    keys = [jax.random.fold_in(jax.random.key(3), i) for i in range(4)]
    each = [sampler(key, 1) for key in keys]
    pairs = [jax.tree.map(lambda *x: jnp.concatenate(x), *each[k:][:2]) for k in (0, 2)]
    rewards = [program(name)(meta, pair).steps.reward for pair in pairs]
    records = np.concatenate(rewards).sum(-1).mean(-1)
    value, interval = row.metric.finish(records)
    np.testing.assert_allclose(score.mean, value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score.interval, interval, rtol=1e-4, atol=1e-5)


@every_learner
def test_float64_stays_float64(name, float64):
    row = LEARNERS[name]
    learner = row.build(row.environment, row.steps, jnp.float64)
    meta, trial = learner.init(KEY), entry(trials_of(name, 1), 0)
    path, steps, slopes = jax.eval_shape(partial(act, learner), meta, trial)
    leaves = jax.tree.leaves((meta, path.params, slopes, steps.reward))
    assert {x.dtype for x in leaves} == {jnp.dtype(jnp.float64)}


def test_presampling_of_no_steps_is_the_plain_policy_gradient():
    returns = rl.advantages(rl.no_baseline)  # what presampling takes in any case
    sampling = rl.sampling(
        BRIEF,
        acting(BRIEF, jnp.float32),
        trajectories=3,
        discount=1.0,
        advantages=returns,
    )
    ours, plain = (
        mj.maml_rl(sampling, optax.sgd(0.1), 0, presampling=x) for x in (True, False)
    )
    meta, trial = ours.init(KEY), entry(rl.trials(BRIEF)(KEY, 1), 0)
    assert relative(gradient(ours)(meta, trial), gradient(plain)(meta, trial)) < 1e-6


def test_bad_numbers():
    policy = remembering(BANDIT, jnp.float32)
    with pytest.raises(mj.InputError, match="episodes must be"):
        mj.rl2(BANDIT, policy, 0)
    with pytest.raises(mj.InputError, match="takes one of 2 actions, and the policy"):
        mj.rl2(BRIEF, policy, 2)
    with pytest.raises(mj.InputError, match="steps must be"):
        maml(POINT, -1, jnp.float32)
    with pytest.raises(mj.InputError, match="trajectories must be"):
        rl.sampling(POINT, acting(POINT, jnp.float32), trajectories=0)
