"""Tasks that are no episodes, by a function that judges them."""

import dataclasses
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.types import Learner, Padded
from tests.helpers import KEY

ARMS, PULLS = 5, 40


class Bandit(NamedTuple):
    """The chance of a reward at each arm, and the randomness of what happens."""

    rewards: jax.Array
    key: jax.Array


class Trial(NamedTuple):
    """Pull the arms of a bandit, then be paid by it."""

    support: Bandit
    query: Bandit


def trials(key, tasks):
    keys = jax.random.split(key, 3)
    rewards = jax.random.uniform(keys[0], (tasks, ARMS))
    drawn = [jax.random.split(k, tasks) for k in keys[1:]]
    return Trial(*(Bandit(rewards, k) for k in drawn))


def trajectory(meta, bandit):
    """The mean reward of each arm, none yet or after some pulls of all arms."""
    pulled = jax.random.bernoulli(bandit.key, bandit.rewards[None], (PULLS, ARMS))
    return jnp.stack([meta, jnp.mean(pulled, axis=0, dtype=jnp.float32)])


GREEDY = Learner(
    init=lambda key: jnp.zeros(ARMS),
    adapt=lambda meta, bandit: trajectory(meta, bandit)[-1],
    predict=lambda values, inputs: jnp.argmax(values),
    loss=lambda meta, trial: (jnp.zeros(()), {}),
    trajectory=trajectory,
)


def paid(learner, values, trial):
    """The expected reward of the arm that it pulls, and that of the best arm."""
    rewards = trial.query.rewards
    return rewards[learner.predict(values, ())], jnp.max(rewards)


RETURN = mj.mean_of(lambda mine, best: mine, "return", better=operator.gt)
REGRET = mj.mean_of(lambda mine, best: best - mine, "regret")


def test_a_trial_is_evaluated_by_what_it_pays():
    found = mj.evaluate(GREEDY, GREEDY.init(KEY), trials, RETURN, judge=paid, tasks=30)
    expected = []
    for i in range(30):
        key = jax.random.fold_in(jax.random.key(0), i)
        trial = jax.tree.map(lambda x: x[0], trials(key, 1))
        values = trajectory(jnp.zeros(ARMS), trial.support)
        expected.append([trial.query.rewards[jnp.argmax(v)] for v in values])
    expected = np.array(expected, float)
    np.testing.assert_allclose(found.transductive.mean, expected.mean(0), rtol=1e-6)
    assert found.transductive.mean[1] > found.transductive.mean[0] + 0.2
    assert found.protocol["steps"] == 1 and "query_examples" not in found.protocol
    assert np.isnan(found.inductive.mean).all()
    text = mj.report(found)
    assert "inductive " not in text.splitlines()[0] and "metric return, tasks" in text


def test_it_goes_on_from_what_is_kept(tmp_path):
    asked = dict(judge=paid, tasks=6, tasks_per_call=2, unfinished=tmp_path / "x.npz")
    meta = GREEDY.init(KEY)
    found = mj.evaluate(GREEDY, meta, trials, REGRET, **asked)
    never = lambda: True  # noqa: E731
    again = mj.evaluate(GREEDY, meta, trials, REGRET, **asked, stop=never)
    np.testing.assert_array_equal(again.transductive.mean, found.transductive.mean)


def test_queries_do_not_see_each_other():
    body = mj.conv4(3, 4, image_shape=(16, 16, 1)).parts[0]
    alone = mj.per_query(learner := mj.prototypical(body, ways=3), at_a_time=2)
    meta, pictures = learner.init(KEY), jax.random.normal(KEY, (8, 16, 16, 1))
    support = mj.Batch(pictures[:3], jnp.arange(3))
    taught = alone.adapt(meta, support)
    together = alone.predict(taught, pictures[3:])
    for i in range(5):
        one = alone.predict(taught, pictures[3 + i : 4 + i])
        np.testing.assert_allclose(one[0], together[i], rtol=1e-5, atol=1e-5)
    mixed = learner.predict(taught["adapted"], pictures[3:])
    assert np.abs(mixed - together).max() > 1e-3
    path = jax.tree.map(lambda x: x[-1], alone.trajectory(meta, support))
    jax.tree.map(np.testing.assert_array_equal, path, taught)


def test_one_side_alone_may_be_padded():
    """A query beside a padded support set, and a padded one beside a plain set."""
    body = mj.conv4(3, 4, image_shape=(16, 16, 1), norm="task").parts[0]
    alone = mj.per_query(learner := mj.prototypical(body, ways=3))
    meta, pictures = learner.init(KEY), jax.random.normal(KEY, (6, 16, 16, 1))
    whole = jnp.ones(3, bool)
    support = mj.Batch(pictures[:3], jnp.arange(3))
    padded = mj.Batch(*(Padded(x, whole) for x in support))
    expected = alone.predict(alone.adapt(meta, support), pictures[3:])
    for side, queries in (
        (padded, pictures[3:]),
        (support, Padded(pictures[3:], whole)),
        (padded, Padded(pictures[3:], whole)),
    ):
        found = alone.predict(alone.adapt(meta, side), queries)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_schedule_is_no_learner():
    with pytest.raises(mj.InputError, match=r"got function; give .* schedule\(step\)"):
        mj.evaluate(lambda step: GREEDY, None, trials, RETURN, judge=paid, tasks=2)


def test_a_model_is_no_learner():
    with pytest.raises(mj.InputError, match=r"got Model; make one, .*maml\(\.\.\.\)"):
        mj.evaluate(mj.mlp(), None, trials, RETURN, judge=paid, tasks=2)


def test_an_error_of_a_metric_is_not_hidden():
    class Nameless:
        def __call__(self, outputs, targets):
            return mj.mse(outputs, targets)

        def __str__(self):
            raise TypeError("no name")

    with pytest.raises(TypeError, match="no name"):
        mj.evaluate(GREEDY, None, trials, Nameless(), judge=paid, tasks=2)


def test_a_metric_is_told_from_others():
    @dataclasses.dataclass
    class Scaled:
        scale: float

        def __call__(self, outputs, targets):
            return self.scale * mj.mse(outputs, targets)

    with pytest.raises(mj.InputError, match="must be hashable.* got Scaled that is"):
        mj.evaluate(GREEDY, None, trials, Scaled(2.0), judge=paid, tasks=2)
