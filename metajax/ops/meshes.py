"""A check of arrays inside a `jax.shard_map`."""

import jax

from metajax.errors import InputError
from metajax.types import Array


def check_same_everywhere(*arrays: Array) -> None:
    """Checks that no array has a type that varies over the devices of a mesh.

    JAX would sum the inner gradient of replicated parameters over such devices, and so
    mix tasks.

    Raises:
      InputError: if an array has such a type.
    """
    for x in arrays:
        kind = getattr(jax.typeof(x), "manual_axis_type", None)
        if kind is not None and kind.varying:
            raise InputError(
                "metajax's operations need jax.shard_map(..., check_vma=False), got "
                "arrays that vary over a mesh axis"
            )
