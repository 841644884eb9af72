"""Detection by template matching: normalised cross-correlation at several scales."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.detection import Boxes, Detections, suppress
from metajax.types import Array, Batch, Learner, PyTree

SCALES = tuple(2.0**power for power in np.linspace(-0.8, 0.8, 5))
CANDIDATES, MOST = 200, 20  # before suppression, and after


class Templates(NamedTuple):
    """The support objects of each class, cut out, at each pair of scales.

    Attributes:
      images: centred about zero, `float[ways, scales, size, size]`; zeros around.
      windows: 1 in a template's window, of that shape.
      sides: (width, height) of the objects, `float[ways, scales, 2]`.
    """

    images: Array
    windows: Array
    sides: Array


def template_detector(
    ways: int, size: int, scales: Sequence[float] = SCALES
) -> Learner:
    """A learner without parameters, of one shot a class.

      score = Σ (s - mean s)(t - mean t) / √(Σ (s - mean s)² Σ (t - mean t)²)

    over the window of the template t, at all places and pairs of scales.

    Args:
      ways: the number of classes.
      size: rows and columns of the queries.
      scales: of each axis.
    """

    def adapt(meta: PyTree, support: Batch) -> Templates:
        boxes: Boxes = support.targets
        ink = jnp.max(support.inputs, -1)
        pairs = jnp.array([(a, b) for a in scales for b in scales])
        cut = jax.vmap(partial(_scaled, size), (0, 0, None))
        return Templates(*cut(ink, boxes.corners[:, 0], pairs))

    def predict(adapted: Templates, inputs: Array) -> Detections:
        return jax.lax.map(partial(_matched, adapted), jnp.max(inputs, -1))

    def trajectory(meta: PyTree, support: Batch) -> Templates:
        return jax.tree.map(lambda x: x[None], adapt(meta, support))

    def loss(meta: PyTree, episode: PyTree) -> tuple[Array, dict]:
        return jnp.zeros(()), {}

    return Learner(lambda key: {}, adapt, predict, loss, trajectory)


def _scaled(size: int, ink: Array, corners: Array, pairs: Array) -> tuple:
    """A template at each pair of scales, in the upper left corner of a page."""
    sides = (corners[2:] - corners[:2])[None] * pairs
    middles = jnp.arange(size, dtype=ink.dtype) + 0.5

    def one(scale: Array, side: Array) -> tuple[Array, Array]:
        x, y = (corners[k] + middles / scale[k] - 0.5 for k in (0, 1))
        rows, columns = jnp.meshgrid(y, x, indexing="ij")
        image = jax.scipy.ndimage.map_coordinates(ink, [rows, columns], order=1)
        window = (middles[:, None] < side[1]) & (middles[None] < side[0])
        window = window.astype(ink.dtype)
        mean = jnp.sum(image * window) / jnp.maximum(jnp.sum(window), 1)
        return (image - mean) * window, window

    images, windows = jax.vmap(one)(pairs, sides)
    return images, windows, sides


def _matched(templates: Templates, scene: Array) -> Detections:
    """The detections in ONE scene."""
    images, windows, sides = templates
    size, counts = len(scene), jnp.sum(windows, (2, 3), keepdims=True)

    def correlated(x: Array, kernels: Array) -> Array:
        shape = (2 * size, 2 * size)
        spectrum = jnp.fft.rfft2(x, shape) * jnp.conj(jnp.fft.rfft2(kernels, shape))
        return jnp.fft.irfft2(spectrum, shape)[..., :size, :size]

    total = correlated(scene, windows)
    spread = correlated(scene**2, windows) - total**2 / jnp.maximum(counts, 1)
    norms = jnp.sum(images**2, (2, 3), keepdims=True)
    score = correlated(scene, images)
    score = score * jax.lax.rsqrt(jnp.maximum(spread * norms, 1e-3))
    score, place = jax.lax.top_k(score.reshape(-1), CANDIDATES)
    way, scale, row, column = jnp.unravel_index(place, images.shape)
    corner = jnp.stack([column, row], -1).astype(scene.dtype)
    corners = jnp.concatenate([corner, corner + sides[way, scale]], -1)
    labels, every = way.astype(jnp.int32), jnp.ones(CANDIDATES, bool)
    candidates = Detections(corners, labels, score, every)
    whole = suppress(jax.tree.map(lambda x: x[None], candidates), 0.3)
    order = jnp.argsort(~whole.present[0])[:MOST]
    return jax.tree.map(lambda x: x[0, order], whole)
