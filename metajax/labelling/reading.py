"""From image files to a learner's inputs, which may be features that were kept."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.folders.contents import hash_bytes
from metajax.data.pictures.decoding import Pixels, decode, decode_file, opened
from metajax.data.pictures.unlabelled import (
    Unreadable,
    decode_ahead,
    in_order,
    unreadable,
)
from metajax.errors import FilesError
from metajax.labelling.learner import ImageLearner
from metajax.labelling.pictures.feature_cache import FeatureCache
from metajax.types import Array

BATCH = 64  # images at a time
EMBEDDED = 16  # of which features are computed at a time
SIDE_BY_SIDE = 2  # such batches: on two cores 47 pictures a second, by one 36
WAITING = 1024  # files of known features, at most, until others fill a batch
AHEAD = 256  # files begun


class InputBatch(NamedTuple):
    """Inputs of images, in batches of one shape.

    Attributes:
      files: the paths of the images, at most as many as there are inputs.
      inputs: `float32[size, ...]`; what follows the files' is padding.
      images: each gives its image, `uint8[height, width, channels]`, which may have to
        be decoded first, and raises a `FilesError` if its file is gone.
      at_hand: which images need not be decoded first, `bool[files]`.
    """

    files: tuple[str, ...]
    inputs: Array
    images: Sequence[Callable[[], np.ndarray]]
    at_hand: Sequence[bool]


def read_inputs(
    learner: ImageLearner,
    folder: Path,
    files: Sequence[str],
    *,
    refuse: Callable[[Unreadable], None],
    bits: int | None = None,
) -> Iterator[InputBatch]:
    """Reads files as a learner's inputs, in order, in batches of one shape.

    Where the learner is of features that are kept, a file whose content is known is not
    decoded.

    Args:
      learner: the learner.
      folder: where the files are.
      files: their paths below it.
      refuse: takes what could not be read, in order.
      bits: see `metajax.data.pictures.decoding.decode`.

    Yields:
      `InputBatch`es of at least one image.
    """
    read = _read_images if learner.embedding is None else _read_features
    return read(learner, folder, files, refuse, learner.format.pixels(bits))


def _read_images(
    learner: ImageLearner,
    folder: Path,
    files: Sequence[str],
    refuse: Callable[[Unreadable], None],
    pixels: Pixels,
) -> Iterator[InputBatch]:
    size, mode, bits, fit = pixels
    batches = decode_ahead(
        folder, files, size, mode, batch=BATCH, refuse=refuse, bits=bits, fit=fit
    )
    for names, images in batches:
        given = [partial(_given, image) for image in images[: len(names)]]
        yield InputBatch(names, learner.inputs(images), given, [True] * len(names))


def _given(image: np.ndarray) -> np.ndarray:
    return image


class _File(NamedTuple):
    """A file that was read, with its image where its feature is not known."""

    name: str
    content: str
    feature: np.ndarray | None
    image: np.ndarray | None


def _read_features(
    learner: ImageLearner,
    folder: Path,
    files: Sequence[str],
    refuse: Callable[[Unreadable], None],
    pixels: Pixels,
) -> Iterator[InputBatch]:
    read = partial(_read_file, folder, pixels, learner.cache)
    waiting: list[_File] = []
    unknown = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for file in in_order(threads, read, files, AHEAD):
            if isinstance(file, Unreadable):
                refuse(file)
                continue
            waiting.append(file)
            unknown += file.feature is None
            if unknown == BATCH or len(waiting) == WAITING:
                yield from _batches(learner, folder, pixels, waiting)
                waiting, unknown = [], 0
    yield from _batches(learner, folder, pixels, waiting)


def _read_file(
    folder: Path, pixels: Pixels, cache: FeatureCache | None, name: str
) -> _File | Unreadable:
    """Reads a file once, so that a feature is that of the content it is kept by."""
    try:
        with opened(folder / name) as file:
            content = file.read()
            # Other pixels of 16 bits have other features.
            key = f"{hash_bytes(content)}-{pixels.bits}"
            feature = None if cache is None else cache.find(key)
            if feature is not None:
                return _File(name, key, feature, None)
            return _File(name, key, None, decode_file(io.BytesIO(content), *pixels))
    except FilesError as error:
        return unreadable(folder, name, error)


def _batches(
    learner: ImageLearner, folder: Path, pixels: Pixels, files: list[_File]
) -> Iterator[InputBatch]:
    """The files' features, computed where they are not known."""
    images = {x.content: x.image for x in files if x.image is not None}
    features = dict(zip(images, embed_images(learner, list(images.values()))))
    if features and (cache := learner.cache) is not None:
        cache.add(features.items())
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        rows = [features.get(x.content, x.feature) for x in part]
        padded = np.zeros((BATCH, *learner.input_shape), np.float32)
        padded[: len(rows)] = np.stack(rows)
        again = [
            partial(decode, folder / x.name, *pixels)
            if x.image is None
            else partial(_given, x.image)
            for x in part
        ]
        names = tuple(x.name for x in part)
        at_hand = [x.image is not None for x in part]
        inputs = learner.whitened(jnp.asarray(padded))
        yield InputBatch(names, inputs, again, at_hand)


def embed_images(
    learner: ImageLearner, images: np.ndarray | Sequence[np.ndarray]
) -> np.ndarray:
    """The features of images, computed by one program a few at a time.

    Args:
      learner: of features.
      images: `uint8[height, width, channels]` each.

    Returns:
      `float32[images, ...]`.
    """
    # JAX keeps what a caller set by `with` for the caller's thread alone.
    device = jax.config.jax_default_device  # pyright: ignore
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore

    def embed(start: int) -> np.ndarray:
        part = np.asarray(images[start : start + EMBEDDED])
        padding = [(0, EMBEDDED - len(part)), (0, 0), (0, 0), (0, 0)]
        with jax.default_device(device), jax.default_matmul_precision(precision):
            return np.asarray(learner.features(np.pad(part, padding)))[: len(part)]

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        inputs = list(threads.map(embed, range(0, len(images), EMBEDDED)))
    return np.concatenate([np.zeros((0, *learner.input_shape), np.float32), *inputs])
