"""Pictures of emoji as numbers: a frozen network's features, and pixels."""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.emoji.foundries import FOUNDRIES
from benchmarks.emoji.prepare import HELD, PICTURES
from metajax import data
from metajax._files.writing import write_whole
from metajax.data.folders.contents import hash_bytes
from metajax.data.folders.listing import Split
from metajax.errors import InputError
from metajax.models import Backbone, load_backbone

TOGETHER = 16  # pictures in a call of the network
SPLITS: tuple[Split, ...] = "train", "validation", "test"
# As the files of a name are sorted.
SORTED = sorted(FOUNDRIES, key=lambda foundry: f"{foundry.package}.png")


class Drawings(NamedTuple):
    """Every emoji, as every foundry drew it.

    Attributes:
      values: what stands for a picture, `[names, foundries, ...]`.
      makers: the number of the maker of each foundry, `int[foundries]`; some makers
        have two sets.
    """

    values: np.ndarray
    makers: np.ndarray


def read_pictures(folder: Path, side: int, split: Split) -> np.ndarray:
    """The pictures of a split, `uint8[names, foundries, side, side, 3]`.

    Args:
      folder: that of `prepare`.
      side: of a picture, in pixels.
      split: of the names.

    Raises:
      InputError: if pictures are missing.
    """
    store = data.image_folder(folder / PICTURES, (side, side), split=split)
    if set(store.counts.tolist()) != {len(FOUNDRIES)}:
        raise InputError(
            f"expected {len(FOUNDRIES)} pictures of every name in {folder}, got "
            f"{min(store.counts)} to {max(store.counts)}; prepare it again"
        )
    if split in HELD and len(store.names) != HELD[split]:
        raise InputError(
            f"expected {HELD[split]} {split} names in {folder}, got "
            f"{len(store.names)}; prepare it again"
        )
    return np.asarray(store.images)


def makers() -> np.ndarray:
    """The number of the maker of each foundry, in the order of pictures."""
    names = [foundry.maker for foundry in SORTED]
    return np.array([sorted(set(names)).index(name) for name in names])


def features(folder: Path, weights: Path, split: Split) -> np.ndarray:
    """A network's features of the pictures of a split, computed once.

    They are kept in the folder, by the weights' content and the pictures'.

    Args:
      folder: that of `prepare`.
      weights: a file of safetensors that `load_backbone` takes.
      split: of the names.

    Returns:
      `float32[names, foundries, features]`.
    """
    backbone = load_backbone(weights)
    pictures = read_pictures(folder, backbone.preprocessing.size[0], split)
    key = hash_bytes(weights.read_bytes() + hash_bytes(pictures.tobytes()).encode())
    path = folder / f"features-{split}-{key[:16]}.npy"
    if path.exists():
        return np.load(path)
    result = compute(backbone, pictures.reshape(-1, *pictures.shape[2:]))
    result = result.reshape(*pictures.shape[:2], -1)
    content = io.BytesIO()
    np.save(content, result)
    write_whole(path, content.getvalue())
    return result


def compute(backbone: Backbone, pictures: np.ndarray) -> np.ndarray:
    """A network's features of pictures, a few of them at a time.

    Args:
      backbone: the network.
      pictures: `uint8[n, height, width, channels]`.

    Returns:
      `float32[n, features]`.
    """
    run = jax.jit(lambda x: backbone.model.apply(backbone.params, x / 255))
    parts = []
    for start in range(0, len(pictures), TOGETHER):
        part = pictures[start : start + TOGETHER]
        missing = ((0, TOGETHER - len(part)), (0, 0), (0, 0), (0, 0))
        padded = np.pad(part, missing).astype(np.float32)
        parts.append(np.asarray(run(jnp.asarray(padded)))[: len(part)])
        if start % (50 * TOGETHER) == 0:
            print(f"features: {start} of {len(pictures)}", file=sys.stderr, flush=True)
    return np.concatenate(parts)
