import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.types import Learner
from tests.helpers import KEY, compilations, cut, flip, image_episode, small_conv

LEARNER = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 2)
EPISODES = mj.data.sinusoid(5, 5)


def images(key, tasks):
    return jax.vmap(image_episode)(jax.random.split(key, tasks))


def test_scores_are_those_of_a_python_loop():
    meta = LEARNER.init(KEY)
    found = mj.evaluate(
        LEARNER, meta, EPISODES, mj.mse, tasks=12, seed=4, tasks_per_call=5
    )
    model = mj.mlp(hidden=(8,))
    each = [mj.maml(model, mj.mse, optax.sgd(0.01), k) for k in range(3)]

    @jax.jit
    def scored(episode):
        adapted = [learner.adapt(meta, episode.support) for learner in each]
        outputs = [LEARNER.predict(x, episode.query.inputs) for x in adapted]
        return [mj.mse(y, episode.query.targets) for y in outputs]

    scores = []
    for i in range(12):
        key = jax.random.fold_in(jax.random.key(4), i)
        scores.append(scored(jax.tree.map(lambda x: x[0], EPISODES(key, 1))))
    scores = np.array(scores)
    np.testing.assert_allclose(found.transductive.mean, scores.mean(0), rtol=1e-4)
    error = 1.959964 * scores.std(0, ddof=1) / np.sqrt(12)
    np.testing.assert_allclose(found.transductive.interval, error, rtol=1e-4)
    # This net has no batch statistics: it predicts alike in both modes.
    np.testing.assert_allclose(found.inductive.mean, scores.mean(0), rtol=1e-4)


def test_the_interval_covers():
    """A learner that is right with probability 0.7: 95 of 100 intervals hold it."""

    def predict(adapted, inputs):
        return jnp.stack([0.7 - inputs[:, 0], inputs[:, 0] - 0.7], axis=-1)

    coin = Learner(
        init=lambda key: (),
        adapt=lambda meta, support: (),
        predict=predict,
        loss=lambda meta, episode: (jnp.zeros(()), {}),
        trajectory=lambda meta, support: jnp.zeros(1),
    )

    def episodes(key, tasks):
        x = jax.random.uniform(key, (tasks, 4, 1))
        batch = mj.Batch(x, jnp.zeros((tasks, 4), jnp.int32))
        return mj.Episode(batch, batch)

    held = 0
    for seed in range(100):
        score = mj.evaluate(coin, (), episodes, tasks=50, seed=seed).transductive
        held += abs(score.mean[0] - 0.7) <= score.interval[0]
    assert 88 <= held <= 100


def test_inductive_predictions_do_not_see_the_other_queries():
    model = small_conv()
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 1)
    meta = model.init(KEY)
    found = mj.evaluate(learner, meta, images, tasks=8)
    rights = []
    for i in range(8):
        key = jax.random.fold_in(jax.random.key(0), i)
        support, query = jax.tree.map(lambda x: x[0], images(key, 1))
        adapted = learner.adapt(meta, support)
        for x, y in zip(query.inputs, query.targets):
            outputs = learner.predict(
                adapted, jnp.concatenate([support.inputs, x[None]])
            )
            rights.append(int(outputs[-1].argmax()) == int(y))
    np.testing.assert_allclose(found.inductive.mean[-1], np.mean(rights), atol=1e-6)
    with compilations() as compiled:  # the same program leaves them out
        without = mj.evaluate(learner, meta, images, tasks=8, inductive=False)
    assert len(compiled) <= 4  # keys
    assert np.isnan(without.inductive.mean).all()
    assert without.protocol["inductive_queries"] == 0
    np.testing.assert_array_equal(without.transductive.mean, found.transductive.mean)
    # Here it matters which other queries there are.
    logits = [model.apply(adapted, x) for x in (query.inputs, query.inputs[:2])]
    assert np.abs(logits[0][:2] - logits[1]).max() > 1e-3


