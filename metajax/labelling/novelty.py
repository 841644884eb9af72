"""How strange a picture is: its distance to the nearest labelled one, calibrated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Array

SIDE = 7  # of a picture's thumbnail, in pixels
LEAST = 1e-4  # of a squared distance: two grey levels and a half
SHARE = 0.02  # of all pictures that are taken to be of no labelled class


class Novelty(NamedTuple):
    """How strange a picture is, from its distance d to the nearest labelled one.

      novelty(x) = sigmoid(slope (log d(x) - middle)),  in [0, 1]

    It is the probability that x is of no labelled class, if half of the pictures were.

    Attributes:
      references: the `thumbnails` of the labelled pictures, `float[n, features]`.
      slope: by how much the log-odds grow with log d.
      middle: log d where the novelty is 1/2.
      usual: the share of labelled pictures of a novelty above 1/2, each beside the
        others; NaN if each class has one picture.
      least_area: the lower end of the 95 % interval of the area under the ROC curve;
        NaN likewise.
    """

    references: Array
    slope: float | Array
    middle: float | Array
    usual: float | Array = np.nan
    least_area: float | Array = np.nan

    def __call__(self, inputs: Array) -> Array:
        """The novelty of inputs `float[m, ...]`, `float[m]`; traced."""
        nearest = log_distances(thumbnails(inputs), self.references).min(axis=1)
        slope = jnp.asarray(self.slope, nearest.dtype)
        middle = jnp.asarray(self.middle, nearest.dtype)
        return jax.nn.sigmoid(slope * (nearest - middle))

    def is_guess(self) -> bool:
        """Whether the interval of the area, in whole percent, includes 50 %."""
        return bool(self.least_area < 0.505)


def known(novelty: Array) -> Array:
    """The probability that pictures are of a labelled class, if 2 % are of none.

      (1 - π)(1 - s) / ((1 - π)(1 - s) + π s),   π = 0.02, s the novelty

    Confidences are multiplied by it. That takes about 0.01 from those of known
    pictures, on average, and nearly all from those of pictures unlike any labelled one.

    >>> print([f"{p:.2f}" for p in known(jnp.array([0.5, 0.9, 0.999])).tolist()])
    ['0.98', '0.84', '0.05']
    """
    ours, theirs = (1 - SHARE) * (1 - novelty), SHARE * novelty
    return ours / (ours + theirs)


def thumbnails(inputs: Array) -> Array:
    """What distances are measured between: coarse pictures, or features of length one.

    Args:
      inputs: pictures `float[n, height, width, channels]`, or features `float[n, d]`.

    Returns:
      `float[n, features]`. Of pictures, its squared distances are means over pixels.

    Distances of pictures at 7 x 7 pixels told pictures of other classes apart better
    than the largest logit, the largest probability, its margin, and distances at 14 x
    14 and 28 x 28 pixels, see `benchmarks/README.md`.
    """
    if inputs.ndim == 4:
        n, height, width, channels = inputs.shape
        shape = n, min(SIDE, height), min(SIDE, width), channels
        small = jax.image.resize(inputs, shape, "linear").reshape(n, -1)
        return small / np.sqrt(small.shape[1]).astype(small.dtype)
    flat = inputs.reshape(len(inputs), -1)
    return flat / jnp.maximum(jnp.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def log_distances(a: Array, b: Array) -> Array:
    """The logarithms of the distances of `thumbnails`, `float[m, n]`."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return jnp.log(jnp.maximum(squares, 0.0) + LEAST) / 2
