"""Maximum pooling as primitives that choose their form on every backend.

Pooling z = P(x) picks one entry of each window. Its derivative picks the same entries
of a tangent, and the transpose of that puts a cotangent back where they were:

  T(x, t), the entries of t where x is largest in its window,
  U(x, c), c where x is largest in its window, and zero elsewhere

T and U are linear in their second argument, piecewise constant in their first, and
transposes of each other. So only these three must be fast, for every order.
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metajax.errors import InputError
from metajax.ops.eager import compiled
from metajax.ops.forms import FORMS, Backend, Form, choose
from metajax.ops.meshes import check_same_everywhere
from metajax.ops.tuned import SITES, Site, Tuned, taken
from metajax.types import Array


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows at stride 2; an odd last row or column is dropped.

    The first of equal values, row by row, gets the gradient, as in `reduce_window` and
    PyTorch; ties are common on the flat paper of drawings.

    Args:
      x: `float[n, height, width, channels]`.

    Returns:
      `float[n, ⌊height / 2⌋, ⌊width / 2⌋, channels]`. A window with a NaN gives NaN;
      which of its entries gets the gradient depends on the backend.

    Raises:
      InputError: if `x` has another shape or dtype, or differs between devices in a
        `jax.shard_map` with `check_vma`.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    x = jnp.asarray(x)
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            "max_pool takes floats [n, height, width, channels], got "
            f"{x.dtype}{list(x.shape)}"
        )
    check_same_everywhere(x)
    return _pool.bind(x, tuned=taken())


# Each form has the three maps, of [..., height, width, channels].


def _of_examples(function: Callable[..., Array]) -> Callable[..., Array]:
    """A map of `[n, height, width, channels]` for any leading axes."""

    @functools.wraps(function)
    def run(*arrays: Array) -> Array:
        out = function(*(x.reshape(-1, *x.shape[-3:]) for x in arrays))
        return out.reshape(*arrays[0].shape[:-3], *out.shape[1:])

    return run


def _quarters(x: Array) -> list[Array]:
    """The four entries of each window, row by row."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def larger(first: Array, second: Array) -> Array:
    """Where the second is the maximum; the first wins ties, and NaN always wins."""
    return (first < second) | jnp.isnan(second)


@_of_examples
def _pool_slices(x: Array) -> Array:
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    left, right = x[:, :, 0:width:2], x[:, :, 1:width:2]
    x = jnp.where(larger(left, right), right, left)
    upper, lower = x[:, 0:height:2], x[:, 1:height:2]
    return jnp.where(larger(upper, lower), lower, upper)


def _places(x: Array) -> tuple[Array, Array, Array]:
    """Whether the maximum is right in the upper row, right in the lower, and lower."""
    a, b, c, d = _quarters(x)
    right_above, right_below = larger(a, b), larger(c, d)
    above = jnp.where(right_above, b, a)
    return right_above, right_below, larger(above, jnp.where(right_below, d, c))


@_of_examples
def _take_slices(x: Array, t: Array) -> Array:
    right_above, right_below, below = _places(x)
    a, b, c, d = _quarters(t)
    return jnp.where(below, jnp.where(right_below, d, c), jnp.where(right_above, b, a))


def _put_parts(x: Array, c: Array) -> list[Array]:
    right_above, right_below, below = _places(x)
    zero = jnp.zeros((), c.dtype)
    above, under = jnp.where(below, zero, c), jnp.where(below, c, zero)
    return [
        jnp.where(right_above, zero, above),
        jnp.where(right_above, above, zero),
        jnp.where(right_below, zero, under),
        jnp.where(right_below, under, zero),
    ]