def test_prefix_and_chunks():
    meta = LEARNER.init(KEY)
    few, more = (
        mj.evaluate(LEARNER, meta, EPISODES, mj.mse, tasks=10, tasks_per_call=n)
        for n in (3, 50)
    )
    np.testing.assert_allclose(few.transductive.mean, more.transductive.mean, rtol=1e-5)


def test_a_second_evaluation_compiles_nothing():
    meta = LEARNER.init(KEY)
    mj.evaluate(LEARNER, meta, EPISODES, mj.mse, tasks=10)
    with compilations() as count:
        mj.evaluate(LEARNER, meta, EPISODES, mj.mse, tasks=20, seed=1)
    assert not count


def test_a_learner_goes_when_it_is_no_longer_used():
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    mj.evaluate(learner, learner.init(KEY), EPISODES, mj.mse, tasks=2)
    gone = [weakref.ref(x) for x in (learner.adapt, learner.loss)]
    del learner
    gc.collect()
    assert [x() for x in gone] == [None] * 2


def test_carries_its_protocol():
    meta = LEARNER.init(KEY)
    found = mj.evaluate(
        LEARNER, meta, EPISODES, mj.mse, tasks=7, protocol={"split": "test"}
    )
    expected = dict(metric="mse", tasks=7, seed=0, steps=2, split="test")
    assert expected.items() <= found.protocol.items()
    text = mj.report(found)
    assert "split test" in text and "tasks 7" in text and "±" in text


def test_refuses_bad_numbers():
    meta = LEARNER.init(KEY)
    with pytest.raises(
        mj.InputError, match="tasks must be a whole number of at least 2"
    ):
        mj.evaluate(LEARNER, meta, EPISODES, mj.mse, tasks=1)
    with pytest.raises(mj.InputError, match="inductive_queries must be"):
        mj.evaluate(LEARNER, meta, EPISODES, mj.mse, inductive_queries=-1)
    with pytest.raises(mj.InputError, match="inductive_queries must be"):
        mj.task_outputs(LEARNER, meta, EPISODES, inductive_queries=0)


def test_no_query_is_predicted_alone():
    meta = LEARNER.init(KEY)
    found = mj.evaluate(LEARNER, meta, EPISODES, mj.mse, tasks=2, inductive_queries=0)
    assert np.isnan(found.inductive.mean).all()
    assert found.protocol["inductive_queries"] == 0
    assert np.isfinite(found.transductive.mean).all()


class Asked:
    """A `stop` that counts the calls, and says yes at one of them."""

    def __init__(self, at=None):
        self.times, self._at = 0, at

    def __call__(self):
        self.times += 1
        return self.times == self._at


TWENTY = dict(tasks=20, tasks_per_call=5, protocol={"split": "test"})


def scored(path, stop, meta=None, **changes):
    meta = LEARNER.init(KEY) if meta is None else meta
    settings = TWENTY | changes
    return mj.evaluate(
        LEARNER, meta, EPISODES, mj.mse, unfinished=path, stop=stop, **settings
    )


@pytest.fixture
def unfinished(tmp_path):
    """A file of two of four calls."""
    path = tmp_path / "scores.npz"
    with pytest.raises(mj.StoppedError, match="stopped after 10 of 20 tasks"):
        scored(path, Asked(at=3))
    assert list(tmp_path.iterdir()) == [path]
    return path


def same_scores(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a[0] + a[1], b[0] + b[1]))


def test_an_evaluation_goes_on_to_the_same_bits(unfinished):
    whole = scored(None, Asked())
    resumed = scored(unfinished, rest := Asked())
    assert rest.times == 2 and same_scores(resumed, whole)
    assert resumed.protocol == whole.protocol
    # The file is whole until it is removed: the result may not be safe yet.
    again = scored(unfinished, rest := Asked(at=1))
    assert rest.times == 0 and same_scores(again, whole)


