"""Features under masks, as learners of segmentation see a support set."""

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import values_of
from metajax.errors import InputError
from metajax.losses import UNLABELLED
from metajax.ops.masking import never
from metajax.ops.precision import product
from metajax.types import Array, Batch, unpadded


def support_masks(support: Batch) -> Array:
    """The masks of a support set, without a label in images that are padding.

    Args:
      support: images `float[n, height, width, channels]` and their masks
        `int[n, height, width]`, or `Padded` of either.

    Returns:
      `int[n, height, width]`.

    Raises:
      InputError: if the masks are no whole numbers of the images' size.

    >>> from metajax.types import Padded
    >>> masks = Padded(jnp.ones((2, 1, 1), int), jnp.array([True, False]))
    >>> support_masks(Batch(jnp.zeros((2, 1, 1, 3)), masks)).ravel().tolist()
    [1, 255]
    """
    images, _ = unpadded(values_of(support.inputs))
    masks, present = unpadded(support.targets)
    kind, shape = jnp.result_type(masks), jnp.shape(masks)
    if shape != images.shape[:3] or not jnp.issubdtype(kind, jnp.integer):
        raise InputError(
            f"masks must be whole numbers of shape {images.shape[:3]} for these "
            f"images, got {kind}{list(shape)}"
        )
    if present is None:
        return masks
    nothing = jnp.full_like(masks, UNLABELLED)
    return jnp.where(present.reshape(-1, 1, 1), masks, nothing)


def class_masks(masks: Array, ways: int, dtype: jnp.dtype) -> Array:
    """Which pixels are of each class, background first.

    Args:
      masks: labels, `int[n, height, width]`; pixels of labels above `ways`, such as
        255, are of no class.
      ways: the number of classes, background not counted.
      dtype: of the result.

    Returns:
      `dtype[n, height, width, ways + 1]` of zeros and ones.

    >>> class_masks(jnp.array([[[0, 2, 255]]]), 2, jnp.dtype("float32"))[0, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    return jax.nn.one_hot(masks, ways + 1, dtype=dtype)


def absent_classes(members: Array) -> Array:
    """Which classes have no pixel, of `class_masks`: `bool[ways]`."""
    return jnp.sum(members[..., 1:], (0, 1, 2)) == 0


def without_absent(logits: Array, absent: Array) -> Array:
    """Logits by which a class without a support pixel is never predicted.

    Args:
      logits: `float[n, height, width, ways + 1]`, background first.
      absent: of `absent_classes`.

    Returns:
      `float[n, height, width, ways + 1]`.

    >>> logits = without_absent(jnp.zeros((1, 1, 1, 3)), jnp.array([True, False]))
    >>> jax.nn.softmax(logits)[0, 0, 0].tolist()
    [0.5, 0.0, 0.5]
    """
    never_there = jnp.append(jnp.zeros(1, bool), absent).reshape(1, 1, 1, -1)
    return jnp.where(never_there, never(logits.dtype), logits)


def with_background(logits: Array, absent: Array) -> Array:
    """Logits of classes, `float[n, height, width, ways]`, with 0 for background first.

    A class without a support pixel is never predicted; see `without_absent`.
    """
    logits = jnp.concatenate([jnp.zeros_like(logits[..., :1]), logits], -1)
    return without_absent(logits, absent)


def resized(x: Array, size: tuple[int, ...]) -> Array:
    """Images or maps of another size, bilinearly; smaller ones are averaged.

    Args:
      x: `float[n, height, width, channels]`.
      size: (height, width) of the result.

    Returns:
      `float[n, *size, channels]`.

    >>> resized(jnp.array([0.0, 1.0, 1.0, 1.0]).reshape(1, 2, 2, 1), (1, 1)).item()
    0.75
    """
    if x.shape[1:3] == tuple(size):
        return x
    return jax.image.resize(x, (len(x), *size, x.shape[3]), "bilinear")


def masked_means(features: Array, members: Array) -> Array:
    """Masked average pooling: the features of each class, averaged over its images.

      p_c = mean over images i of (Σ_xy m_ixyc φ_ixy / Σ_xy m_ixyc)

    Images where class c is nowhere do not count.

    Args:
      features: φ, `float[n, height, width, d]`.
      members: m, how much of each place is of each class, `float[n, height, width,
        classes]`.

    Returns:
      `float[classes, d]`; zeros for a class that is nowhere.

    >>> maps = jnp.array([[[[1.0], [3.0], [5.0]]]])
    >>> masked_means(maps, jnp.array([[[[1.0], [1.0], [0.0]]]])).tolist()
    [[2.0]]

    Source: Zhang et al., "SG-One", 2018; Wang et al., "PANet", ICCV 2019, equation 1.
    """
    n, height, width, d = features.shape
    weights = members.reshape(n, height * width, members.shape[-1])
    sizes = jnp.sum(weights, 1)
    sums = product(weights.swapaxes(1, 2), features.reshape(n, height * width, d))
    means = sums / jnp.where(sizes > 0, sizes, jnp.ones_like(sizes))[..., None]
    images = jnp.sum((sizes > 0).astype(means.dtype), 0)
    return jnp.sum(means, 0) / jnp.maximum(images, 1)[:, None]
