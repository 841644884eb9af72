"""Which form an operation takes on which backend: one table, with the reasons.

A form is a way to compute the same values. Which one is fast differs between a CPU, a
GPU and a TPU, so it is chosen when a program is lowered for one of them: a program that
is compiled for a TPU on a machine without one takes the TPU's forms. Where the chip
decides and not its kind, `metajax.ops.tune` times the forms on it instead.

Figures of GPUs and TPUs are of programs that were compiled for an H200 and a v5e: bytes
and launches, and cycles as the compiler estimates them, never times. Those of a CPU are
measured. `benchmarks/README.md` says of which work.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from metajax.ops.geometry import EXACT, Geometry
from metajax.ops.precision import wider

Backend = Literal["cpu", "gpu", "tpu"]


class Choice(NamedTuple):
    """A form.

    Attributes:
      form: its name.
      reason: the figure that speaks for it, or why no other can be taken.
      where: `where(geometry, dtype)`, whether it is taken there.
    """

    form: str
    reason: str
    where: Callable[[Any, jnp.dtype], bool] = lambda geometry, dtype: True


def _shallow(geometry: Geometry, dtype: jnp.dtype) -> bool:
    return geometry.shallow


def _shallow_or_strided(geometry: Geometry, dtype: jnp.dtype) -> bool:
    return geometry.shallow or not geometry.dense


def _dense(geometry: Geometry, dtype: jnp.dtype) -> bool:
    return geometry.dense


def _tiled(geometry: Geometry, dtype: jnp.dtype) -> bool:
    """Not where Winograd's sums would be rounded before the product."""
    exact = wider(dtype) == dtype and geometry.precision in EXACT
    return geometry.tiled and exact


def _few(examples: int, dtype: jnp.dtype) -> bool:
    return examples <= 16


# Of the choices of an operation on a backend, the first that holds is taken.
TABLE: dict[str, dict[Backend, tuple[Choice, ...]]] = {
    "convolution y": {
        "cpu": (
            Choice("patches", "a row of a patch is too short", _shallow_or_strided),
            Choice("winograd", "140 GFLOP/s against 102 by rows", _tiled),
            Choice("rows", "102 GFLOP/s against 89 by patches"),
        ),
        "gpu": (
            Choice("patches", "18 launches a block against 25", _shallow),
            Choice("lax", "a third of the bytes by rows"),
        ),
        "tpu": (
            Choice("patches", "10.7 M cycles a step of w1, 11.0 by lax", _shallow),
            Choice("lax laid out", "0.45 M cycles against 1.39 by rows"),
        ),
    },
    "convolution x": {
        "cpu": (
            Choice("turned", "102 GFLOP/s against 19 by lax", _dense),
            Choice("patches", "in place of a product with mostly zeros"),
        ),
        "gpu": (Choice("lax", "as the convolution itself"),),
        "tpu": (
            Choice("lax laid out", "0.46 M cycles against 0.75 by lax", _dense),
            Choice("lax", "at larger strides"),
        ),
    },
    "convolution w": {
        "cpu": (
            Choice("winograd", "131 GFLOP/s against 101", _tiled),
            Choice("patches turned", "the small factor is turned around", _shallow),
            Choice("patches of y", "101 GFLOP/s against 2 by lax", _dense),
            Choice("patches of x", "77 GFLOP/s at larger strides"),
        ),
        "gpu": (
            Choice("patches by image", "18 launches a block against 25", _shallow),
            Choice("lax", "a third of the bytes by patches"),
        ),
        "tpu": (
            Choice("patches of x", "10.7 M cycles a step of w1, turned 14.5", _shallow),
            Choice("lax", "0.69 M cycles against 1.67 by rows"),
        ),
    },
    "linear w": {
        "cpu": (
            Choice("outer", "9 us against 34 as a batched product", _few),
            Choice("product", "a ready one, of many examples"),
        ),
        "gpu": (Choice("product", "one launch"),),
        "tpu": (Choice("product", "one product"),),
    },
    "pooling": {
        "cpu": (Choice("slices", "`reduce_window` has a slow second derivative"),),
        "gpu": (Choice("stacked", "0.51 GB a block, 0.64 by slices, 0.96 by windows"),),
        "tpu": (Choice("window", "4.1 M cycles a block against 7.1 by slices"),),
    },
}


def _any(of: Any, dtype: jnp.dtype) -> bool:
    return True


def _countable(examples: int, dtype: jnp.dtype) -> bool:
    return examples <= 128  # each is an operation of its own in the program


# Where each form can be taken at all; an operation that is not here has one form.
VALID: dict[str, dict[str, Callable[[Any, jnp.dtype], bool]]] = {
    "convolution y": {
        "patches": _any,
        "lax patches": _any,
        "rows": _dense,
        "winograd": _tiled,
        "lax": _any,
        "lax laid out": _any,
    },
    "convolution x": {
        "patches": _any,
        "turned": _dense,
        "lax": _any,
        "lax laid out": _dense,
    },
    "convolution w": {
        "patches turned": _any,
        "patches of x": _any,
        "patches of y": _dense,
        "patches by image": _any,
        "lax patches": _any,
        "winograd": _tiled,
        "lax": _any,
    },
    "linear w": {"outer": _countable, "product": _any},
    "pooling": {"slices": _any, "stacked": _any, "window": _any},
}
KNOWN = {form for forms in VALID.values() for form in forms}


def candidates(operation: str, of: Any, dtype: jnp.dtype) -> list[str]:
    """The forms that an operation can take.

    Args:
      operation: see `choose`.
      of: see there.
      dtype: see there.

    >>> candidates("linear w", 1000, jnp.dtype(jnp.float32))
    ['product']
    """
    forms = VALID.get(operation, {})
    return [form for form, where in forms.items() if where(of, dtype)]


def choose(operation: str, backend: Backend, of: Any, dtype: jnp.dtype) -> str:
    """The form of an operation on a backend.

    Args:
      operation: a key of `TABLE`.
      backend: the one that the program is lowered for.
      of: what the choice depends on: a convolution's `Geometry`, or the number of
        examples.
      dtype: of the arrays.

    Returns:
      The form's name.

    >>> choose("linear w", "cpu", 10, jnp.dtype(jnp.float32))
    'outer'
    """
    choices = TABLE[operation][backend]
    return next(choice.form for choice in choices if choice.where(of, dtype))
