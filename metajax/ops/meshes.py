"""What operations ask of arrays inside a `jax.shard_map`."""

import jax

from metajax.errors import InputError
from metajax.types import Array


def check_same_everywhere(*arrays: Array) -> None:
    """Checks that arrays are not typed as differing between the devices of a mesh.

    With such types, the inner gradient of replicated parameters would be summed over
    the devices: tasks would mix.

    Raises:
      InputError: if one is.
    """
    for x in arrays:
        kind = getattr(jax.typeof(x), "manual_axis_type", None)
        if kind is not None and kind.varying:
            raise InputError(
                "metajax's operations need jax.shard_map(..., check_vma=False), got "
                "arrays that vary over a mesh axis"
            )
