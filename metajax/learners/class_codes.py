"""What each class looks like, from boxes around its objects; detection by it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model, check_positive
from metajax.detection import CentreMaps, pool_boxes
from metajax.learners.support import class_means, cosines
from metajax.losses import memberships
from metajax.ops.masking import never
from metajax.types import Array, Model, PyTree, unpadded


class ClassCodes(NamedTuple):
    """The mean features of the objects of each class.

    Attributes:
      codes: `float[ways, channels]`; zeros for a class without an object.
      shots: the number of objects of each class, `float[ways]`.
    """

    codes: Array
    shots: Array


def check_settings(body: Model, ways: int, stride: int, scale: float) -> None:
    """Checks what detectors by class codes share.

    Raises:
      InputError: if the body is not a `Model`, or a number is out of range.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_count("stride", stride, least=1)
    check_positive("scale", scale)


def class_codes(features: Array, targets: PyTree, ways: int, stride: int) -> ClassCodes:
    """The code of each class: the mean over its boxes of the mean map in each box.

    Args:
      features: maps of the support set, `float[images, rows, columns, channels]`.
      targets: the `metajax.detection.Boxes` of the images, or `Padded` of them.
      ways: the number of classes.
      stride: the side of a cell of the maps in pixels.

    Returns:
      `ClassCodes`, of NaN if a label is out of range. Boxes outside of the maps do not
      count.

    >>> from metajax.detection import Boxes
    >>> boxes = jnp.array([[[0.0, 0, 2, 2], [2.0, 0, 4, 2]]]), jnp.array([[1, 0]])
    >>> features = jnp.array([[[[3.0], [5.0]]]])
    >>> targets = Boxes(*boxes, jnp.ones((1, 2), bool))
    >>> class_codes(features, targets, ways=3, stride=2).codes[:, 0].tolist()
    [5.0, 3.0, 0.0]
    """
    boxes, images = unpadded(targets)
    means, inside = jax.vmap(pool_boxes, (0, 0, None))(features, boxes.corners, stride)
    counted = boxes.present & (inside > 0)
    if images is not None:
        counted &= images[:, None]
    members = memberships(boxes.labels, ways, features.dtype)
    members = jnp.where(counted[..., None], members, 0)
    members = members.reshape(counted.size, ways)
    codes = class_means(means.reshape(counted.size, means.shape[-1]), members)
    return ClassCodes(codes, jnp.sum(members, 0))


def detected(
    objects: CentreMaps, features: Array, classes: ClassCodes, scale: Array | float
) -> CentreMaps:
    """Detection of objects of any kind, of each class by its similarity to the code.

      heat_k(x) = o(x) + s (cos(f(x), c_k) - 1)

    So the score of an object is at most that of there being one. That of a class
    without an object is zero.

    Args:
      objects: o, size and offset of objects of any kind: maps of one class.
      features: f, `float[images, rows, columns, channels]`.
      classes: c_k.
      scale: s, at least 0.

    Returns:
      `CentreMaps` of as many classes.
    """
    codes, shots = classes
    heat = objects.heat + scale * (cosines(features, codes) - 1)
    absent = (shots == 0).reshape(1, 1, 1, len(codes))
    return objects._replace(heat=jnp.where(absent, never(heat.dtype), heat))
