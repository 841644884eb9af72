"""Pytrees of arrays in a folder, written and read by orbax."""

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
    """Reads the arrays of a folder as numpy's, to be checked before they are used.

    Reading onto a device, orbax also counts bytes, and tensorstore 0.1 leaks 11 KiB.
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
    """Options by which this process reads and writes without the other processes."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"only{own}"
    )
