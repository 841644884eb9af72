"""A table of the form that each operation takes on each backend, with the reasons.

A form is one way to compute an operation's values. Different forms are fast on a CPU, a
GPU and a TPU, so the form is chosen when a program is lowered: one that is compiled for
a TPU on a machine without one takes the TPU's forms. If the speed depends on the chip
itself, `metajax.ops.tune` times the forms on it.

Figures of CPUs are measured. Figures of GPUs and TPUs come from programs compiled for
an H200 and a v5e: bytes, launches, and the compiler's estimates of cycles, never times.
`benchmarks/README.md` describes the workloads.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax.ops.geometry import EXACT, Sizes
from metajax.ops.precision import wider

Backend = Literal["cpu", "gpu", "tpu"]
FEW = 16  # examples


Where = Callable[[Any, jnp.dtype], bool]
"""`where(sizes, dtype)`: a condition on a convolution's `Sizes`, or a number of
examples, and on the dtype of the arrays."""


def anywhere(sizes: Any, dtype: jnp.dtype) -> bool:
    """A condition that always holds."""
    return True


class Choice(NamedTuple):
    """A form that a backend takes.

    Attributes:
      form: its name.
      reason: the figure that speaks for it, or why there is no other form.
      where: the condition under which the backend takes it.
    """

    form: str
    reason: str
    where: Where = anywhere


class Form(NamedTuple):
    """A way to compute an operation.

    Attributes:
      run: the function.
      where: the condition under which the form is possible.
    """

    run: Any
    where: Where = anywhere


def _shallow(sizes: Sizes, dtype: jnp.dtype) -> bool:
    return sizes.geometry.shallow


def _shallow_or_strided(sizes: Sizes, dtype: jnp.dtype) -> bool:
    return sizes.geometry.shallow or not sizes.geometry.dense


def _shallow_of_few(sizes: Sizes, dtype: jnp.dtype) -> bool:
    """Whether a row of a patch has few entries, and patches take little memory."""
    geometry = sizes.geometry
    return geometry.shallow and (geometry.kernel[2] == 1 or sizes.examples <= FEW)


def dense(sizes: Sizes, dtype: jnp.dtype) -> bool:
    """The condition of stride 1."""
    return sizes.geometry.dense


def tiled(sizes: Sizes, dtype: jnp.dtype) -> bool:
    """Whether Winograd's tiles pay, and the products do not round their sums."""
    exact = wider(dtype) == dtype and sizes.geometry.precision in EXACT
    return sizes.geometry.tiled and exact


def _few(examples: int, dtype: jnp.dtype) -> bool:
    return examples <= FEW


# An operation takes the first of its backend's choices whose condition holds.
TABLE: dict[str, dict[Backend, tuple[Choice, ...]]] = {
    "convolution y": {
        "cpu": (
            Choice("patches", "a row of a patch is too short", _shallow_or_strided),
            Choice("winograd", "140 GFLOP/s against 102 by rows", tiled),
            Choice("rows", "102 GFLOP/s against 89 by patches"),
        ),
        "gpu": (
            Choice("patches", "18 launches a block against 25", _shallow),
            Choice("lax", "a third of the bytes by rows"),
        ),
        "tpu": (
            Choice(
                "patches", "1.46 M cycles a block of w1, 3.25 by lax", _shallow_of_few
            ),
            Choice("lax laid out", "8.2 M cycles a block of w2, 20.8 by patches"),
        ),
    },
    "convolution x": {
        "cpu": (
            Choice("turned", "102 GFLOP/s against 19 by lax", dense),
            Choice("patches", "in place of a product with mostly zeros"),
        ),
        "gpu": (Choice("lax", "as the convolution itself"),),
        "tpu": (
            Choice("lax laid out", "0.46 M cycles against 0.75 by lax", dense),
            Choice("lax", "at larger strides"),
        ),
    },
    "convolution w": {
        "cpu": (
            Choice("winograd", "131 GFLOP/s against 101", tiled),
            Choice("patches turned", "the small factor is turned around", _shallow),
            Choice("patches of y", "101 GFLOP/s against 2 by lax", dense),
            Choice("patches of x", "77 GFLOP/s at larger strides"),
        ),
        "gpu": (
            Choice("patches by image", "18 launches a block against 25", _shallow),
            Choice("lax", "a third of the bytes by patches"),
        ),
        "tpu": (
            Choice(
                "patches of x",
                "1.46 M cycles a block of w1, 2.02 by lax",
                _shallow_of_few,
            ),
            Choice("lax", "0.69 M cycles against 1.67 by rows"),
        ),
    },
    "linear w": {
        "cpu": (
            Choice("outer", "9 us against 34 as a batched product", _few),
            Choice("product", "one library call for many examples"),
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


# From how many on a loop carries small vectors as one; None for never. Joined, w1 takes
# 4 % more time on a CPU, 981 launches for 1,097 on a GPU, 232 MiB for 290 on a TPU.
JOINED_FROM: dict[Backend, int | None] = {"cpu": None, "gpu": 8, "tpu": 8}

_TRACED_FOR = jax.make_user_context(default_value=None)


def tracing_for(backend: Backend) -> AbstractContextManager:
    """A context in which functions are traced for a backend that is not the default.

    What a loop carries cannot wait until its program is lowered, as the forms do.
    `jax.jit` traces a function anew for another backend.

    Args:
      backend: the backend.

    Returns:
      A context manager.

    >>> with tracing_for("tpu"):
    ...     traced_for()
    'tpu'
    """
    return _TRACED_FOR(backend)


def traced_for() -> Backend:
    """The backend of the current context; by default JAX's own default."""
    own: dict[str, Backend] = {"cpu": "cpu", "tpu": "tpu"}
    return _TRACED_FOR.value or own.get(jax.default_backend(), "gpu")


FORMS: dict[str, dict[str, Form]] = {}
"""Every form of each operation; modules of `metajax.ops` add theirs."""


def candidates(operation: str, sizes: Any, dtype: jnp.dtype) -> list[str]:
    """The forms that an operation can take.

    Args:
      operation: see `choose`.
      sizes: see `choose`.
      dtype: see `choose`.

    Returns:
      The names of the forms.

    >>> candidates("linear w", 1000, jnp.dtype(jnp.float32))
    ['product']
    """
    forms = FORMS.get(operation, {}).items()
    return [name for name, form in forms if form.where(sizes, dtype)]


def choose(operation: str, backend: Backend, sizes: Any, dtype: jnp.dtype) -> str:
    """The form that an operation takes on a backend.

    Args:
      operation: a key of `TABLE`.
      backend: the backend that the program is lowered for.
      sizes: a convolution's `Sizes`, or the number of examples.
      dtype: the dtype of the arrays.

    Returns:
      The form's name.

    >>> choose("linear w", "cpu", 10, jnp.dtype(jnp.float32))
    'outer'
    """
    choices = TABLE[operation][backend]
    return next(choice.form for choice in choices if choice.where(sizes, dtype))
