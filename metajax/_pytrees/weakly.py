"""Pytrees whose type does not keep what it names alive."""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from metajax.errors import InputError

T = TypeVar("T")


def register_weakly(*names: str) -> Callable[[type[T]], type[T]]:
    """Registers a dataclass as `jax.tree_util.register_dataclass` does, but for fields.

    JAX keeps the types of pytrees in its caches as long as the process lives, and the
    static fields with them. Those named here, pytrees of objects with an identity, are
    part of the type by weak references: whoever has an instance keeps them alive.

    Args:
      *names: of the fields.

    >>> @register_weakly("reader")
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
            strong = [jax.tree.map(_strong, x) for x in weak]
            for group, each in ((names, strong), (fixed, plain), (leaves, values)):
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


def _weak(value: Any) -> weakref.ref:
    reference = weakref.ref(value)
    hash(reference)  # kept by it, for the time after
    return reference


def _strong(reference: weakref.ref) -> Any:
    value = reference()
    return _freed if value is None else value


def _freed(*_: Any) -> Any:
    raise InputError(
        "what this sampler reads was freed; keep the sampler as long as one that was "
        "made of its leaves"
    )
