"""Checks that all a module holds beside its arrays is the same in every build."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from metajax.errors import InputError
from metajax.models._passes import is_key

PLAIN = (int, float, complex, str, bytes, set, frozenset, types.CodeType)


def check_statics(
    one: Any, other: Any, is_drawn: Callable[[Any], bool], *, mend: str
) -> None:
    """Checks that two modules, built from two keys, differ only in what `init` draws.

    Args:
      one: a module.
      other: the same module, built from another key.
      is_drawn: `is_drawn(value) -> bool`, whether `init` draws an attribute.
      mend: what the module should hold instead, for the error.

    Raises:
      InputError: if they differ in anything else.
    """
    seen, pending = set(), [("", one, other, False)]
    while pending:
        place, a, b, fixed = pending.pop()
        if a is b or (not fixed and is_drawn(a)) or (id(a), id(b), fixed) in seen:
            continue
        seen.add((id(a), id(b), fixed))
        # Nothing draws the arrays that a function or another such leaf holds.
        fixed = fixed or jax.tree_util.all_leaves([a])
        parts, others = _parts(a), _parts(b)
        if not _alike(a, b) or parts.keys() != others.keys():
            raise InputError(
                f"module{place} ({type(a).__name__}) differs for another key, and "
                f"init draws arrays only; hold it as an attribute that is {mend} if it "
                "is not learnt"
            )
        held = [(place + k, parts[k], others[k], fixed) for k in parts]
        pending += reversed(held)


def _alike(a: Any, b: Any) -> bool:
    """Whether two values are the same, but for their parts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, jax.Array) and is_key(a):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    if isinstance(a, jax.Array | np.ndarray | np.generic):
        return a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    return not isinstance(a, PLAIN) or a == b or (a != a and b != b)


def _parts(x: Any) -> dict[str, Any]:
    """What a value holds, by how it is reached from there."""
    for kinds, parts in _PARTS:
        if isinstance(x, kinds):
            return parts(x)
    if attributes := getattr(x, "__dict__", None):
        names = [name for name in attributes if not name.startswith("_pytree__")]
        return {f".{name}": attributes[name] for name in names}
    leaves = () if jax.tree_util.all_leaves([x]) else jax.tree.leaves_with_path(x)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _function_parts(x: types.FunctionType) -> dict[str, Any]:
    closed = zip(x.__code__.co_freevars, x.__closure__ or ())
    empty = types.CellType()
    return {
        **{f"'s {name}": cell.cell_contents for name, cell in closed if cell != empty},
        "'s code": x.__code__,
        "'s defaults": (x.__defaults__, x.__kwdefaults__),
    }


_PARTS: tuple[tuple[Any, Callable[[Any], dict[str, Any]]], ...] = (
    (PLAIN + (jax.Array, np.ndarray, np.generic, type), lambda x: {}),
    (Mapping, lambda x: {f"[{k!r}]": v for k, v in x.items()}),
    ((list, tuple), lambda x: {f"[{i}]": v for i, v in enumerate(x)}),
    (types.FunctionType, _function_parts),
    (
        functools.partial,
        lambda x: {".func": x.func, ".args": x.args, ".keywords": x.keywords},
    ),
    (types.MethodType, lambda x: {".__func__": x.__func__, ".__self__": x.__self__}),
)
