"""What a module holds beside its arrays, which must be the same in every build."""

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
    """Checks that two modules, built of two keys, differ in drawn arrays alone.

    Args:
      one: a module.
      other: the same, built of another key.
      is_drawn: `is_drawn(value) -> bool`, whether `init` draws an attribute.
      mend: what to hold instead.

    Raises:
      InputError: if they differ in anything else, which `init` would never draw.
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
                f"module{place} ({type(a).__name__}) comes out another for another "
                f"key, and init draws arrays only; hold it as an attribute that is "
                f"{mend} if it is not learnt"
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
    if isinstance(x, PLAIN + (jax.Array, np.ndarray, np.generic, type)):
        return {}
    if isinstance(x, Mapping):
        return {f"[{k!r}]": v for k, v in x.items()}
    if isinstance(x, list | tuple):
        return {f"[{i}]": v for i, v in enumerate(x)}
    if isinstance(x, types.FunctionType):
        return _function_parts(x)
    if isinstance(x, functools.partial):
        return {".func": x.func, ".args": x.args, ".keywords": x.keywords}
    if isinstance(x, types.MethodType):
        return {".__func__": x.__func__, ".__self__": x.__self__}
    own = getattr(x, "__dict__", None)
    if own:
        return {f".{k}": v for k, v in own.items() if not k.startswith("_pytree__")}
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
