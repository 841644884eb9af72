"""A bilinear map and its two transposes as primitives that choose their own form.

A convolution y = Y(x, w) is linear in each argument, and so are its transposes

  X(y, w), the cotangent of x,    W(x, y), the cotangent of w.

The derivatives of each are made of the other two, in both modes and to every order, so
only these three must be fast. Differentiation never sees how they are computed, or else
it would save every intermediate array of a form that works in blocks.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metajax.errors import InputError
from metajax.ops.eager import compiled
from metajax.ops.forms import Backend
from metajax.ops.meshes import check_same_everywhere
from metajax.ops.precision import wider
from metajax.ops.tuned import SITES, Site, Tuned, taken
from metajax.types import Array

# A block's arrays should stay in a core's cache: larger blocks wait for memory, and
# smaller ones spend their time in the loop.
BLOCK_BYTES = 2**22


class Product(NamedTuple):
    """A bilinear map of a batch of examples and a set of weights, and its transposes.

    Attributes:
      y: `y(x, w)`, `[n, ...], [...] -> [n, ...]`, each example by itself.
      x: `x(y, w)`, the cotangent of x, each example by itself.
      w: `w(x, y)`, the cotangent of w, a sum over the examples.
      bytes: the size of the intermediate arrays of one example.
      operation: the first word of its keys in `metajax.ops.forms.TABLE`, before "y",
        "x" or "w".
      sizes: `sizes(examples)`, on which the choice of a form depends.
    """

    y: Callable[[Array, Array], Array]
    x: Callable[[Array, Array], Array]
    w: Callable[[Array, Array], Array]
    bytes: int
    operation: str
    sizes: Callable[[int], Any]


class Shapes(NamedTuple):
    """The shapes of one example, of its result and of the weights."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    w: tuple[int, ...]


class Rule(NamedTuple):
    """How to make a `Product`; hashable, since it is a parameter of the primitives.

    Attributes:
      make: `make(settings, backend, form=None) -> Product`, in the forms of a backend
        (`metajax.ops.forms`); `form` replaces the form of the map that is run.
      settings: everything else that the product depends on.
      shapes: the `Shapes`.
    """

    make: Callable[..., Product]
    settings: Hashable
    shapes: Shapes


def bilinear(rule: Rule, x: Array, w: Array) -> Array:
    """Applies the map `y` of a rule's `Product`.

    Args:
      rule: the rule.
      x: inputs `[n, ...]`.
      w: weights.

    Returns:
      y(x, w), `[n, ...]`.

    Raises:
      InputError: if the arrays do not have one floating dtype, or differ between
        devices in a `jax.shard_map` with `check_vma`.
    """
    if x.dtype != w.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            f"inputs and kernel must have one floating dtype, got {x.dtype} and "
            f"{w.dtype}; cast the inputs, x.astype(kernel.dtype)"
        )
    check_same_everywhere(x, w)
    return _y.bind(x[None], w[None], rule=rule, tuned=taken())[0]


# Every argument and result has a leading axis of groups, each with its own weights;
# vmap over tasks with adapted weights makes groups.


def _examples_in_blocks(one: Callable, most: int, shape: tuple[int, ...]) -> Callable:
    """A map over blocks of examples, for a result of each example."""
    return lambda a, w: _in_blocks(lambda part: one(part, w), most, a)


def _sum_in_blocks(one: Callable, most: int, shape: tuple[int, ...]) -> Callable:
    """A sum over blocks of examples, for one result of all examples."""

    def run(x: Array, y: Array) -> Array:
        blocks, rest = _split(most, x, y)
        if blocks is None:
            return one(*rest)
        wide = wider(x.dtype)

        def add(total: Array, part: tuple[Array, Array]):
            return total + one(*part).astype(wide), None

        total, _ = jax.lax.scan(add, jnp.zeros(shape, wide), blocks)
        if rest is not None:
            total += one(*rest).astype(wide)
        return total.astype(x.dtype)

    return run


def _in_blocks(function: Callable, most: int, *arrays: Array) -> Array:
    """Maps a function over blocks of at most `most` along the leading axis."""
    blocks, rest = _split(most, *arrays)
    parts = [] if rest is None else [function(*rest)]
    if blocks is not None:
        results = jax.lax.map(lambda block: function(*block), blocks)
        parts = [results.reshape(-1, *results.shape[2:]), *parts]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _split(most: int, *arrays: Array) -> tuple[Any, Any]:
    """Arrays as `[blocks, size, ...]`, and the examples left; either may be None."""
    count = arrays[0].shape[0]
    most = min(count, max(1, most))
    # Blocks of equal size need only one program, so a somewhat smaller size is better.
    even = max(size for size in range(1, most + 1) if count % size == 0)
    size = even if 2 * even > most else most
    if size == count:
        return None, arrays
    whole = count // size * size
    blocks = tuple(x[:whole].reshape(-1, size, *x.shape[1:]) for x in arrays)
    rest = tuple(x[whole:] for x in arrays)
    return blocks, rest if whole < count else None


