"""Traces a function for what its outputs depend on, and what it changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr

from metajax._autodiff.jaxprs import bodies_of, inputs_read
from metajax.types import PyTree


class Dependence(NamedTuple):
    """What a call of a module reads and changes.

    Attributes:
      read: for each leaf of its arguments, whether the outputs depend on it.
      changed: for each leaf of the state that it takes, whether the call changes it.
    """

    read: tuple[PyTree, ...]
    changed: PyTree


def dependence(call: Callable[..., tuple[PyTree, PyTree]], *args: PyTree) -> Dependence:
    """Traces `call(state, ...) -> (outputs, state after)`.

    Args:
      call: a function of arrays.
      *args: its arguments, arrays or abstract ones. A leaf of the state has the same
        path before and after.

    Returns:
      A `Dependence`. A leaf that tracing cannot decide counts as read and changed.

    >>> import jax.numpy as jnp
    >>> call = lambda state, x: (x, {"mean": state["mean"] + x})
    >>> dependence(call, {"mean": 0.0}, 1.0)
    Dependence(read=({'mean': False}, True), changed={'mean': True})
    """
    args = jax.tree.map(_abstract, args)
    closed, (outputs, after) = jax.make_jaxpr(call, return_shape=True)(*args)
    jaxpr, count = closed.jaxpr, len(jax.tree.leaves(outputs))
    wanted = [i < count for i in range(len(jaxpr.outvars))]
    read = jax.tree.unflatten(jax.tree.structure(args), inputs_read(jaxpr, wanted))
    paths = [path for path, _ in jax.tree.leaves_with_path(after)]
    after_var = dict(zip(paths, jaxpr.outvars[count:]))
    before = jax.tree.leaves_with_path(args[0])
    changed = [
        path not in after_var or _origin(jaxpr, after_var[path]) is not var
        for (path, _), var in zip(before, jaxpr.invars)
    ]
    return Dependence(read, jax.tree.unflatten(jax.tree.structure(args[0]), changed))


def once_per_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, called once for each structure and shapes of its arguments."""
    known: dict[Any, Any] = {}

    def cached(*args: PyTree) -> Any:
        leaves, structure = jax.tree.flatten(jax.tree.map(_abstract, args))
        key = structure, tuple((x.shape, x.dtype) for x in leaves)
        if key not in known:
            known[key] = function(*jax.tree.unflatten(structure, leaves))
        return known[key]

    return cached


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    dtype = x.dtype if hasattr(x, "dtype") else jax.dtypes.result_type(x)
    if not jax.numpy.issubdtype(dtype, jax.dtypes.extended):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(jax.numpy.shape(x), dtype)


def _origin(jaxpr: Jaxpr, var: Any) -> Any:
    """The variable that calls hand on, unchanged, as `var`."""
    for equation in jaxpr.eqns:
        if var not in equation.outvars or not _hands_on(equation):
            continue
        (body,) = bodies_of(equation)
        inner = _origin(body, body.outvars[equation.outvars.index(var)])
        if inner in body.invars:
            return _origin(jaxpr, equation.invars[body.invars.index(inner)])
    return var


def _hands_on(equation: Any) -> bool:
    return len(bodies_of(equation)) == 1 and equation.primitive.name != "scan"
