"""Episodes with keys: the same episodes, and random numbers of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax._pytrees.keyed import at_step, keyed_as, undrawn
from metajax.data import ImageStore, augmented, keyed, shuffle_labels, varied
from metajax.training.checkpoints import Checkpoints
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY

KEYS = jax.random.split(KEY, 3)


def stored():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 8, 8, 8, 1), np.uint8)
    return ImageStore(images, np.full(6, 8), tuple("abcdef"))


SAMPLERS = {
    "sinusoid": lambda: mj.data.sinusoid(5, 5),
    "images": lambda: mj.data.image_episodes(stored(), 3, 1, 2),
    "stream": lambda: mj.data.stream_episodes(stored(), 3, 1, 2),
    "augmented": lambda: augmented(mj.data.glyphs(3, 1, 2), shuffle_labels(3)),
    "varied": lambda: varied(mj.data.glyphs(3, 2, 1), (2, 3), (1, 2)),
    "function": lambda: lambda key, tasks: mj.data.sinusoid(5, 5)(key, tasks),
}


def bits(keys):
    return jax.random.key_data(keys).reshape(-1, 2)


def every_key(episode):
    return np.concatenate([bits(batch.inputs.keys) for batch in episode])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_episodes_are_the_same(name, relaxed):
    episodes = SAMPLERS[name]()
    plain, given = episodes(KEY, 2), keyed(episodes)(KEY, 2)
    bare = [batch._replace(inputs=batch.inputs.values) for batch in given]
    for ours, theirs in zip(
        *map(jax.tree.leaves, (Episode(*bare), plain)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    for batch in given:
        assert (
            batch.inputs.keys.shape == jax.tree.leaves(batch.inputs.values)[0].shape[:2]
        )


def test_each_example_task_and_meta_step_has_its_own():
    episodes = keyed(mj.data.sinusoid(5, 7))
    found = np.concatenate(
        [every_key(episodes(jax.random.fold_in(KEY, step), 4)) for step in range(3)]
    )
    assert len(np.unique(found, axis=0)) == len(found) == 3 * 4 * (5 + 7)


def test_a_task_is_made_alone_as_among_others():
    episodes = keyed(mj.data.sinusoid(5, 7))
    drawn = episodes.draw(KEY, 4)
    alone = episodes.make(jax.tree.map(lambda x: x[2:3], drawn))
    np.testing.assert_array_equal(
        bits(alone.query.inputs.keys), bits(episodes(KEY, 4).query.inputs.keys[2])
    )


def test_steps_and_features_have_keys_of_their_own():
    inputs = mj.Keyed(jnp.ones((3, 1)), KEYS)
    found = [bits(inputs.keys), bits(keyed_as(inputs, jnp.ones((5, 2))).keys)]
    found += [bits(at_step(inputs, step).keys) for step in range(4)]
    found = np.concatenate(found)
    assert len(np.unique(found, axis=0)) == len(found)
    assert at_step(undrawn(inputs), 1).keys is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda episodes: augmented(episodes, shuffle_labels(3)),
        lambda episodes: varied(episodes, (2, 3), (1, 1)),
    ],
)
def test_other_wrappers_go_inside(wrap):
    episodes = keyed(mj.data.glyphs(3, 1, 2))
    with pytest.raises(mj.InputError, match=r"metajax.data.keyed\((augmented|varied)"):
        wrap(episodes)(KEY, 1)


def test_mini_batches_of_padded_and_keyed_inputs():
    present = jnp.array([True, False, True])
    padded = Padded(jnp.arange(3.0), present)
    batch = Batch(mj.Keyed(padded, KEYS), Padded(jnp.arange(3), present))
    seen = mj.mini_batches(2)(batch, 0)
    np.testing.assert_array_equal(seen.inputs.values.values, [0.0, 2.0])
    np.testing.assert_array_equal(bits(seen.inputs.keys), bits(KEYS[np.array([0, 2])]))
    seen = mj.mini_batches(3)(batch, 0)
    assert seen.inputs.values.present.sum() == seen.targets.present.sum() == 2


def noisy(inputs=1):
    """A linear network whose weights are dropped at random, of its own making."""
    dense = mj.dense(inputs, 1)

    def apply(params, x):
        x, keys = mj.Keyed.of(x)
        mask = jax.random.bernoulli(keys[0], 0.5, params["kernel"].shape)
        kernel = params["kernel"] * (2 * mask.astype(params["kernel"].dtype))
        return dense.apply({**params, "kernel": kernel}, x)

    return mj.Model(dense.init, apply, inference=dense.apply)


def learner():
    body = mj.Model(lambda key: {}, lambda params, x: jnp.concatenate([x] * 8, 1))
    return mj.maml(mj.headed(body, noisy(8)), mj.mse, optax.sgd(0.01), steps=2)


def test_a_run_with_keys_goes_on_after_a_stop(tmp_path):
    def run(steps, **settings):
        episodes = keyed(mj.data.sinusoid(5, 5))
        return mj.fit(
            learner(),
            optax.sgd(0.1),
            episodes,
            steps=steps,
            tasks=2,
            devices=1,
            **settings,
        )

    straight, other = run(4), run(4, seed=1)
    run(2, checkpoints=Checkpoints(tmp_path))
    resumed = run(4, checkpoints=Checkpoints(tmp_path))
    for ours, theirs in zip(*map(jax.tree.leaves, (straight, resumed)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(
        straight.meta["head"]["kernel"], other.meta["head"]["kernel"]
    )


def test_two_devices_and_chunks_draw_the_same():
    batch = keyed(mj.data.sinusoid(5, 5))(KEY, 4)
    meta = learner().init(KEY)
    (_, _), whole = jax.jit(mj.meta_gradient(learner()))(meta, batch)
    for settings in ({"tasks_per_chunk": 1}, {"devices": 2}):
        (_, _), found = jax.jit(mj.meta_gradient(learner(), **settings))(meta, batch)
        np.testing.assert_allclose(
            found["head"]["kernel"], whole["head"]["kernel"], rtol=1e-5, atol=1e-7
        )


def test_a_stream_with_keys_is_read_ahead(relaxed):
    flat = mj.Model(lambda key: {}, lambda params, x: x.reshape(len(x), -1))
    model = mj.headed(flat, noisy(64))
    model = mj.headed(model, mj.dense(1, 3))
    ours = mj.maml(model, mj.cross_entropy, optax.sgd(0.01), steps=1)
    ends = [
        mj.fit(ours, optax.sgd(0.1), keyed(make(stored(), 3, 1, 2)), steps=3, tasks=2)
        for make in (mj.data.image_episodes, mj.data.stream_episodes)
    ]
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_without_keys_it_is_refused_before_training():
    plain = mj.data.sinusoid(5, 5)
    for call in (
        lambda: mj.fit(learner(), optax.sgd(0.1), plain, steps=1, tasks=1),
        lambda: mj.evaluate(learner(), learner().init(KEY), plain, mj.mse, tasks=2),
    ):
        with pytest.raises(mj.InputError, match="metajax.data.keyed"):
            call()


def test_evaluation_draws_in_adaptation_alone(tmp_path):
    meta = learner().init(KEY)
    meta["head"]["kernel"] = jnp.ones((8, 1))
    found = mj.evaluate(
        learner(),
        meta,
        keyed(mj.data.sinusoid(5, 5)),
        mj.mse,
        tasks=4,
        unfinished=tmp_path / "scores.npz",
    )
    # Before the first step nothing is drawn, and each query is predicted alone.
    np.testing.assert_allclose(
        found.transductive.mean[0], found.inductive.mean[0], rtol=1e-6
    )