@_of_examples
def _put_slices(x: Array, c: Array) -> Array:
    """Adds up the four quarters, with zeros between their entries."""
    zero, (height, width) = jnp.zeros((), c.dtype), c.shape[1:3]
    total = None
    for place, part in enumerate(_put_parts(x, c)):
        i, j = divmod(place, 2)
        rows = (i, x.shape[1] - i - (2 * height - 1), 1)
        columns = (j, x.shape[2] - j - (2 * width - 1), 1)
        part = lax.pad(part, zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
        total = part if total is None else total + part
    return total  # pyright: ignore


@_of_examples
def _put_stacked(x: Array, c: Array) -> Array:
    """Interleaves the four quarters."""
    a, b, below_a, below_b = _put_parts(x, c)
    rows = [jnp.stack(pair, 3) for pair in ((a, b), (below_a, below_b))]
    n, height, width, channels = c.shape
    whole = jnp.stack(rows, 2).reshape(n, 2 * height, 2 * width, channels)
    odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
    return jnp.pad(whole, odd)


# These keep the axis of tasks. A TPU's convolution with a kernel a task does not put
# the examples of all tasks next to each other; joining the two axes would copy them.


def _windows(x: Array, low: Any, join: Callable) -> Array:
    """Joins the entries of each window."""
    window = (*[1] * (x.ndim - 3), 2, 2, 1)
    return lax.reduce_window(x, low, join, window, window, "VALID")


def _pool_window(x: Array) -> Array:
    return _windows(x, np.array(-np.inf, x.dtype), lax.max)


def _put_window(x: Array, c: Array) -> Array:
    return jax.vjp(_pool_window, x)[1](c)[0]


def _take_window(x: Array, t: Array) -> Array:
    """Sums each window of `t`, zero except at the maximum; JAX's rounds on a TPU."""
    like = jax.eval_shape(_pool_window, x)
    largest = _put_window(x, jnp.ones(like.shape, x.dtype)) > 0
    zero = np.zeros((), t.dtype)
    kept = jnp.where(largest, t, zero)
    return _windows(kept, zero, lax.add)


class Maps(NamedTuple):
    """The three maps, by the names of their primitives."""

    max_pool: Callable[[Array], Array]
    pool_take: Callable[[Array, Array], Array]
    pool_put: Callable[[Array, Array], Array]


FORMS["pooling"] = {
    "slices": Form(Maps(_pool_slices, _take_slices, _put_slices)),
    "stacked": Form(Maps(_pool_slices, _take_slices, _put_stacked)),
    "window": Form(Maps(_pool_window, _take_window, _put_window)),
}


def _primitive(name: str, abstract: Callable) -> Primitive:
    primitive = Primitive(f"metajax_{name}")

    def site(*arrays: Any, tuned: Tuned | None) -> Site:
        dtype, shapes = arrays[-1].dtype, tuple(x.shape for x in arrays)
        return Site("pooling", None, dtype, f"{name}, {shapes}, {dtype}")

    def run(backend: Backend, *arrays: Array, tuned: Tuned | None) -> Array:
        """Applies a form."""
        out, last = abstract(*arrays), arrays[-1]
        if not all(x.size for x in (out, *arrays)):
            return jnp.zeros(out.shape, out.dtype)
        form = tuned and tuned.form(site(*arrays, tuned=tuned).key)
        form = form or choose("pooling", backend, None, last.dtype)
        return getattr(FORMS["pooling"][form].run, name)(*arrays)

    SITES[primitive] = site
    primitive.def_impl(compiled(primitive, "tuned"))
    primitive.def_abstract_eval(lambda *arrays, tuned: abstract(*arrays))
    platforms: dict[Backend, str | None] = {"gpu": None, "tpu": "tpu", "cpu": "cpu"}
    for backend, platform in platforms.items():
        lowering = mlir.lower_fun(partial(run, backend), multiple_results=False)
        mlir.register_lowering(primitive, lowering, platform=platform)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def _halved(x, t=None) -> ShapedArray:
    *tasks, height, width, channels = x.shape
    dtype = x.dtype if t is None else t.dtype
    return ShapedArray((*tasks, height // 2, width // 2, channels), dtype)


def _batch(primitive: Primitive, arrays: tuple, dims: tuple, **params: Any):
    size = next(x.shape[d] for x, d in zip(arrays, dims) if d is not None)
    leading = (
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(arrays, dims)
    )
    return primitive.bind(*leading, **params), 0


_pool = _primitive("max_pool", _halved)
_take = _primitive("pool_take", _halved)
_put = _primitive("pool_put", lambda x, c: ShapedArray(x.shape, c.dtype))

ad.defjvp(_pool, lambda tangent, x, **params: _take.bind(x, tangent, **params))
ad.defjvp(_take, None, lambda tangent, x, t, **params: _take.bind(x, tangent, **params))
ad.defjvp(_put, None, lambda tangent, x, c, **params: _put.bind(x, tangent, **params))
ad.primitive_transposes[_take] = lambda ct, x, t, **params: (
    None,
    _put.bind(x, ct, **params),
)
ad.primitive_transposes[_put] = lambda ct, x, c, **params: (
    None,
    _take.bind(x, ct, **params),
)

PRIMITIVES = (_pool, _take, _put)
