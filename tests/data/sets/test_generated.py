"""Sine waves and glyphs."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data.sets import glyphs
from tests.helpers import KEY

RADIUS = glyphs.RADIUS


@partial(jax.jit, static_argnums=1)
def drawn(sampler, tasks):
    return sampler(KEY, tasks)


def test_sine_waves_are_sine_waves():
    episodes = jax.device_get(drawn(mj.data.sinusoid(50, 50), 20))
    for side in episodes:
        assert side.inputs.shape == side.targets.shape == (20, 50, 1)
        assert np.abs(side.inputs).max() <= 5 and np.abs(side.inputs).max() > 4.5
    # Any A sin(x - φ) is a combination of sin x and cos x, the same in both sides.
    x, y = episodes.support.inputs[..., 0], episodes.support.targets[..., 0]
    amplitudes = []
    for task in range(20):
        basis = np.stack([np.sin(x[task]), np.cos(x[task])], 1)
        weights, *_ = np.linalg.lstsq(basis, y[task])
        query = np.asarray(episodes.query.inputs[task, :, 0])
        truth = np.stack([np.sin(query), np.cos(query)], 1) @ weights
        np.testing.assert_allclose(episodes.query.targets[task, :, 0], truth, atol=1e-3)
        assert weights[1] <= 1e-3  # -A sin φ with φ in [0, π]
        amplitudes.append(np.hypot(*weights))
    assert 0.1 <= min(amplitudes) < 1.5 and 3.5 < max(amplitudes) <= 5.0


def test_glyphs_have_ink_bright_and_labels_by_class():
    episodes = drawn(mj.data.glyphs(4, 2, 3, size=20), 2)
    assert episodes.support.inputs.shape == (2, 8, 20, 20, 1)
    assert episodes.query.inputs.shape == (2, 12, 20, 20, 1)
    np.testing.assert_array_equal(episodes.query.targets[0], np.repeat(np.arange(4), 3))
    images = np.asarray(episodes.query.inputs)
    assert 0 <= images.min() < 0.01 and 0.9 < images.max() <= 1
    assert 0.03 < images.mean() < 0.3


def test_the_numbers_of_a_glyph_are_those_of_jax():
    """To the last bit: of several keys at once, and fewer calls of the generator."""
    keys = jax.random.split(KEY, 4)
    u = glyphs._uniform(keys, 18)
    plain = jax.vmap(lambda key: jax.random.normal(key, (3, 3, 2)))(keys)
    np.testing.assert_array_equal(glyphs._normal(u).reshape(plain.shape), plain)
    plain = jax.vmap(lambda key: jax.random.uniform(key, (6,), minval=-1.0))(keys)
    np.testing.assert_array_equal(glyphs._between(u[:, :6], -1.0, 1.0), plain)
    pens = jax.vmap(lambda key: jax.random.uniform(key, (), "float32", *RADIUS))(keys)
    np.testing.assert_array_equal(glyphs._between(u[:, 0], *RADIUS), pens)


def test_glyphs_differ_between_classes_more_than_within():
    images = np.asarray(drawn(mj.data.glyphs(10, 1, 9), 1).query.inputs)[0]
    images = images.reshape(10, 9, -1)
    within = np.linalg.norm(images - images.mean(1, keepdims=True), axis=-1).mean()
    centres = images.mean(1)
    between = np.linalg.norm(centres - centres.mean(0), axis=-1).mean()
    assert between > 0.6 * within
    assert np.abs(images[:, 0] - images[:, 1]).max() > 0.5


def test_glyph_splits_are_disjoint_and_sampling_is_reproducible():
    splits = {
        split: np.asarray(drawn(mj.data.glyphs(split=split), 1).support.inputs)
        for split in ("train", "validation", "test")
    }
    assert np.abs(splits["train"] - splits["test"]).max() > 0.5
    assert np.abs(splits["validation"] - splits["test"]).max() > 0.5
    again = drawn(mj.data.glyphs(split="test"), 1).support.inputs
    np.testing.assert_array_equal(again, splits["test"])


def test_an_untrained_net_is_poor_at_glyphs():
    model = mj.conv4(5, 16, "stride")
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.4), 5)
    found = mj.evaluate(
        learner,
        model.init(KEY),
        mj.data.glyphs(split="test"),
        tasks=50,
        inductive_queries=1,
    )
    assert found.transductive.mean.max() < 0.6


@pytest.mark.parametrize("sampler", [mj.data.sinusoid(), mj.data.glyphs(2, 1, 1)])
def test_samplers_are_pytrees(sampler):
    run = jax.jit(lambda sampler, key: sampler(key, 2))
    ours, plain = run(sampler, KEY), sampler(KEY, 2)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_refuses_bad_numbers():
    with pytest.raises(
        mj.InputError, match="shots must be a whole number of at least 1"
    ):
        mj.data.sinusoid(0)
    with pytest.raises(mj.InputError, match="ways must be"):
        mj.data.glyphs(ways=0)
    with pytest.raises(mj.InputError, match='split must be one of "train", "vali'):
        mj.data.glyphs(split="all")  # pyright: ignore
