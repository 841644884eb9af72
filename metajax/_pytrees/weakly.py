"""Pytrees whose type does not keep what it names alive."""

import dataclasses
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax

from metajax.errors import InputError

T = TypeVar("T")


def register_weakly(*names: str, freed: str) -> Callable[[type[T]], type[T]]:
    """Registers a dataclass as a pytree whose named fields are static and held weakly.

    JAX keeps the types of pytrees in its caches as long as the process lives, and the
    static fields with them. Those named here, pytrees of objects with an identity, are
    part of the type by weak references: whoever has an instance keeps them alive.
    Objects that cannot be referenced weakly are kept, as static fields are. The other
    fields are as `jax.tree_util.register_dataclass` has them.

    Args:
      *names: of the fields.
      freed: the error where an object is used that was freed.

    >>> @register_weakly("reader", freed="the reader was freed; keep it")
    ... @dataclasses.dataclass(frozen=True, eq=False)
    ... class Reading:
    ...     scale: float
    ...     reader: object
    >>> jax.tree.map(lambda x: 2 * x, Reading(1.0, len)).reader([1, 2, 3])
    3
    """

    def register(cls: type[T]) -> type[T]:
        fields = {x.name: bool(x.metadata.get("static")) for x in _fields(cls)}
        fixed = [x for x, static in fields.items() if static and x not in names]
        leaves = [x for x in fields if x not in (*names, *fixed)]
        strong = partial(_strong, placeholder=_Freed(freed))

        def static_of(node: T) -> Any:
            weak = [jax.tree.map(_weak, getattr(node, name)) for name in names]
            return tuple(weak), tuple(getattr(node, name) for name in fixed)

        def flatten(node: T) -> Any:
            return [getattr(node, name) for name in leaves], static_of(node)

        def flatten_with_keys(node: T) -> Any:
            keys = map(jax.tree_util.GetAttrKey, leaves)
            values = [getattr(node, name) for name in leaves]
            return list(zip(keys, values)), static_of(node)

        def unflatten(static: Any, values: Any) -> T:
            weak, plain = static
            node = object.__new__(cls)
            named = [jax.tree.map(strong, x) for x in weak]
            for group, each in ((names, named), (fixed, plain), (leaves, values)):
                for name, value in zip(group, each, strict=True):
                    object.__setattr__(node, name, value)
            return node

        jax.tree_util.register_pytree_with_keys(
            cls, flatten_with_keys, unflatten, flatten
        )
        return cls

    return register


def _fields(cls: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(cls)


def _weak(value: Any) -> Any:
    try:
        reference = weakref.ref(value)
    except TypeError:  # of its type there are none
        return value
    hash(reference)  # kept by it, for the time after
    return reference


def _strong(reference: Any, placeholder: Any) -> Any:
    if not isinstance(reference, weakref.ref):
        return reference
    value = reference()
    return placeholder if value is None else value


class _Freed:
    """In place of an object that was freed: its use is an error."""

    def __init__(self, message: str):
        self._message = message

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise InputError(self._message)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # as copies and pytrees ask for
            raise AttributeError(name)
        raise InputError(self._message)
