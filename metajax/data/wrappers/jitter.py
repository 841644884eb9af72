"""Small random changes of single images."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from metajax.data.wrappers.augmentation import Transform
from metajax.data.wrappers.transforms import check_images
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode


def jitter(
    *,
    shift: float = 0.0,
    turn: float = 0.0,
    scale: float = 0.0,
    contrast: float = 0.0,
    brightness: float = 0.0,
) -> Transform:
    """Moves, turns, scales and tones each image of an episode a little at random.

      x'(p) = x(c + (1 + scale u₁) R(turn u₂) (p - c) + shift u₃ side),  u ~ U[-1, 1]
      x'' = m + (1 + contrast u₄) (x' - m) + brightness u₅

    for each pixel p, with c the image's centre and m its mean; u₃ is of two numbers.
    Sampling is bilinear, and the edge goes on beyond the image. Nothing is clipped.

    Args:
      shift: the largest shift along each axis, a share of the image's side, below 1.
      turn: the largest turn, in degrees.
      scale: the largest change of scale, a share, below 1.
      contrast: the largest change of contrast, a share, below 1.
      brightness: the largest change of brightness, in the images' own unit.

    Returns:
      A transform of episodes with inputs `float[n, height, width, channels]`.

    Raises:
      InputError: for a bound out of range; when it is called, if the inputs are not
        images.

    >>> batch = Batch(jnp.ones((2, 8, 8, 1)), jnp.array([0, 1]))
    >>> moved = jitter(shift=0.1, turn=10)(jax.random.key(0), Episode(batch, batch))
    >>> float(jnp.max(jnp.abs(moved.support.inputs - 1.0))) < 1e-6
    True
    """
    for name, value, below in (
        ("shift", shift, 1.0),
        ("turn", turn, math.inf),
        ("scale", scale, 1.0),
        ("contrast", contrast, 1.0),
        ("brightness", brightness, math.inf),
    ):
        if not 0 <= value < below:
            raise InputError(
                f"{name} must be at least 0 and below {below}, got {value!r}"
            )
    bounds = scale, math.radians(turn), shift, shift, contrast, brightness

    def transform(key: Array, episode: Episode) -> Episode:
        def side(key: Array, batch: Batch) -> Batch:
            check_images("jitter", batch.inputs)
            keys = jax.random.split(key, len(batch.inputs))
            change = jax.vmap(partial(_jitter, bounds))
            return batch._replace(inputs=change(keys, batch.inputs))

        return Episode(*map(side, jax.random.split(key), episode))

    return transform


def _jitter(bounds: tuple[float, ...], key: Array, image: Array) -> Array:
    u = jax.random.uniform(key, (len(bounds),), image.dtype, -1.0, 1.0)
    scale, turn, down, right, contrast, brightness = (
        bound * u[i] for i, bound in enumerate(bounds)
    )
    moved = move(image, 1.0 + scale, turn, jnp.stack([down, right]))
    mean = jnp.mean(moved)
    return mean + (1.0 + contrast) * (moved - mean) + brightness


def move(image: Array, scale: Array, turn: Array, shift: Array) -> Array:
    """An image sampled on a grid that is scaled, turned and shifted.

    Args:
      image: `float[height, width, channels]`.
      scale: of the grid: 2 shows everything at half its size.
      turn: of the image, in radians, in the sense of `np.rot90`.
      shift: of the grid, down and right, as shares of the image's sides, `float[2]`.

    Returns:
      The image, of the same shape.
    """
    sides, dtype = image.shape[:2], image.dtype
    centres = [(side - 1) / 2 for side in sides]
    axes = [jnp.arange(side, dtype=dtype) - c for side, c in zip(sides, centres)]
    rows, columns = jnp.meshgrid(*axes, indexing="ij")
    cos, sin = scale * jnp.cos(turn), scale * jnp.sin(turn)
    points = [
        cos * rows + sin * columns + (centres[0] + shift[0] * sides[0]),
        cos * columns - sin * rows + (centres[1] + shift[1] * sides[1]),
    ]
    sample = partial(map_coordinates, coordinates=points, order=1, mode="nearest")
    return jax.vmap(sample, -1, -1)(image)
