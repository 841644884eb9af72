"""What is done to pictures, labelled or not, before a learner sees them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.types import Array

INK = 0.25  # of the strongest ink, above which a pixel is ink
FAINT = 8 / 255  # ink that is none
SPECKS = 0.005  # of all ink, which may lie outside of the box on each side
FILLED = 0.8  # of the sides, by the box of the ink


class Preparation(NamedTuple):
    """What is done to pictures before a learner sees them.

    Attributes:
      invert: whether pictures that are bright on dark become dark on bright.
      crop: 0 to leave pictures whole; k to crop them to their ink, decoded at k times
        the learner's size.

    Paper is the median of a picture's border, in each channel, and ink is what differs
    from it.
    """

    invert: bool = False
    crop: int = 0

    def apply(self, images: Array) -> Array:
        """The pictures as the learner sees them, traced.

        Args:
          images: pixels `float[n, k height, k width, channels]`, in [0, 1]; k = 1
            without a crop.

        Returns:
          `float[n, height, width, channels]`.
        """
        if self.invert:
            images = jax.vmap(_dark_on_bright)(images)
        if self.crop:
            images = jax.vmap(lambda x: _cropped(x, self.crop))(images)
        return images

    def flags(self) -> str:
        """What asks the command for it, or that nothing does.

        >>> Preparation(True, 4).flags(), Preparation().flags()
        ('--invert --crop ink', 'as they are')
        """
        flags = ["--invert"] * self.invert + ["--crop ink"] * bool(self.crop)
        return " ".join(flags) or "as they are"


def summaries(pictures: Array) -> Array:
    """What tells pictures of one folder from those of another.

    Args:
      pictures: `float[n, height, width, channels]`, in [0, 1].

    Returns:
      `float[n, 4]`: the brightness, the mean; the contrast, the standard deviation;
      the mean difference from the paper, negative for dark on bright; and the larger
      side of the ink's box as a share of the picture's.
    """

    def summary(picture: Array) -> Array:
        signed = jnp.mean(picture - paper_of(picture))
        (top, bottom), (left, right) = ink_box(picture)
        height, width, _ = picture.shape
        size = jnp.maximum((bottom - top) / height, (right - left) / width)
        return jnp.stack([jnp.mean(picture), jnp.std(picture), signed, size])

    return jax.vmap(summary)(pictures)


def paper_of(picture: Array) -> Array:
    """The median of a picture's border, `float[1, 1, channels]`."""
    sides = picture[0], picture[-1], picture[:, 0], picture[:, -1]
    return jnp.median(jnp.concatenate(sides), axis=0)[None, None]


def ink_box(picture: Array) -> tuple[Array, Array]:
    """The box of a picture's ink, of all of it if there is none.

    Returns:
      (top, bottom) and (left, right), in pixels.
    """
    ink = jnp.max(jnp.abs(picture - paper_of(picture)), axis=-1)
    strongest = jnp.max(ink)
    is_ink = (ink > INK * strongest) & (strongest > FAINT)
    return _ends(is_ink.sum(axis=1)), _ends(is_ink.sum(axis=0))


def _ends(counts: Array) -> Array:
    """Where nearly all ink begins and ends, of counts by place."""
    total, size = counts.sum(), len(counts)
    share = jnp.cumsum(counts) / jnp.maximum(total, 1)
    begin = jnp.sum(share <= SPECKS)
    end = 1 + jnp.sum(share < 1 - SPECKS)
    ends = jnp.stack([begin, jnp.minimum(end, size)])
    return jnp.where(total > 0, ends, jnp.array([0, size]))


def _dark_on_bright(picture: Array) -> Array:
    bright = jnp.mean(picture - paper_of(picture)) > 0
    return jnp.where(bright, 1 - picture, picture)


def _cropped(picture: Array, times: int) -> Array:
    """A picture whose ink fills most of it, its proportions kept."""
    height, width, channels = picture.shape
    shape = height // times, width // times, channels
    paper = paper_of(picture)
    ends = jnp.stack(ink_box(picture)).astype(picture.dtype)
    sides = (ends[:, 1] - ends[:, 0]) / jnp.array([height, width], picture.dtype)
    scale = FILLED / jnp.max(sides) / times
    places = jnp.array(shape[:2], picture.dtype) / 2 - scale * ends.mean(axis=1)
    scales = jnp.broadcast_to(scale, (2,))
    ink = jax.image.scale_and_translate(
        picture - paper, shape, (0, 1), scales, places, "linear"
    )
    return jnp.clip(ink + paper, 0, 1)
