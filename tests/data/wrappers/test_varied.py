"""Episodes of varied ways and shots in one padded shape."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.types import Batch, Episode
from tests.helpers import KEY, gradient, relative

WAYS, SHOTS, QUERIES = (2, 4), (1, 3), 2


@pytest.fixture(scope="module")
def episodes():
    glyphs = mj.data.glyphs(WAYS[1], SHOTS[1], QUERIES, size=16)
    return mj.data.varied(glyphs, WAYS, SHOTS)


@pytest.fixture(scope="module")
def batch(episodes):
    return jax.jit(episodes, static_argnums=1)(KEY, 3)


def test_every_number_in_range_comes(episodes):
    support, query = jax.jit(episodes, static_argnums=1)(KEY, 60)
    labels, present = support.targets.values, support.targets.present
    counts = [np.bincount(y[p], minlength=4) for y, p in zip(labels, present)]
    ways = {int((c > 0).sum()) for c in counts}
    shots = {int(n) for c in counts for n in c if n}
    assert ways == {2, 3, 4} and shots == {1, 2, 3}
    for c, y, p, a in zip(counts, *query.targets):
        taken = (c > 0).sum()
        np.testing.assert_array_equal(c > 0, np.arange(4) < taken)
        np.testing.assert_array_equal(a, np.tile(np.arange(4) < taken, (len(y), 1)))
        np.testing.assert_array_equal(p, y < taken)
    np.testing.assert_array_equal(support.inputs.present, present)
    assert float(jnp.abs(support.inputs.values[~present]).max()) == 0.0


def cut(batch, dtype):
    """The batch without its padding."""
    rows = np.asarray(batch.targets.present)
    inputs = batch.inputs.values[rows].astype(dtype)
    return Batch(inputs, batch.targets.values[rows])


@pytest.mark.parametrize("inner", ["maml", "proto-maml"])
def test_the_gradient_is_that_of_the_episodes_unpadded(batch, float64, inner):
    """A model of as many outputs as the task has ways, cut from the wide one."""
    factory = {"maml": mj.maml, "proto-maml": mj.proto_maml}[inner]

    def learner(ways):
        sizes = dict(image_shape=(16, 16, 1), head="glorot", dtype=jnp.float64)
        model = mj.conv4(ways, 4, **sizes)
        return factory(model, mj.cross_entropy, optax.sgd(0.1), 1)

    wide = learner(WAYS[1])
    meta, slopes = wide.init(KEY), gradient(wide)
    for i in range(2):
        padded = jax.tree.map(lambda x: x[i], batch)  # noqa: B023
        padded = jax.tree.map(
            lambda x: x.astype(float) if x.dtype == jnp.float32 else x, padded
        )
        episode = Episode(*(cut(side, float) for side in padded))
        ways = int(padded.query.targets.allowed[0].sum())
        narrow = meta
        if inner == "maml":
            narrow = meta | {
                "head": jax.tree.map(lambda x: x[..., :ways], meta["head"])
            }  # noqa: B023
        found = slopes(meta, padded)
        expected = gradient(learner(ways))(narrow, episode)
        if inner == "maml":
            rest = jax.tree.map(lambda x: x[..., ways:], found["head"])  # noqa: B023
            assert all(not x.any() for x in jax.tree.leaves(rest))
            first = jax.tree.map(lambda x: x[..., :ways], found["head"])  # noqa: B023
            found = found | {"head": first}
        assert relative(found, expected) < 1e-10


def test_an_evaluation_scores_what_is_there(episodes):
    model = mj.conv4(WAYS[1], 4, image_shape=(16, 16, 1))
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 0)
    found = mj.evaluate(learner, learner.init(KEY), episodes, tasks=40)
    # Untrained, of a head of zeros, it says class 0: right for one way in 2, 3 or 4.
    shares = 1 / episodes(KEY, 200).query.targets.allowed[:, 0].sum(1)
    assert abs(float(found.transductive.mean[0]) - float(shares.mean())) < 0.08


def test_refuses_what_cannot_be_varied():
    glyphs = mj.data.glyphs(5, 3, 2, size=16)
    with pytest.raises(mj.InputError, match=r"shots must be \(min, max\), got 1"):
        mj.data.varied(glyphs, (2, 5), 1)
    with pytest.raises(mj.InputError, match="ways must be .* with min <= max"):
        mj.data.varied(glyphs, (5, 2), (1, 3))
    with pytest.raises(mj.InputError, match="must be the 15 support examples"):
        mj.data.varied(glyphs, (2, 5), (1, 2))
    with pytest.raises(mj.InputError, match="must have integer labels"):
        mj.data.varied(mj.data.sinusoid(10), (2, 5), (1, 2))
    mixed = mj.data.augmented(glyphs, mj.data.metamix(1.0, 5))
    with pytest.raises(mj.InputError, match="which mixtures and regression lack"):
        mj.data.varied(mixed, (2, 5), (1, 3))


def test_any_function_can_be_varied():
    glyphs = mj.data.glyphs(3, 2, 2, size=16)
    episodes = mj.data.varied(lambda key, tasks: glyphs(key, tasks), (2, 3), (1, 2))
    model = mj.conv4(3, 2, image_shape=(16, 16, 1))
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 1)
    state = mj.fit(learner, optax.sgd(0.1), episodes, steps=1, tasks=2)
    assert int(state.step) == 1


def test_a_loss_over_ways_is_not_for_padded_tasks(batch):
    model = mj.conv4(WAYS[1], 2, image_shape=(16, 16, 1))
    learner = mj.maml(model, mj.cross_entropy_over_ways, optax.sgd(0.1), 0)
    task = jax.tree.map(lambda x: x[0], batch)
    with pytest.raises(mj.InputError, match="use cross_entropy for padded tasks"):
        jax.eval_shape(learner.loss, jax.eval_shape(learner.init, KEY), task)
    narrow = mj.conv4(3, 2, image_shape=(16, 16, 1))
    learner = mj.maml(narrow, mj.cross_entropy, optax.sgd(0.1), 0)
    with pytest.raises(mj.InputError, match="up to 4 classes"):
        jax.eval_shape(learner.loss, jax.eval_shape(learner.init, KEY), task)
