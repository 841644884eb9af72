"""The loss of a detector of centres."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metajax.checks import check_count
from metajax.detection.boxes import Boxes
from metajax.detection.centres import CentreMaps, centre_targets
from metajax.errors import InputError
from metajax.ops.precision import wider
from metajax.types import Array, Loss


def centre_loss(
    stride: int, *, size_weight: float = 0.1, offset_weight: float = 1.0
) -> Loss:
    """The loss of `CentreMaps`, a mean over images.

      L = (1/N) Σ_yxk F_yxk + (1/N) Σ_m (λ_s |ŝ - s_m|₁ + λ_o |ô - o_m|₁)
      F = -(1 - p)² log p where Y = 1,   -(1 - Y)⁴ p² log(1 - p) elsewhere

    p = σ(heat); Y, s and o are those of `metajax.detection.centre_targets`; N is the
    number of objects in the image, and 1 where there is none. Size and offset count at
    the centres only.

    Args:
      stride: the side of a cell of the maps in pixels.
      size_weight: λ_s.
      offset_weight: λ_o.

    Returns:
      `loss(maps, boxes) -> scalar`, of `CentreMaps` and the `Boxes` of as many images.
      Where labels cannot be checked, inside `jit`, it is NaN if one is out of range. It
      raises InputError for other outputs or targets.

    Raises:
      InputError: if `stride` is not a whole number of at least 1.

    >>> maps = CentreMaps(*(jnp.zeros((1, 2, 2, size)) for size in (1, 2, 2)))
    >>> corners = jnp.array([[[0.0, 0.0, 2.0, 2.0]]])
    >>> boxes = Boxes(corners, jnp.array([[0]]), jnp.array([[True]]))
    >>> print(f"{centre_loss(4)(maps, boxes):.4f}")
    1.2931

    Source: Zhou et al., "Objects as Points" (CenterNet), 2019, equations 1 to 4.
    """
    check_count("stride", stride, least=1)

    def loss(maps: CentreMaps, boxes: Boxes) -> Array:
        _check(maps, boxes)
        wide = wider(maps.heat.dtype)
        maps = jax.tree.map(lambda x: x.astype(wide), maps)
        boxes = Boxes(*map(jnp.asarray, boxes))
        boxes = boxes._replace(corners=boxes.corners.astype(wide))
        of_image = partial(_of_image, stride, size_weight, offset_weight)
        return jnp.mean(jax.vmap(of_image)(maps, boxes))

    return loss


def _of_image(
    stride: int,
    size_weight: float,
    offset_weight: float,
    maps: CentreMaps,
    boxes: Boxes,
) -> Array:
    heat, ways = maps.heat, maps.heat.shape[-1]
    targets = centre_targets(boxes, heat.shape, stride)
    p = jax.nn.sigmoid(heat)
    hit = (1 - p) ** 2 * jax.nn.log_sigmoid(heat)
    miss = (1 - targets.heat) ** 4 * p**2 * jax.nn.log_sigmoid(-heat)
    focal = -jnp.sum(jnp.where(targets.centres, hit, miss))
    # Dense and masked: the second derivative of a gather is a slow scatter.
    where = jnp.any(targets.centres, -1, keepdims=True)
    size, offset = (
        jnp.sum(jnp.where(where, jnp.abs(ours - theirs), 0))
        for ours, theirs in ((maps.size, targets.size), (maps.offset, targets.offset))
    )
    objects = jnp.maximum(jnp.sum(boxes.present), 1).astype(heat.dtype)
    total = (focal + size_weight * size + offset_weight * offset) / objects
    unknown = boxes.present & ((boxes.labels < 0) | (boxes.labels >= ways))
    return jnp.where(jnp.any(unknown), jnp.nan, total)


def _check(maps: CentreMaps, boxes: Boxes) -> None:
    if not isinstance(maps, CentreMaps) or not isinstance(boxes, Boxes):
        kinds = f"{type(maps).__name__} and {type(boxes).__name__}"
        raise InputError(
            "centre_loss takes CentreMaps, such as those of metajax.models.centre_head,"
            f" and metajax.detection.Boxes, got {kinds}"
        )
    *places, ways = maps.heat.shape
    images, objects = boxes.labels.shape
    shapes = [x.shape for x in (*maps[1:], *boxes)]
    lists = [(images, objects, 4), (images, objects), (images, objects)]
    if shapes != [(*places, 2)] * 2 + lists or places[:1] != [images]:
        raise InputError(
            "centre_loss needs maps [images, rows, columns, ways or 2] and boxes "
            f"[images, objects, ...] of as many images, got {maps.heat.shape}, "
            f"{', '.join(map(str, shapes))}"
        )
    if isinstance(boxes.labels, Tracer) or isinstance(boxes.present, Tracer):
        return
    labels = np.asarray(boxes.labels)[np.asarray(boxes.present)]
    if labels.size and (labels.min() < 0 or labels.max() >= ways):
        raise InputError(
            f"labels of objects must lie in 0..{ways - 1} for a detector of {ways} "
            f"ways, got {labels.min()}..{labels.max()}; build it with more ways"
        )
