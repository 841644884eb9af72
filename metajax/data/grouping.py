"""Tasks of the classes of one group each: an alphabet, a folder of folders."""

import warnings
from itertools import zip_longest

import numpy as np

from metajax.checks import check_count
from metajax.data.images import ImageStore
from metajax.errors import InputError
from metajax.types import Batch


def grouped_tasks(
    store: ImageStore, ways: int, examples: int, *, tasks: int = 100, seed: int = 0
) -> tuple[Batch, tuple[str, ...]]:
    """Classification tasks, each of classes of one group, no two of a shared class.

    The group of a class is what its name has before the last "/": the alphabet of a
    character of Omniglot, the outer folders of a folder of images. All classes whose
    name has none are one group, "".

    Args:
      store: the images.
      ways: classes a task.
      examples: images a class; classes with fewer are left out, with a warning.
      tasks: how many there are at most; groups take turns.
      seed: of which classes are together, and of the images.

    Returns:
      A `Batch` of all tasks: inputs `float32[tasks, ways * examples, ...]` in [0, 1]
      and labels, grouped by class; and the group of each task, in their order.

    Raises:
      InputError: if no class has as many images as `examples`, or no group as many
        such classes as `ways`.

    >>> names = tuple(f"{a}/{b}" for a in ("Greek", "Latin") for b in range(5))
    >>> store = ImageStore(np.zeros((10, 4, 8, 8, 1), np.uint8), np.full(10, 4), names)
    >>> batch, groups = grouped_tasks(store, ways=2, examples=3)
    >>> groups, batch.inputs.shape
    (('Greek', 'Greek', 'Latin', 'Latin'), (4, 6, 8, 8, 1))
    """
    for name, value in dict(ways=ways, examples=examples, tasks=tasks).items():
        check_count(name, value, least=1)
    rng, store = np.random.default_rng(seed), _large_classes(store, examples)
    chosen = _tasks_of_groups(store, ways, rng)[:tasks]
    if not chosen:
        raise InputError(
            f"expected a group of at least {ways} classes among the {len(store.names)} "
            "classes; name classes GROUP/CLASS, or take fewer ways"
        )
    chosen.sort(key=lambda task: task[0])
    groups, classes = zip(*chosen)
    counts = np.asarray(store.counts)[np.stack(classes)]
    drawn = [[rng.permutation(n)[:examples] for n in task] for task in counts]
    images = store.images[np.stack(classes)[..., None], np.array(drawn)]
    inputs = images.reshape(len(chosen), ways * examples, *images.shape[3:])
    labels = np.repeat(np.arange(ways, dtype=np.int32), examples)
    targets = np.tile(labels, (len(chosen), 1))
    return Batch(inputs.astype(np.float32) / np.float32(255), targets), groups


def _large_classes(store: ImageStore, examples: int) -> ImageStore:
    """The classes with at least so many images; how many are left out is printed."""
    counts = np.asarray(store.counts)
    large = np.flatnonzero(counts >= examples)
    if len(large) == len(counts):
        return store
    if not len(large):
        raise InputError(
            f"no class has {examples} images, and a task takes as many of each: the "
            f"largest has {counts.max()}; add images, or take fewer examples"
        )
    warnings.warn(
        f"{len(counts) - len(large)} of the {len(counts)} classes have fewer than "
        f"{examples} images and are left out",
        stacklevel=3,
    )
    return store.take(large)


def _tasks_of_groups(
    store: ImageStore, ways: int, rng: np.random.Generator
) -> list[tuple[str, np.ndarray]]:
    """Groups and the places of their tasks' classes: the first of each group first."""
    own = np.array([name.rpartition("/")[0] for name in store.names])
    cut = []
    for group in np.unique(own):
        places = rng.permutation(np.flatnonzero(own == group))
        whole = len(places) // ways * ways
        cut.append([(str(group), x) for x in places[:whole].reshape(-1, ways)])
    return [task for turn in zip_longest(*cut) for task in turn if task is not None]
