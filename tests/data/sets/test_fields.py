"""Fields: images as functions of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.data import ImageStore
from metajax.data.sets import glyphs
from tests.helpers import KEY

HEIGHT, WIDTH = 4, 6


@pytest.fixture(scope="module")
def store():
    """Images whose pixels are all different, of classes of one and of two."""
    images = np.arange(2 * 2 * HEIGHT * WIDTH, dtype=np.uint8)
    images = images.reshape(2, 2, HEIGHT, WIDTH, 1)
    return ImageStore(images, np.array([2, 1]), ("two", "one"))


def places(batch):
    """The rows and columns of coordinates."""
    x, y = np.moveaxis(np.asarray(batch.inputs), -1, 0)
    columns, rows = (x + 1) / 2 * WIDTH - 0.5, (y + 1) / 2 * HEIGHT - 0.5
    np.testing.assert_allclose(columns, np.round(columns), atol=1e-5)
    return np.round(rows).astype(int), np.round(columns).astype(int)


def test_support_and_query_share_no_pixel_and_cover_the_image(store):
    tasks = jax.jit(lambda key: mj.data.fields(store, 7)(key, 20))(KEY)
    assert tasks.support.inputs.shape == (20, 7, 2)
    assert tasks.query.targets.shape == (20, HEIGHT * WIDTH - 7, 1)
    both = [np.ravel_multi_index(places(b), (HEIGHT, WIDTH)) for b in tasks]
    every = np.sort(np.concatenate(both, 1), 1)
    assert (every == np.arange(HEIGHT * WIDTH)).all()
    assert len({tuple(row) for row in both[0]}) == 20, "drawn anew for each task"


def test_values_are_those_of_one_image_at_its_coordinates(store):
    tasks = mj.data.fields(store, 7, 9)(KEY, 30)
    assert tasks.query.inputs.shape == (30, 9, 2)
    shown = set()
    for task in range(30):
        both = [jax.tree.map(lambda x, i=task: x[i], batch) for batch in tasks]
        bytes_at = [np.round(255 * np.asarray(b.targets[:, 0])) for b in both]
        offsets = {
            value - np.ravel_multi_index(place, (HEIGHT, WIDTH))
            for batch, values in zip(both, bytes_at)
            for *place, value in zip(*places(batch), values)
        }
        assert len(offsets) == 1, "one image"
        shown |= offsets
    assert shown == {0, 24, 48}, "the image that pads a class is not drawn"


def test_all_pixels_are_support_and_queries_are_among_them(store):
    support, query = mj.data.fields(store, None, 5)(KEY, 3)
    assert support.inputs.shape == (3, HEIGHT * WIDTH, 2)
    np.testing.assert_array_equal(support.inputs[:, :5], query.inputs)
    whole = mj.data.fields(store)(KEY, 3)
    np.testing.assert_array_equal(whole.support.targets, whole.query.targets)


def test_what_is_streamed_is_what_would_be_resident(store):
    sources = store, mj.data.stream_single_images(store)
    resident, streamed = (mj.data.fields(source, 7)(KEY, 4) for source in sources)
    for ours, theirs in zip(jax.tree.leaves(resident), jax.tree.leaves(streamed)):
        np.testing.assert_array_equal(ours, theirs)


def test_glyphs_are_drawn_by_their_distance():
    """Ink is a function of the distance, whose slope is 1 away from ridges."""
    images, distances = (
        mj.data.single_glyphs(size=64, value=f)(KEY, 3)
        for f in (mj.data.ink, mj.data.signed_distance)
    )
    drawn, distance = images.support.inputs, distances.support.inputs
    np.testing.assert_allclose(
        drawn, jax.nn.sigmoid(-distance / glyphs.SOFTNESS), rtol=1e-5, atol=1e-6
    )
    d = np.asarray(distance)[:, 0, :, :, 0]
    assert -glyphs.RADIUS[1] <= d.min() < 0 < d.max() < 1.5
    assert ((d < 0) == (np.asarray(drawn)[:, 0, :, :, 0] > 0.5)).all()
    down, right = np.gradient(d, 1 / 64, axis=(1, 2))
    slope = np.median(np.hypot(down, right)[d > 0.05])
    assert slope == pytest.approx(1, abs=0.02)


def test_a_label_is_the_place_of_the_class_in_the_store(store):
    support, query = mj.data.labelled_fields(store)(KEY, 30)
    labels = np.asarray(query.targets.labels)
    assert labels.shape == (30, HEIGHT * WIDTH) and set(labels[:, 0]) == {0, 1}
    assert (labels == labels[:, :1]).all()
    values = 255 * np.asarray(support.targets)[..., 0]
    np.testing.assert_array_equal(labels[:, 0] == 1, values.min(1) >= 47.5)
    np.testing.assert_array_equal(support.targets, query.targets.values)
    numbers = np.asarray(query.targets.signals)
    assert numbers.shape == labels.shape
    np.testing.assert_array_equal(numbers[:, 0], values.min(1).round() // 24)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((24,), r"shots must be at most the 24 pixels of an image with one left to"),
        ((20, 5), r"shots \+ queries must be at most the 24 pixels .* got 20 \+ 5"),
        ((None, 25), r"queries must be at most the 24 pixels of an image, got 25"),
        ((0,), "shots must be a whole number of at least 1, got 0"),
        ((3, 0), "queries must be a whole number of at least 1, got 0"),
    ],
)
def test_more_pixels_than_there_are_is_refused(store, arguments, message):
    for sampler in (mj.data.fields, mj.data.labelled_fields):
        with pytest.raises(mj.InputError, match=message):
            sampler(store, *arguments)


def test_what_holds_no_images_is_refused(store):
    with pytest.raises(mj.InputError, match="episodes of images .* got inputs of"):
        mj.data.fields(mj.data.sinusoid())
    padded = mj.data.varied(mj.data.glyphs(3, 2, 2, size=8), ways=(2, 3), shots=(1, 2))
    with pytest.raises(mj.InputError, match="got inputs of type Padded"):
        mj.data.fields(padded)
    with pytest.raises(mj.InputError, match="got tasks of type ShapeDtypeStruct"):
        mj.data.fields(lambda key, tasks: jnp.zeros((tasks, 1, 8, 8, 1)))
    episodes = mj.data.single_glyphs(size=8)(KEY, 2)
    assert episodes.support.inputs.shape == (2, 1, 8, 8, 1)
    assert episodes.query.inputs.shape == (2, 0, 8, 8, 1)
    with pytest.raises(mj.InputError, match="none of them 0"):
        mj.data.fields(store._replace(images=store.images[:, :, :0]))
    with pytest.raises(mj.InputError, match="size must be .* at least 1, got 0"):
        mj.data.glyphs(size=0)


def test_coordinates_run_right_and_down():
    points = mj.data.pixel_coordinates(2, 3)
    assert points.dtype == jnp.float32
    np.testing.assert_allclose(points[1], [0, -0.5], atol=1e-7)
    np.testing.assert_allclose(points[-1], [2 / 3, 0.5], atol=1e-7)
