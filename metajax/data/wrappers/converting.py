"""Episodes whose images are resized, made grey or coloured, or inverted."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.staging import staged
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode, PyTree, Sampler

GREY = 0.299, 0.587, 0.114  # shares of red, green and blue (ITU-R BT.601)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Converted(SamplerWrapper):
    """The sampler that `converted` makes: `episodes(key, tasks) -> Episode`."""

    episodes: StagedSampler
    shape: tuple[int, int, int] = field(metadata={"static": True})
    inverted: bool = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, tuple]:
        """Draws the tasks of the other sampler, and nothing of its own."""
        return self.episodes.draw(key, tasks), ()

    def make(self, fetched: tuple[PyTree, tuple]) -> Episode:
        """Makes the episodes of the other sampler, and converts their images."""
        support, query = jax.vmap(self._convert)(self.episodes.make(fetched[0]))
        return Episode(support, query)

    def _convert(self, episode: Episode) -> Episode:
        def convert(batch: Batch) -> Batch:
            images = convert_images(batch.inputs, self.shape)
            return batch._replace(inputs=1 - images if self.inverted else images)

        return Episode(*map(convert, episode))


def converted(
    episodes: Sampler, shape: tuple[int, int, int], *, inverted: bool = False
) -> Converted:
    """A sampler whose images have another shape, or are inverted.

      x ← 1 - resize(x),   if inverted

    The tasks are the same as without it. It shows a network images of another family
    than those that it was trained on.

    Args:
      episodes: a sampler of episodes of images, in [0, 1].
      shape: (height, width, channels) of the result; see `convert_images`.
      inverted: whether dark becomes bright.

    Returns:
      A sampler.

    Raises:
      InputError: if `shape` is not three numbers of at least 1; when it is called, if
        the channels cannot be made.

    >>> from metajax.data import glyphs
    >>> episodes = converted(glyphs(5, 1, 5), (32, 32, 3), inverted=True)
    >>> tasks = jax.eval_shape(lambda key: episodes(key, 2), jax.random.key(0))
    >>> tasks.support.inputs.shape
    (2, 5, 32, 32, 3)
    """
    if len(shape) != 3:
        raise InputError(f"shape must be (height, width, channels), got {shape}")
    height, width, channels = shape
    for name, size in zip(("height", "width", "channels"), shape):
        check_count(name, size, least=1)
    return Converted(staged(episodes), (height, width, channels), inverted)


def convert_images(images: Array, shape: tuple[int, int, int]) -> Array:
    """Images of another shape.

    They are resized bilinearly, each pixel of a smaller image from all that it covers.
    Three channels become one by their luminance, and one becomes three alike.

    Args:
      images: `float[n, height, width, channels]`.
      shape: (height, width, channels) of the result.

    Returns:
      `float[n, *shape]`.

    Raises:
      InputError: if the numbers of channels differ, and are not 1 and 3.

    >>> images = jnp.ones((1, 4, 4, 3)) * jnp.array([1.0, 0.0, 0.0])
    >>> print(f"{convert_images(images, (2, 2, 1))[0, 0, 0, 0]:.3f}")
    0.299
    """
    *_, before = images.shape
    height, width, channels = shape
    if before != channels and {before, channels} != {1, 3}:
        raise InputError(
            f"images of {before} channels cannot become images of {channels}: expected "
            "1 and 3, or the same number"
        )
    if (before, channels) == (3, 1):
        parts = [share * images[..., k : k + 1] for k, share in enumerate(GREY)]
        images = parts[0] + parts[1] + parts[2]
    if images.shape[1:3] != (height, width):
        size = (len(images), height, width, images.shape[3])
        images = jax.image.resize(images, size, "bilinear")
    return jnp.broadcast_to(images, (*images.shape[:3], channels))