def _primitive(name: str, in_blocks: Callable) -> Primitive:
    """The primitive of one of the three maps, with its shape rule and lowerings."""
    primitive = Primitive(f"metajax_{name}")

    def site(a: Any, b: Any, *, rule: Rule, tuned: Tuned | None) -> Site:
        product, (groups, examples) = rule.make(rule.settings, "cpu"), a.shape[:2]
        operation = f"{product.operation} {name}"
        key = f"{operation}, {groups} x {examples}, {rule.settings}, {a.dtype}"
        return Site(operation, product.sizes(examples), a.dtype, key)

    def made(backend: Backend, a: Array, b: Array, rule: Rule, tuned: Tuned | None):
        form = tuned and tuned.form(site(a, b, rule=rule, tuned=tuned).key)
        return rule.make(rule.settings, backend, form)

    def whole(
        backend: Backend, a: Array, b: Array, *, rule: Rule, tuned: Tuned | None
    ) -> Array:
        return jax.vmap(getattr(made(backend, a, b, rule, tuned), name))(a, b)

    def blocked(a: Array, b: Array, *, rule: Rule, tuned: Tuned | None) -> Array:
        product, shape = made("cpu", a, b, rule, tuned), getattr(rule.shapes, name)
        one = in_blocks(getattr(product, name), BLOCK_BYTES // product.bytes, shape)
        most = BLOCK_BYTES // (product.bytes * a.shape[1])
        return _in_blocks(jax.vmap(one), most, a, b)

    def lowering(function: Callable) -> Callable:
        def nonempty(a: Array, b: Array, **params: Any) -> Array:
            # An empty sum is zero, but many forms cannot reshape an empty array.
            if a.size and b.size:
                return function(a, b, **params)
            out = abstract(a, b, **params)
            return jnp.zeros(out.shape, out.dtype)

        return mlir.lower_fun(nonempty, multiple_results=False)

    def abstract(a: Any, b: Any, *, rule: Rule, tuned: Tuned | None) -> ShapedArray:
        each = getattr(rule.shapes, name)
        lead = a.shape[:1] if name == "w" else a.shape[:2]
        return ShapedArray((*lead, *each), a.dtype)

    SITES[primitive] = site
    primitive.def_impl(compiled(primitive, "rule", "tuned"))
    primitive.def_abstract_eval(abstract)
    # Blocks suit a core's cache; an accelerator is fastest without them.
    mlir.register_lowering(primitive, lowering(partial(whole, "gpu")))
    mlir.register_lowering(primitive, lowering(partial(whole, "tpu")), platform="tpu")
    mlir.register_lowering(primitive, lowering(blocked), platform="cpu")
    return primitive


_y = _primitive("y", _examples_in_blocks)
_x = _primitive("x", _examples_in_blocks)
_w = _primitive("w", _sum_in_blocks)

# Each map is linear in both arguments, so its cotangents are the other two maps.
ad.defbilinear(
    _y,
    lambda ct, x, w, **params: _x.bind(ct, w, **params),
    lambda ct, x, w, **params: _w.bind(x, ct, **params),
)
ad.defbilinear(
    _x,
    lambda ct, y, w, **params: _y.bind(ct, w, **params),
    lambda ct, y, w, **params: _w.bind(ct, y, **params),
)
ad.defbilinear(
    _w,
    lambda ct, x, y, **params: _x.bind(y, ct, **params),
    lambda ct, x, y, **params: _y.bind(x, ct, **params),
)


def _batch(primitive: Primitive, args: tuple, dims: tuple, **params: Any):
    """Turns a new axis into more groups, or more examples if weights are shared."""
    (a, b), (along_a, along_b) = args, dims
    # Shared weights: one large product is faster than a small one for each task. The
    # cotangent of weights (w) sums over examples, so tasks must stay apart there.
    if along_b is None and primitive is not _w:
        a = jnp.moveaxis(a, along_a, 1)
        groups, tasks, examples = a.shape[:3]
        merged = a.reshape(groups, tasks * examples, *a.shape[3:])
        out = primitive.bind(merged, b, **params)
        return out.reshape(groups, tasks, examples, *out.shape[2:]), 1
    tasks = next(x.shape[d] for x, d in zip(args, dims) if d is not None)
    mapped = (
        jnp.broadcast_to(x, (tasks, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(args, dims)
    )
    a, b = mapped
    groups = a.shape[1]
    merged = (x.reshape(tasks * groups, *x.shape[2:]) for x in (a, b))
    out = primitive.bind(*merged, **params)
    return out.reshape(tasks, groups, *out.shape[1:]), 0


for _each in (_y, _x, _w):
    batching.primitive_batchers[_each] = partial(_batch, _each)

PRIMITIVES = (_y, _x, _w)


def form_of(equation: Any, backend: Backend) -> Any:
    """The jaxpr of the form that an equation of one of `PRIMITIVES` takes.

    Args:
      equation: the equation.
      backend: the platform it is lowered for; not a CPU, where it works in blocks.

    Returns:
      A jaxpr.
    """
    rule, name = equation.params["rule"], equation.primitive.name
    a, b = (jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in equation.invars)
    function = getattr(rule.make(rule.settings, backend), name.rpartition("_")[2])
    return jax.make_jaxpr(jax.vmap(function))(a, b).jaxpr
