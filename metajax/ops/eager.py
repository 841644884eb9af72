"""Primitives outside of jit."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive

from metajax.types import Array


def compiled(primitive: Primitive, *static: str) -> Callable[..., Array]:
    """How a primitive is evaluated where nothing traces it: as a program of its own.

    Args:
      primitive: one that has a lowering.
      *static: the names of its parameters.
    """

    def bind(*arrays: Array, **params: Any) -> Array:
        return primitive.bind(*arrays, **params)

    program = jax.jit(bind, static_argnames=static)

    def eager(*arrays: Array, **params: Any) -> Array:
        with jax.disable_jit(False):  # without jit it would call itself
            return program(*arrays, **params)

    return eager
