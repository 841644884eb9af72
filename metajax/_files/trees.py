"""Pytrees in a folder, by orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


def write(folder: Path, tree: Any) -> None:
    """Writes a pytree of arrays to a new folder."""
    with _checkpointer() as checkpointer:
        checkpointer.save(folder, args=ocp.args.PyTreeSave(tree))


def read(folder: Path, like: Any) -> Any:
    """The arrays of a folder as numpy's: they are to be checked before they are used.

    Onto a device orbax would count bytes too, at which tensorstore 0.1 leaks 11 KiB.
    """
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    with _checkpointer() as checkpointer:
        args = ocp.args.PyTreeRestore(template, restore_args=numpy)
        return checkpointer.restore(folder, args=args)


def _checkpointer() -> ocp.Checkpointer:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process writes and reads without the others, if there are several."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"only{own}"
    )
