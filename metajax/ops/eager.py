"""Evaluation of primitives outside of jit."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive

from metajax.types import Array


def compiled(primitive: Primitive, *static: str) -> Callable[..., Array]:
    """Evaluates a primitive outside of jit by compiling it.

    Args:
      primitive: a primitive with a lowering.
      *static: the names of its parameters.

    Returns:
      The function for `Primitive.def_impl`.
    """

    def bind(*arrays: Array, **params: Any) -> Array:
        return primitive.bind(*arrays, **params)

    program = jax.jit(bind, static_argnames=static)

    def eager(*arrays: Array, **params: Any) -> Array:
        with jax.disable_jit(False):  # without jit it would call itself
            return program(*arrays, **params)

    return eager
