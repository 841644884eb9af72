"""Episodes changed after they are drawn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

import metajax as mj
from metajax.data import (
    augmented,
    flip_classes,
    hide_labels,
    jitter,
    metamix,
    mixup,
    shuffle_labels,
    turn_classes,
)
from metajax.data.wrappers.jitter import move
from tests.helpers import (
    KEY,
    image_episode,
    lenient,
    relative,
    small_conv,
)

BATCH, EPISODE = mj.Batch, mj.Episode
EVERY = {
    "turn_classes": turn_classes,
    "flip_classes": flip_classes,
    "jitter": jitter(shift=0.1, turn=10, scale=0.1, contrast=0.1, brightness=0.1),
    "shuffle_labels": shuffle_labels(3),
    "mixup": mixup(1.0, 3),
    "metamix": metamix(2.0, 3),
}


def shuffled(episode, seed=0):
    """The episode with its examples in another order."""
    chance = np.random.default_rng(seed)

    def side(batch):
        order = chance.permutation(len(batch.targets))
        return jax.tree.map(lambda x: x[order], batch)

    return EPISODE(*map(side, episode))


def seen(transform, candidates, episode, keys=20):
    """Which of the candidates each class shows, over some keys; checks it is one."""
    found = []
    for seed in range(keys):
        changed = transform(jax.random.key(seed), episode)
        for label in range(3):
            fits = set(candidates)
            for before, after in zip(episode, changed):
                np.testing.assert_array_equal(before.targets, after.targets)
                rows = np.asarray(before.targets) == label
                old, new = np.asarray(before.inputs)[rows], after.inputs[rows]
                fits &= {
                    k for k in candidates if np.array_equal(candidates[k](old), new)
                }
            assert len(fits) == 1
            found.append(fits.pop())
    return np.array(found).reshape(keys, 3)


def test_a_class_is_turned_as_one_as_rot90_does():
    turns = {k: partial(np.rot90, k=k, axes=(1, 2)) for k in range(4)}
    found = seen(turn_classes, turns, shuffled(image_episode(KEY, shots=2)))
    assert set(found.ravel()) == set(range(4))
    assert all((found[:, i] != found[:, j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_class_is_flipped_as_one():
    flips = {0: lambda x: x, 1: lambda x: x[:, :, ::-1]}
    found = seen(flip_classes, flips, shuffled(image_episode(KEY, shots=2)))
    assert set(found.ravel()) == {0, 1}


def test_the_order_of_examples_does_not_matter():
    episode = image_episode(KEY, shots=2)
    for transform in (turn_classes, flip_classes, shuffle_labels(3)):
        after = shuffled(transform(KEY, episode))
        jax.tree.map(
            np.testing.assert_array_equal, transform(KEY, shuffled(episode)), after
        )


def test_labels_are_renamed_alike_in_support_and_query():
    episode, names = shuffled(image_episode(KEY, shots=2)), set()
    for seed in range(40):
        changed = shuffle_labels(3)(jax.random.key(seed), episode)
        pairs = {
            (int(old), int(new))
            for before, after in zip(episode, changed)
            for old, new in zip(before.targets, after.targets)
        }
        assert len(pairs) == 3 and {new for _, new in pairs} == {0, 1, 2}
        names.add(tuple(new for _, new in sorted(pairs)))
        assert changed.query.targets.dtype == episode.query.targets.dtype
    assert len(names) == 6


def test_a_label_out_of_range_is_not_hidden():
    batch = BATCH(jnp.ones((3, 1)), jnp.array([0, 3, -1]))
    renamed = shuffle_labels(3)(KEY, EPISODE(batch, batch)).query.targets
    assert renamed[1:].tolist() == [3, -1]
    for transform in (mixup(1.0, 3), metamix(1.0, 3)):
        targets = transform(KEY, EPISODE(batch, batch)).query.targets
        assert np.isnan(targets[1:]).all()


def test_a_row_without_a_label_is_no_mixture():
    batch = BATCH(jnp.ones((3, 1)), jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    for transform in (mixup(1.0, 2), metamix(1.0, 2)):
        targets = transform(KEY, EPISODE(batch, batch)).query.targets
        assert np.isnan(targets[1]).all()


@pytest.mark.parametrize("shape", [(9, 9, 2), (8, 6, 1)])
def test_moving_is_bilinear_sampling(float64, shape):
    image = np.asarray(jax.random.normal(KEY, shape, jnp.float64))
    scale, turn, shift = 1.2, 0.3, np.array([0.1, -0.2])
    ours = move(jnp.asarray(image), *map(jnp.asarray, (scale, turn, shift)))
    sides = np.array(shape[:2])
    centre = (sides - 1) / 2
    # Rows go down: a grid turned clockwise turns the image as rot90 does.
    grid = scale * np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    start = centre - grid @ centre + shift * sides
    for channel in range(shape[2]):
        theirs = ndimage.affine_transform(
            image[..., channel], grid, start, order=1, mode="nearest"
        )
        np.testing.assert_allclose(ours[..., channel], theirs, atol=1e-12)


def test_moving_in_whole_pixels(float64):
    image = jax.random.normal(KEY, (8, 8, 1), jnp.float64)
    one, zero, still = jnp.array(1.0), jnp.array(0.0), jnp.zeros(2)
    np.testing.assert_array_equal(move(image, one, zero, still), image)
    turned = move(image, one, jnp.array(np.pi / 2), still)
    np.testing.assert_allclose(turned, np.rot90(image), atol=1e-12)
    moved = move(image, one, zero, jnp.array([0.25, -0.125]))
    rows, columns = np.minimum(np.arange(8) + 2, 7), np.maximum(np.arange(8) - 1, 0)
    np.testing.assert_allclose(moved, np.asarray(image)[rows][:, columns], atol=1e-12)


def places(shift, n=200):
    """Where a jittered blob of ink is, (row, column) of each of `n` images."""
    line = jnp.arange(32.0) - 15.5
    blob = jnp.exp(-(line[:, None] ** 2 + line[None] ** 2) / 8.0)[None, :, :, None]
    batch = BATCH(jnp.tile(blob, (n, 1, 1, 1)), jnp.zeros(n, jnp.int32))
    moved = jitter(shift=shift)(KEY, EPISODE(batch, batch)).support.inputs[..., 0]
    total = jnp.sum(moved, (1, 2))
    profiles = (jnp.sum(moved, axis) for axis in (2, 1))
    return np.stack([jnp.sum(p * line[None], 1) / total for p in profiles])


def test_jitter_moves_each_image_within_its_bound():
    found = places(0.1)
    assert 0.9 * 3.2 < np.abs(found).max() <= 3.2 + 1e-3
    assert (found.min(1) < 0).all() and (found.max(1) > 0).all()
    assert len(np.unique(found.round(4))) > 390
    assert np.abs(places(0.0)).max() < 1e-5


def test_jitter_tones_within_its_bounds():
    episode = image_episode(KEY, shots=20, queries=20)
    before = np.asarray(episode.support.inputs)
    after = np.asarray(jitter(brightness=0.5)(KEY, episode).support.inputs)
    added = (after - before).reshape(len(before), -1)
    np.testing.assert_allclose(added, np.tile(added[:, :1], added.shape[1]), atol=1e-5)
    assert 0.4 < np.abs(added).max() <= 0.5 + 1e-5 and added.min() < 0 < added.max()

    after = np.asarray(jitter(contrast=0.5)(KEY, episode).support.inputs)
    ratio = after.std((1, 2, 3)) / before.std((1, 2, 3))
    np.testing.assert_allclose(after.mean((1, 2, 3)), before.mean((1, 2, 3)), atol=1e-5)
    assert 0.5 <= ratio.min() < 0.6 and 1.4 < ratio.max() <= 1.5


def weight_one(key, a, b, shape):
    return jnp.ones(shape)


@pytest.mark.parametrize("transform", [mixup(1.0, 3), metamix(1.0, 3)])
def test_a_weight_of_one_changes_nothing(float64, monkeypatch, transform):
    monkeypatch.setattr(jax.random, "beta", weight_one)
    episode = image_episode(KEY, shots=2, dtype=jnp.float64)
    mixed = transform(KEY, episode)
    np.testing.assert_array_equal(mixed.query.inputs, episode.query.inputs)
    np.testing.assert_array_equal(mixed.query.targets, np.eye(3)[episode.query.targets])
    learner = mj.maml(small_conv(jnp.float64), mj.cross_entropy, optax.sgd(0.1), 2)
    meta = learner.init(KEY)
    slopes = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
    assert relative(slopes(meta, mixed), slopes(meta, episode)) < 1e-12


def check_beta(weights, alpha):
    """Mean and variance of Beta(α, α), within five standard errors or so."""
    assert 0 <= weights.min() and weights.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weights.mean() - 0.5) < 5 * np.sqrt(variance / len(weights))
    assert abs(weights.var() - variance) < 0.1 * variance


@pytest.mark.parametrize("alpha", [0.4, 2.0])
def test_mixup_mixes_within_a_side(alpha):
    n = 1000
    batch = BATCH(jnp.eye(n), jnp.arange(n) % 5)
    mixed = mixup(alpha, 5)(KEY, EPISODE(batch, batch))
    assert not np.allclose(mixed.support.inputs, mixed.query.inputs)
    for inputs, targets in mixed:
        inputs = np.asarray(inputs)
        np.testing.assert_allclose(inputs.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(
            targets, inputs @ np.eye(5)[np.asarray(batch.targets)], atol=1e-6
        )
        weights = np.diag(inputs)
        # A permutation: every example is once the other one.
        others = inputs - np.diag(weights)
        assert (np.count_nonzero(others, 0) <= 1).all()
        check_beta(weights[np.count_nonzero(others, 1) == 1], alpha)


def test_metamix_mixes_queries_with_the_support():
    n, alpha = 4000, 2.0
    support = BATCH(jnp.eye(5), jnp.array([4, 2, 0, 1, 3]))
    query = BATCH(jnp.zeros((n, 5)), jnp.arange(n) % 5)
    mixed = metamix(alpha, 5)(KEY, EPISODE(support, query))
    jax.tree.map(np.testing.assert_array_equal, mixed.support, support)
    other = np.asarray(mixed.query.inputs)  # (1 - λ) of the support example
    assert (np.count_nonzero(other, 1) == 1).all()
    assert np.abs((other > 0).mean(0) - 0.2).max() < 0.05
    weights = 1 - other.sum(1)
    check_beta(weights, alpha)
    eye = np.eye(5)
    expected = weights[:, None] * eye[np.arange(n) % 5]
    expected += other @ eye[np.asarray(support.targets)]
    np.testing.assert_allclose(mixed.query.targets, expected, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_key_gives_the_same_meta_batch(name):
    def drawn(key, tasks):
        return jax.vmap(partial(image_episode, size=8))(jax.random.split(key, tasks))

    sampler = augmented(drawn, EVERY[name])
    run = jax.jit(lambda sampler, key: sampler(key, 2))
    ours, again, other = (
        run(sampler, KEY),
        run(sampler, KEY),
        run(sampler, jax.random.key(1)),
    )
    plain = sampler(KEY, 2)
    jax.tree.map(np.testing.assert_array_equal, ours, again)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-3), ours, plain)
    assert np.abs(ours.query.inputs - other.query.inputs).max() > 0.1


def test_tasks_are_changed_apart():
    def same(key, tasks):
        one = image_episode(KEY, shots=2)
        return jax.tree.map(lambda x: jnp.stack([x] * tasks), one)

    inputs = augmented(same, turn_classes)(KEY, 8).query.inputs
    assert len({np.asarray(x).tobytes() for x in inputs}) > 4


def test_what_a_sampler_holds_stays_an_argument():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8, 1), np.uint8)
    store = mj.data.ImageStore(images, np.full(4, 3), tuple("abcd"))
    inner = mj.data.image_episodes(store, 2, 1, 1)
    sampler = augmented(inner, turn_classes)
    assert jax.tree.leaves(sampler)[0] is jax.tree.leaves(inner)[0]
    assert sampler(KEY, 3).query.inputs.shape == (3, 2, 8, 8, 1)


def test_without_transforms_it_is_the_sampler():
    inner = mj.data.sinusoid()
    ours = augmented(inner)(KEY, 3)
    theirs = inner(jax.random.split(KEY)[0], 3)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_fit_with_every_transform_is_finite():
    sampler = augmented(mj.data.glyphs(3, 1, 2, size=16), *EVERY.values())
    found = mj.proto_maml(
        small_conv(),
        mj.cross_entropy,
        optax.sgd(0.1),
        1,
        metrics={"accuracy": mj.accuracy},
    )
    rows = []

    class Rows:
        def start(self, state):
            pass

        def record(self, state, metrics):
            rows.append(metrics)

    state = mj.fit(
        found, lenient(optax.adam(1e-3)), sampler, steps=2, tasks=2, observers=[Rows()]
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.meta))
    assert all(np.isfinite(x).all() for row in rows for x in row.values())


def test_refuses_bad_numbers():
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        for mix in (mixup, metamix):
            with pytest.raises(mj.InputError, match="alpha must be a positive number"):
                mix(bad, 5)
    with pytest.raises(mj.InputError, match="ways must be a whole number"):
        shuffle_labels(0)
    for name in ("shift", "scale", "contrast"):
        for bad in (-0.1, 1.0, float("nan")):
            with pytest.raises(mj.InputError, match=f"{name} must be at least 0"):
                jitter(**{name: bad})


def test_refuses_episodes_it_cannot_change():
    def applied(transform, inputs, targets):
        return transform(KEY, EPISODE(*2 * [BATCH(inputs, targets)]))

    images, labels = jnp.zeros((2, 4, 4, 1)), jnp.array([0, 1])
    with pytest.raises(mj.InputError, match="square images, got 4x5"):
        applied(turn_classes, jnp.zeros((2, 4, 5, 1)), labels)
    for name in ("turn_classes", "flip_classes", "jitter"):
        with pytest.raises(mj.InputError, match=f"{name} needs images"):
            applied(EVERY[name], jnp.zeros((2, 1)), labels)
    for name in ("turn_classes", "flip_classes", "shuffle_labels"):
        with pytest.raises(mj.InputError, match=f"{name} reads classes from labels"):
            applied(EVERY[name], images, jnp.zeros((2, 3)))
    for name in ("mixup", "metamix"):
        with pytest.raises(mj.InputError, match="needs labels.*got float32.2, 1."):
            applied(EVERY[name], images, jnp.zeros((2, 1)))
        with pytest.raises(mj.InputError, match="needs labels.*got dict"):
            applied(EVERY[name], images, {"a": labels})
        with pytest.raises(mj.InputError, match="floating-point inputs, got int32"):
            applied(EVERY[name], jnp.zeros((2, 3), jnp.int32), labels)


def test_hidden_labels_are_those_after_the_first_few():
    labels = jnp.array([2, 0, 1, 0, 2, 1, 0, 2, 1])
    batch = BATCH(jnp.arange(9.0)[:, None], labels)
    changed = hide_labels(2, 2, distractors=1)(KEY, EPISODE(batch, batch))
    expected = np.zeros((9, 2))
    expected[[1, 3, 2, 5], [0, 0, 1, 1]] = 1  # the third of each class has none
    np.testing.assert_array_equal(changed.support.targets, expected)
    np.testing.assert_array_equal(changed.query.targets, labels[labels < 2])
    np.testing.assert_array_equal(changed.query.inputs[:, 0], jnp.where(labels < 2)[0])


def test_unlabelled_examples_help_prototypes(float64):
    """Of blobs, whose prototypes of one example are far off."""
    keys = jax.random.split(KEY, 4)
    centres = jax.random.normal(keys[0], (200, 3, 1, 4), jnp.float64)

    def batch(key, n):
        labels = jnp.repeat(jnp.arange(3), n)
        x = centres + 0.7 * jax.random.normal(key, (200, 3, n, 4), jnp.float64)
        return BATCH(x.reshape(200, -1, 4), jnp.broadcast_to(labels, (200, 3 * n)))

    plain = mj.Episode(batch(keys[1], 8), batch(keys[2], 8))
    hidden = jax.vmap(partial(hide_labels(3, 1), None))(plain)
    body = mj.Model(lambda key: jnp.zeros(()), lambda params, x: x)

    def score(refinements, episodes):
        learner = mj.prototypical(body, 3, refinements=refinements)
        metric = lambda e: learner.loss(learner.init(KEY), e)[0]  # noqa: E731
        return float(jnp.mean(jax.vmap(metric)(episodes)))

    assert score(1, hidden) < 0.8 * score(0, hidden)
    assert score(1, plain) == score(0, plain)  # all have a label


@pytest.mark.parametrize("numbers", [(0, 1), (2, 0), (2, 1.5)])
def test_hiding_refuses_bad_numbers(numbers):
    with pytest.raises(mj.InputError, match="must be a whole number of at least 1"):
        hide_labels(*numbers)


def test_hiding_refuses_other_episodes():
    batch = BATCH(jnp.zeros((4, 1)), jnp.array([0, 0, 1, 1]))
    with pytest.raises(mj.InputError, match="each of 3 classes, got 4"):
        hide_labels(2, 1, distractors=1)(KEY, EPISODE(batch, batch))
    soft = batch._replace(targets=jnp.eye(4))
    with pytest.raises(mj.InputError, match="hide_labels"):
        hide_labels(2, 1)(KEY, EPISODE(soft, batch))
