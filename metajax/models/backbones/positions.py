"""Learnt positions of patches, for pictures of any size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.models.backbones.config import Config
from metajax.models.backbones.weights import Weights
from metajax.types import Array


class Grid(NamedTuple):
    """What the positions of a file are of.

    Attributes:
      rows: of patches.
      columns: of patches.
      tokens: how many tokens, before those of the patches, have positions too.
    """

    rows: int
    columns: int
    tokens: int


def take_positions(
    weights: Weights, config: Config, side: int, *, tokens: int, width: int
) -> Grid:
    """Takes the positions, and says what they are of.

    Args:
      weights: the tensors.
      config: says of what size the pictures are.
      side: of a patch.
      tokens: how many tokens there are before those of the patches.
      width: the number of features of a token.

    Raises:
      InputError: if their number does not follow from the pictures' size.
    """
    size = config.arguments.get("img_size") or config.preprocessing.size
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if [type(number) for number in sides] != [int, int]:
        raise InputError(
            f"{weights.path}: img_size must be a number or (height, width), got {size}"
        )
    rows, columns = (number // side for number in sides)
    found = weights.shape("pos_embed", 3)[1]
    if found not in (rows * columns, rows * columns + tokens):
        raise InputError(
            f"{weights.path}: pos_embed has {found} positions, expected {rows} x "
            f"{columns} patches of {side} pixels, with or without {tokens} tokens more;"
            " give the config.json with the input_size of these weights"
        )
    weights.array("pos_embed", (1, found, width))
    return Grid(rows, columns, found - rows * columns)


def positions_of(grid: Grid, positions: Array, rows: int, columns: int) -> Array:
    """The positions of a picture's patches, interpolated where it has others.

    Bicubic, with a wider window where there are fewer patches, as timm has it.

    Args:
      grid: what the positions are of.
      positions: `float[1, tokens + patches, width]`.
      rows: of the picture's patches.
      columns: of the picture's patches.

    Returns:
      `float[1, tokens + rows * columns, width]`.

    >>> positions_of(Grid(2, 2, 1), jnp.ones((1, 5, 8)), 3, 4).shape
    (1, 13, 8)
    """
    if (rows, columns) == grid[:2]:
        return positions
    width = positions.shape[-1]
    maps = positions[:, grid.tokens :].reshape(1, *grid[:2], width)
    maps = jax.image.resize(maps, (1, rows, columns, width), "bicubic")
    patches = maps.reshape(1, rows * columns, width)
    return jnp.concatenate([positions[:, : grid.tokens], patches], 1)
