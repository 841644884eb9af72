"""Images as functions of coordinates: pixels to learn from, and pixels to predict."""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.drawing import sample_distinct
from metajax.data.images import ImageStore
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.single import single_images
from metajax.data.staging import staged
from metajax.errors import InputError, argument
from metajax.types import Array, Batch, Episode, PyTree, Sampler


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Fields(SamplerWrapper):
    """The sampler that `fields` makes: `episodes(key, tasks) -> Episode`.

    Inputs are coordinates `float32[tasks, n, 2]`, targets the values there,
    `float32[tasks, n, channels]`.
    """

    episodes: StagedSampler
    shots: int | None = field(metadata={"static": True})
    queries: int | None = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, Array]:
        """Draws images, and a key for the pixels of each."""
        image_key, pixel_key = jax.random.split(key)
        keys = jax.random.split(pixel_key, tasks)
        return self.episodes.draw(image_key, tasks), keys

    def make(self, fetched: tuple[PyTree, Array]) -> Episode:
        """Makes the images, and draws pixels of each."""
        tasks, keys = fetched
        images = self.episodes.make(tasks).support.inputs[:, 0]
        split = partial(split_pixels, shots=self.shots, queries=self.queries)
        return jax.vmap(split)(keys, images)


def fields(
    images: ImageStore | Sampler,
    shots: int | None = None,
    queries: int | None = None,
) -> Fields:
    """Regression of images: each task is one image, a function of coordinates.

    An input is the centre (x, y) of a pixel, in [-1, 1]²: x to the right, y down. Its
    target is the value there. A task's support and query sets are disjoint sets of
    pixels, drawn uniformly and in random order.

    Args:
      images: a store, of which each task draws a class and an image of it; or a
        sampler of episodes of images, of which each task takes the first support image.
      shots: support pixels a task. None for all: then query pixels are among the
        support's, and tell how well an image is fitted, not how well it is completed.
      queries: query pixels a task; None for all that there are.

    Returns:
      A sampler.

    Raises:
      InputError: if there are fewer pixels than asked for, a number is below 1, or the
        sampler is not of such episodes.

    >>> import numpy as np
    >>> pictures = np.zeros((6, 20, 28, 28, 1), np.uint8)
    >>> store = ImageStore(pictures, np.full(6, 20), tuple("abcdef"))
    >>> support, query = fields(store, shots=200)(jax.random.key(0), 4)
    >>> support.inputs.shape, query.targets.shape
    ((4, 200, 2), (4, 584, 1))
    """
    source = images if not isinstance(images, ImageStore) else single_images(images)
    source = staged(source)
    like = jax.eval_shape(lambda: source(jax.random.key(0), 1))
    height, width = _image_size(like)
    check_pixels(height, width, shots, queries)
    return Fields(source, shots, queries)


def pixel_coordinates(height: int, width: int) -> Array:
    """The centres of an image's pixels in [-1, 1]², x to the right and y down.

    Args:
      height: of the image.
      width: of the image.

    Returns:
      (x, y) in the order of rows, `float32[height * width, 2]`.

    >>> pixel_coordinates(1, 2).tolist()
    [[-0.5, 0.0], [0.5, 0.0]]
    """
    y, x = ((2 * jnp.arange(n, dtype=jnp.float32) + 1) / n - 1 for n in (height, width))
    return jnp.stack([jnp.tile(x, height), jnp.repeat(y, width)], axis=-1)


def check_pixels(
    height: int, width: int, shots: int | None, queries: int | None
) -> None:
    """Checks that an image has as many pixels as a task takes.

    Raises:
      InputError: if it has fewer, or a number is below 1.
    """
    both = {"shots": shots, "queries": queries}
    asked = {name: count for name, count in both.items() if count is not None}
    for name, count in asked.items():
        check_count(name, count, least=1)
    pixels, some_left = height * width, asked.keys() == {"shots"}
    if sum(asked.values()) + some_left > pixels:
        more = " with one left to predict" if some_left else ""
        raise InputError(
            f"{' + '.join(map(argument, asked))} must be at most the {pixels} pixels "
            f"of an image{more}, got {' + '.join(map(str, asked.values()))}; take "
            "fewer, or larger images"
        )


def _image_size(tasks: PyTree) -> tuple[int, int]:
    """Height and width of the images of episodes.

    Raises:
      InputError: if they are no episodes of images.
    """
    inputs = tasks.support.inputs if isinstance(tasks, Episode) else None
    shape = getattr(inputs, "shape", None)
    if shape is not None and len(shape) == 5:
        return shape[2], shape[3]
    what = f"tasks of type {type(tasks).__name__}"
    if isinstance(tasks, Episode):
        what = "inputs of " + (
            f"type {type(inputs).__name__}" if shape is None else f"shape {shape}"
        )
    raise InputError(
        "fields need episodes of images [tasks, images, height, width, channels], got "
        f"{what}; give a store, or such a sampler"
    )


def split_pixels(
    key: Array, image: Array, *, shots: int | None, queries: int | None
) -> Episode:
    """Splits the pixels of ONE image into a support and a query set.

    Args:
      key: a PRNG key.
      image: `float32[height, width, channels]`.
      shots: see `fields`.
      queries: see `fields`.

    Returns:
      An `Episode` of coordinates and values.
    """
    height, width, channels = image.shape
    pixels = height * width
    values = image.reshape(pixels, channels)
    first = 0 if shots is None else shots
    last = pixels if queries is None else first + queries
    order = sample_distinct(
        key, jnp.ones(pixels, jnp.float32), pixels if shots is None else last
    )

    def batch(rows: Array) -> Batch:
        return Batch(pixel_coordinates(height, width)[rows], values[rows])

    return Episode(batch(order[:shots]), batch(order[first:last]))
