"""Whether a store of images is whole, and has enough of them for an episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metajax.checks import check_count
from metajax.data.drawing import ROTATIONS, Shape
from metajax.errors import InputError, argument

SHOWN = 5  # classes that a message names


def check_rotations(rotations: Any) -> None:
    """Checks that each class can be turned so often.

    Raises:
      InputError: if it is neither 1 nor 4.
    """
    if check_count("rotations", rotations, least=1) not in ROTATIONS:
        raise InputError(f"rotations must be 1 or 4, got {rotations!r}")


def check_images(images: Any) -> None:
    """Checks the shape and the type of stored images.

    Raises:
      InputError: if they are not as `ImageStore` has them.
    """
    shape = getattr(images, "shape", ())
    if len(shape) != 5 or images.dtype != np.uint8 or 0 in shape:
        kind = getattr(images, "dtype", type(images).__name__)
        raise InputError(
            "images must be uint8[classes, per_class, height, width, channels], none "
            f"of them 0, got {kind}{list(shape)}"
        )


def check_counts(counts: np.ndarray, names: Sequence[str], shape: Sequence) -> None:
    """Checks how many images each class has, and that each class has a name.

    Args:
      counts: of the images of each class.
      names: of the classes.
      shape: of all images.

    Raises:
      InputError: if they do not fit the images.
    """
    classes, per_class = shape[:2]
    if counts.shape != (classes,) or len(names) != classes:
        raise InputError(
            f"counts and names must have one entry for each of {classes} classes, got "
            f"{counts.shape} and {len(names)}"
        )
    whole = counts.dtype.kind in "iu"
    if not whole or not 1 <= counts.min() <= counts.max() <= per_class:
        raise InputError(
            f"counts must be at most the {per_class} images stored a class, and whole "
            f"numbers of at least 1, got {counts.dtype} of {counts.min()} to "
            f"{counts.max()}"
        )


def check_enough(shape: Shape, counts: np.ndarray, names: Sequence[str]) -> None:
    """Checks that a store has enough classes, and enough images of each.

    Args:
      shape: of an episode.
      counts: of the images of each class.
      names: of the classes.

    Raises:
      InputError: if there are fewer classes than `ways`, or classes of fewer images
        than `shots + queries`; it says how many, and what to change.
    """
    ways, shots, queries, rotations, _ = shape
    for name, value in dict(ways=ways, shots=shots, queries=queries).items():
        check_count(name, value, least=1)
    store = argument("store")
    if ways > len(counts) * rotations:
        raise InputError(
            f"{argument('ways')} must be at most the number of classes, "
            f"{len(counts) * rotations} in {argument('stored', store)}, got {ways}"
        )
    needed = shots + queries
    order = np.argsort(counts, kind="stable")
    small = [int(i) for i in order if counts[i] < needed]
    if not small:
        return
    shown = [f"{names[i]} has {counts[i]}" for i in small[:SHOWN]]
    rest = [f"and {len(small) - SHOWN} more"] if len(small) > SHOWN else []
    mend = f"make {argument('shots')} or {argument('queries')} smaller, or add images"
    if len(small) < len(counts):
        drop = argument("min_per_class", f"image_folder(min_per_class={needed})")
        mend += f", or leave such classes out with {drop}"
    if 0 < (left := len(counts) - len(small)) * rotations < ways:
        mend += f" (which leaves {left}, too few for {ways} {argument('ways')})"
    raise InputError(
        f"{argument('shots')} + {argument('queries')} must be at most the images a "
        f"class, {counts[small[0]]} (of {names[small[0]]}), got {shots} + {queries} = "
        f"{needed}: {len(small)} of the {len(counts)} classes in {store} are too small "
        f"({', '.join(shown + rest)}); {mend}"
    )
