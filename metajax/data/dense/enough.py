"""Whether a store has enough classes, and enough images of each, for dense episodes."""

from collections.abc import Sequence

import numpy as np

from metajax.checks import check_count, check_known
from metajax.data.dense.drawing import DenseShape
from metajax.data.dense.store import DenseStore, Targets, find_classes
from metajax.data.folders.names import some
from metajax.errors import InputError, argument


def choose_classes(names: Sequence[str], classes: Sequence[str] | None) -> np.ndarray:
    """The numbers of the classes of those names, all by default.

    Raises:
      InputError: if there is no such class, or one is named twice.
    """
    if classes is None:
        return np.arange(len(names))
    if isinstance(classes, str):
        raise InputError(f"{argument('classes')} must be a list of names, got one text")
    for name in classes:
        check_known("class", name, names)
    if len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise InputError(
            f"{argument('classes')} must be distinct, got {some(twice)} twice"
        )
    return np.array([list(names).index(name) for name in classes], int)


def check_dense_enough(
    shape: DenseShape, contains: np.ndarray, names: Sequence[str]
) -> None:
    """Checks that every episode can be drawn.

    A class needs `shots + queries` images, and as many more with it as the support
    images of the other classes may take: query images are no support images.

    Args:
      shape: of an episode.
      contains: which images contain which class, `bool[classes, images]`.
      names: of the classes.

    Raises:
      InputError: if there are fewer classes than `ways`, or too few images of some; it
        says which, how many there are and how many are needed.
    """
    ways, shots, queries, _ = shape
    for name, value in dict(ways=ways, shots=shots, queries=queries).items():
        check_count(name, value, least=1)
    if ways > len(names):
        raise InputError(
            f"{argument('ways')} must be at most the number of classes, {len(names)}, "
            f"got {ways}"
        )
    counts = contains.sum(1)
    others = _taken(shape, contains)
    needed = shots + queries + others
    if not (small := [int(i) for i in np.flatnonzero(counts < needed)]):
        return
    said = some(f"{names[i]} has {counts[i]} of {needed[i]}" for i in small)
    also = ""
    if others[small].any():
        also = ", and as many as the support images of its other classes may take"
    raise InputError(
        f"{len(small)} of {len(names)} classes are in too few images: {said}; an "
        f"episode needs {shots} {argument('shots')} + {queries} {argument('queries')} "
        f"of each class{also}; add images, make these smaller, or leave classes out "
        f"with {argument('classes')}"
    )


def enough_classes(
    store: DenseStore, ways: int, shots: int, queries: int, targets: Targets
) -> tuple[str, ...]:
    """The names of the classes that are in enough images for every episode.

    Args:
      store: the images.
      ways: of episodes; see `metajax.data.dense_episodes`.
      shots: see there.
      queries: see there.
      targets: see there.

    Raises:
      InputError: if the store is not as `DenseStore` has it.
    """
    contains = find_classes(store, targets)
    shape = DenseShape(ways, shots, queries, len(store.images))
    enough = contains.sum(1) >= shots + queries + _taken(shape, contains)
    return tuple(name for name, kept in zip(store.names, enough) if kept)


def _taken(shape: DenseShape, contains: np.ndarray) -> np.ndarray:
    """How many images of each class the support images of others may take."""
    # Whole numbers below 2**24 are exact, and products of floats are fast.
    together = contains.astype(np.float32) @ contains.T.astype(np.float32)
    np.fill_diagonal(together, 0)
    most = np.sort(together, axis=1)[:, ::-1][:, : shape.ways - 1]
    return np.minimum(most, shape.shots).sum(1).astype(int)