def test_scores_survive_what_gives_no_notice(tmp_path):
    def pull_the_plug():
        next(plug)
        return False

    plug = iter(range(3))
    with pytest.raises(StopIteration):
        scored(tmp_path / "scores.npz", pull_the_plug)
    scored(tmp_path / "scores.npz", rest := Asked())
    assert 1 <= rest.times < 4


def test_unfinished_scores_belong_to_one_evaluation(unfinished):
    kept = unfinished.read_bytes()
    other = jax.tree.map(lambda x: x * 1.001, LEARNER.init(KEY))
    for changes in (
        dict(meta=other),
        dict(seed=1),
        dict(protocol={"split": "validation"}),
        dict(tasks=18),
        dict(inductive_queries=2),
    ):
        unfinished.write_bytes(kept)
        scored(unfinished, all_of_them := Asked(), **changes)
        assert all_of_them.times == 4, changes


@pytest.mark.parametrize("harm", [cut, flip, lambda path: path.write_bytes(b"")])
def test_damaged_scores_are_not_used(unfinished, harm):
    harm(unfinished)
    found = scored(unfinished, all_of_them := Asked())
    assert all_of_them.times == 4 and same_scores(found, scored(None, Asked()))


def test_outputs_are_those_that_are_scored():
    learner = mj.maml(small_conv(), mj.cross_entropy, optax.sgd(0.1), 2)
    meta, asked = learner.init(KEY), dict(tasks=12, seed=3, tasks_per_call=5)
    found = mj.evaluate(learner, meta, images, inductive_queries=4, **asked)
    outputs = mj.task_outputs(learner, meta, images, inductive_queries=4, **asked)
    for score, (logits, labels) in zip(found[:2], outputs[:2]):
        assert isinstance(logits, np.ndarray) and logits.shape[:2] == (12, 3)
        right = logits.argmax(-1) == labels[:, None]
        np.testing.assert_allclose(right.mean(-1).mean(0), score.mean, rtol=1e-6)
    assert outputs.inductive.targets.shape == (12, 4)
    facts = {k: v for k, v in found.protocol.items() if k != "metric"}
    assert outputs.protocol == facts
    # The queries of a task are those of its key, whatever a call holds.
    for i in (0, 7):
        key = jax.random.fold_in(jax.random.key(3), i)
        targets = images(key, 1).query.targets[0]
        np.testing.assert_array_equal(outputs.transductive.targets[i], targets)
    part = mj.task_outputs(learner, meta, images, **asked | dict(tasks=1))
    np.testing.assert_allclose(
        part.transductive.outputs, outputs.transductive.outputs[:1], atol=1e-5
    )


def test_outputs_of_padded_tasks_say_which_are_present():
    padded = mj.data.varied(mj.data.glyphs(3, 2, 2), (2, 3), (1, 2))
    learner = mj.maml(mj.conv4(3, 2), mj.cross_entropy, optax.sgd(0.1), 1)
    meta = learner.init(KEY)
    found = mj.evaluate(learner, meta, padded, tasks=6)
    outputs = mj.task_outputs(learner, meta, padded, tasks=6)
    for score, (logits, (labels, present, allowed)) in zip(found[:2], outputs[:2]):
        assert 0 < present.sum() and logits.shape == (6, 2, 6, 3)
        logits = np.where(allowed[:, None], logits, -np.inf)
        right = (logits.argmax(-1) == labels[:, None]) & present[:, None]
        shares = right.sum(-1) / present.sum(-1, keepdims=True)
        np.testing.assert_allclose(shares.mean(0), score.mean, rtol=1e-6)


def test_outputs_of_an_iterable():
    meta = LEARNER.init(KEY)
    batches = [EPISODES(jax.random.key(i), 3) for i in range(3)]
    found = mj.task_outputs(LEARNER, meta, batches, tasks=8, tasks_per_call=5)
    expected = np.concatenate([x.query.targets for x in batches])[:8]
    np.testing.assert_array_equal(found.transductive.targets, expected)
    assert "seed" not in found.protocol
