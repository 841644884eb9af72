"""Streamed episodes are the resident ones, and reading ahead leaves nothing behind."""

import copy
import dataclasses
import gc
import multiprocessing
import os
import pickle
import threading
import time
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data import (
    ImageStore,
    Records,
    augmented,
    image_episodes,
    joint_batches,
    shuffle_labels,
    stream_episodes,
    varied,
)
from metajax.data.records import ImageReader
from metajax.data.sampling import StagedSampler
from metajax.data.staging import staged
from metajax.training.checkpoints import Checkpoints
from metajax.training.feeding import feed
from metajax.training.parallel import map_over_tasks
from tests.helpers import KEY

COUNTS = [8, 3, 8, 4, 8, 8]
SETTINGS = dict(steps=12, tasks=4, steps_per_call=5, checkpoint_every=4)


def noise():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 4, 4, 1), np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Uneven classes of noise, in a file."""
    path = tmp_path_factory.mktemp("store") / "images.npy"
    np.save(path, noise())
    images = np.load(path, mmap_mode="r")
    return ImageStore(images, np.array(COUNTS), tuple("abcdef"))


def classifier():
    """A linear one."""

    def init(key):
        return 0.1 * jax.random.normal(key, (16, 3))

    def apply(params, images):
        return images.reshape(len(images), 16) @ params

    return mj.maml(mj.Model(init, apply), mj.cross_entropy, optax.sgd(0.1), 1)


def fit(episodes, **settings):
    return mj.fit(classifier(), optax.sgd(0.1), episodes, **{**SETTINGS, **settings})


def same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def left():
    """Processes, threads and files, shared memory too, that reading may leave."""
    gc.collect()
    children = multiprocessing.active_children()
    names = [thread.name for thread in threading.enumerate()]
    threads = [name for name in names if name.startswith(("metajax-feed", "grain-"))]
    opened = map(os.path.realpath, Path("/proc/self/fd").iterdir())
    files = [name for name in opened if name.endswith(".npy") or "/psm_" in name]
    return len(children), len(threads), len(files)


def settled(before):
    """Whether that is soon what it was."""
    for _ in range(100):
        if left() == before:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("rotations", [1, 4])
def test_the_same_key_gives_the_same_episodes(store, rotations):
    ask = dict(ways=6, shots=1, queries=2, rotations=rotations)
    resident, streamed = image_episodes(store, **ask), stream_episodes(store, **ask)
    expected = resident(KEY, 50)
    assert same(streamed(KEY, 50), expected)
    assert not same(streamed(jax.random.key(1), 50), expected)


def test_in_any_program(store, monkeypatch):
    """As `evaluate` and the studies sample: in a loop, mapped, over devices."""
    monkeypatch.setattr("metajax.training.cutting.WORTH_BYTES", 1)
    ask, keys = dict(ways=3, shots=1, queries=2), jax.random.split(KEY, 8)

    def batches(episodes):
        def some(_, keys):
            return jax.vmap(lambda key: episodes(key, 1))(keys)

        run = map_over_tasks(some, tasks_per_chunk=2, devices=2)
        return jax.jit(run)((), keys)

    streamed = batches(stream_episodes(store, **ask))
    assert len(streamed.query.inputs.sharding.device_set) == 2
    assert same(streamed, batches(image_episodes(store, **ask)))


WRAPS = {
    "plain": lambda episodes: episodes,
    "augmented": lambda episodes: augmented(episodes, shuffle_labels(3)),
    "varied": lambda episodes: varied(
        augmented(episodes, shuffle_labels(3)), (2, 3), (1, 2)
    ),
}


def fed(episodes, steps=(2, 5, 7)):
    """The meta-batches that `fit` would take from one number of steps to the last."""
    start, *ends = steps
    found = feed(episodes, KEY, tasks=3, most=3)

    def end(done):
        return min((e for e in ends if e > done), default=steps[-1])

    with found.dispatches(start, end, None) as batches:
        _, fetched = next(batches)
        for step in range(start, steps[-1]):
            if step in ends:
                _, fetched = next(batches)
            yield episodes.make(fetched.at(jnp.asarray(step)))


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_read_ahead_is_what_would_be_sampled(store, wrap):
    before = left()
    ask = dict(ways=3, shots=2, queries=1, rotations=4)
    stream = stream_episodes(store._replace(images=np.array(store.images)), **ask)
    batches = list(fed(WRAPS[wrap](stream)))
    resident = WRAPS[wrap](image_episodes(store, **ask))
    for step, batch in zip(range(2, 7), batches, strict=True):
        assert same(batch, resident(jax.random.fold_in(KEY, step), 3))
    assert settled(before)


def test_drawn_with_64_bits(float64, store):
    ask = dict(ways=3, shots=2, queries=1)
    batch, *_ = fed(stream_episodes(store, **ask))
    resident = image_episodes(store, **ask)
    assert same(batch, resident(jax.random.fold_in(KEY, 2), 3))
    with jax.enable_x64(False):
        assert same(batch, resident(jax.random.fold_in(KEY, 2), 3))


def test_a_function_of_a_stream_reads_as_it_runs(store):
    stream, resident = (
        make(store, 3, 2, 1) for make in (stream_episodes, image_episodes)
    )

    def counting(a, key, n):
        return a(jax.random.fold_in(key, len(a.counts)), n)

    asks = staged(jax.tree_util.Partial(counting, stream))
    assert feed(asks, KEY, tasks=3, most=3).like is None
    assert feed(augmented(stream, lambda k, e: e), KEY, tasks=3, most=3).like
    ends = [fit(jax.tree_util.Partial(counting, x)) for x in (stream, resident)]
    assert same(*ends)


USES = {
    "called": lambda episodes: episodes(KEY, 2),
    "jitted": lambda episodes: jax.jit(lambda e: e(KEY, 2))(episodes),
    "trained with": lambda episodes: fit(episodes, steps=1),
    "evaluated on": lambda episodes: mj.evaluate(
        classifier(), jnp.zeros((16, 3)), episodes, mj.metrics.accuracy, tasks=2
    ),
}


@pytest.mark.parametrize("use", USES)
def test_images_in_memory_are_freed_with_the_stream(store, use):
    reader = ImageReader(np.array(store.images))
    stream = stream_episodes(store, ways=3, shots=2, queries=1)
    stream = dataclasses.replace(stream, reader=reader)
    USES[use](augmented(stream, shuffle_labels(3)))
    alive = weakref.ref(reader.images)
    del reader, stream
    gc.collect()
    assert alive() is None


def test_a_copy_of_the_leaves_does_not_read_what_was_freed(store):
    stream = stream_episodes(store, ways=3, shots=2, queries=1)
    leaves, kind = jax.tree.flatten(stream)
    assert same(jax.tree.unflatten(kind, leaves)(KEY, 2), stream(KEY, 2))
    del stream
    gc.collect()
    with pytest.raises(mj.InputError, match="was freed; keep the sampler as long as"):
        jax.tree.unflatten(kind, leaves)(KEY, 2)


class Normal(StagedSampler):
    """A sampler that is no pytree."""

    def draw(self, key, tasks):
        return jax.random.normal(key, (tasks,))

    def make(self, fetched):
        return fetched


def test_a_sampler_that_was_freed_says_so():
    leaves, kind = jax.tree.flatten(staged(Normal()))
    gc.collect()
    rebuilt = jax.tree.unflatten(kind, leaves)
    for sampler in (rebuilt, copy.deepcopy(rebuilt)):
        with pytest.raises(mj.InputError, match="was freed; keep the sampler as long"):
            sampler(KEY, 2)


class Slotted:
    """A reader to which there are no weak references."""

    __slots__ = ("read",)

    def __init__(self, read):
        self.read = read

    def __call__(self, *where):
        return self.read(*where)


def test_a_reader_without_weak_references_is_kept(store):
    stream = stream_episodes(store, ways=3, shots=2, queries=1)
    stream = dataclasses.replace(stream, reader=Slotted(stream.reader))
    leaves, kind = jax.tree.flatten(stream)
    expected = stream(KEY, 2)
    del stream
    gc.collect()
    assert same(jax.tree.unflatten(kind, leaves)(KEY, 2), expected)


def test_large_meta_batches_take_fewer_steps_a_dispatch(store, monkeypatch):
    monkeypatch.setattr("metajax.training.feeding.MOST_BYTES", 1000)
    stream = stream_episodes(store, 3, 2, 1)  # 432 bytes for three tasks
    assert feed(stream, KEY, tasks=3, most=5).most == 2
    assert feed(stream, KEY, tasks=30, most=5).most == 1


def test_trains_to_the_same_parameters(store, tmp_path):
    ask = dict(ways=3, shots=1, queries=2, rotations=4)
    before = left()
    stream = stream_episodes(store, **ask)
    whole = fit(stream)
    assert int(whole.step) == 12
    assert same(whole, fit(image_episodes(store, **ask)))

    checkpoints, asked = Checkpoints(tmp_path), iter([False, False, True])
    with pytest.raises(mj.StoppedError, match="after 5 of 12"):
        fit(stream, checkpoints=checkpoints, stop=lambda: next(asked))
    assert same(fit(stream, checkpoints=checkpoints), whole)
    assert settled(before)


class Torn:
    """A data source of which one record cannot be read."""

    def __getitem__(self, index):
        if index == 4:
            raise OSError("record 4 is torn")
        return {"images": np.full((8, 4, 4, 1), index, np.uint8)}


def torn(**settings):
    store = ImageStore(
        Records(Torn, "images", (6, 8, 4, 4, 1)), np.array(COUNTS), tuple("abcdef")
    )
    return stream_episodes(store, 2, 1, 1, **settings)


def test_a_failing_read_is_told():
    before = left()
    # The first step of which it draws class 4, which is not the first of all.
    match = r"cannot read meta-step \d+ \(OSError: record 4 is torn\)"
    with pytest.raises(OSError, match=match):
        list(fed(torn(), steps=(0, 3, 30)))
    assert settled(before)


class Noise:
    """A data source that another process, kept off an accelerator, may read."""

    def __getitem__(self, index):
        assert multiprocessing.parent_process() and jax.default_backend() == "cpu"
        assert os.environ["JAX_PLATFORMS"] == "cpu", "as the main module finds it"
        return {"images": noise()[index]}


def test_worker_processes_read_and_end(store):
    before, platforms = left(), os.environ.get("JAX_PLATFORMS")
    ask = dict(ways=3, shots=2, queries=1)
    there = store._replace(images=Records(Noise, "images", store.images.shape))
    reading = fed(stream_episodes(there, **ask, workers=1))
    first = next(reading)
    assert left()[0] == 1
    reading.close()  # in the middle, as an error does
    assert settled(before) and os.environ.get("JAX_PLATFORMS") == platforms
    assert same(first, image_episodes(store, **ask)(jax.random.fold_in(KEY, 2), 3))


def test_records_are_an_array():
    records = Records(Torn, "images", (4, 8, 4, 4, 1))
    names = tuple("abcd")
    whole = np.asarray(records)
    assert whole.shape == records.shape and len(records) == 4
    assert whole[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    batches = joint_batches(ImageStore(records, np.full(4, 8), names), 5)
    np.testing.assert_array_equal(batches.images, whole)
    assert pickle.loads(pickle.dumps(records)).shape == records.shape


def test_a_file_is_sent_to_a_process_by_name(store):
    place = np.array([[1, 2]]), np.array([[[0], [2]]])
    for images, large in ((store.images, False), (store.images[::2], True)):
        sent = pickle.dumps(ImageReader(images))
        assert (len(sent) > 300) == large
        np.testing.assert_array_equal(
            pickle.loads(sent)(*place), ImageReader(images)(*place)
        )


def test_refuses_what_image_episodes_refuses(store, monkeypatch):
    with pytest.raises(mj.InputError, match=r"images a class, 3 \(of b\)"):
        stream_episodes(store, 2, 2, 2)
    with pytest.raises(mj.InputError, match="workers must be a whole number"):
        stream_episodes(store, 2, 1, 1, workers=-1)
    monkeypatch.setitem(__import__("sys").modules, "grain", None)
    with pytest.raises(mj.InputError, match="pip install grain"):
        fit(stream_episodes(store, 3, 1, 1))
