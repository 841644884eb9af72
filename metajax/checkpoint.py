"""Checkpoints that are written whole or not at all, and checked when they are read."""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from metajax.errors import InputError
from metajax.fingerprint import described, digest
from metajax.training import TrainState
from metajax.types import check_count

SCHEMA = 1


class Checkpoints:
    """A folder of checkpoints, for `metajax.fit`.

    Each is written beside its place and then renamed into it, and carries a digest of
    its arrays: `restore` takes the newest whose arrays are those that were saved.

    Args:
      directory: the folder; made at the first save.
      keep: how many of the newest are kept.

    >>> import tempfile, optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> checkpoints = Checkpoints(tempfile.mkdtemp())
    >>> training = dict(tasks=4, checkpoints=checkpoints)
    >>> _ = mj.fit(learner, optax.sgd(0.1), mj.data.sinusoid(), steps=1, **training)
    >>> state = mj.fit(learner, optax.sgd(0.1), mj.data.sinusoid(), steps=2, **training)
    >>> checkpoints.steps()
    [1, 2]
    """

    def __init__(self, directory: str | Path, *, keep: int = 3):
        self._directory = Path(directory).absolute()
        self._keep = check_count("keep", keep, least=1)
        self._damaged: set[int] = set()

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        if not self._directory.is_dir():
            return []
        return sorted(
            int(path.name)
            for path in self._directory.iterdir()
            if path.name.isdecimal() and path.name == str(int(path.name))
        )

    def save(self, state: TrainState, position: str | None = None) -> None:
        """Saves `state` under its step, wholly or not at all.

        With it goes the `position` of the iterator that gave its data, if it has one.

        Checkpoints that `restore` found damaged are first moved into a folder beside
        this one: they would stand in the way. One that is there under this step is left
        as it is.

        Raises:
          OSError: if it cannot be written; what was there before is untouched.
        """
        state = jax.tree.map(np.asarray, state)
        step = int(state.step)
        try:
            for damaged in sorted(self._damaged):
                self._set_aside(damaged)
                self._damaged.discard(damaged)
            if step in self.steps():
                return
            with self._manager() as manager:
                manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state),
                        manifest=ocp.args.JsonSave(_manifest(state, position)),
                    ),
                )
        except Exception as error:  # a full disk surfaces as one of many kinds
            raise OSError(
                f"could not write checkpoint {step} in {self._directory} "
                f"({_first_line(error)}); earlier checkpoints are untouched"
            ) from error

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest whole checkpoint, or None if there is none.

        A damaged one is passed over, with a warning; nothing on disk is changed.

        Args:
          like: a state of the structure, shapes and dtypes that are expected.

        Returns:
          The state, on the default device.

        Raises:
          InputError: if a checkpoint is of another structure, if none of those that
            are there is whole, or if `like` has leaves that cannot be saved.
        """
        for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise InputError(
                    f"state{jax.tree_util.keystr(path)} is a PRNG key, which a "
                    "checkpoint cannot hold; keep jax.random.key_data of it"
                )
        failed: dict[int, Exception] = {}
        for step in reversed(self.steps()):
            try:
                state = self._read(step, like)
            except (PermissionError, MemoryError):
                raise
            except Exception as error:  # orbax raises many kinds for a damaged file
                failed[step] = error
            else:
                self._pass_over(failed)
                return jax.tree.map(jnp.asarray, state)
        for error in failed.values():
            if isinstance(error, InputError):  # and none before it is of this model
                raise error
        self._damaged.update(failed)
        if failed:
            raise InputError(
                f"no checkpoint in {self._directory} can be read "
                f"({_first_line(error)}); move the folder away to begin anew"
            )
        return None

    def position(self, step: int) -> str | None:
        """What was saved with the state of a step as the position of its data."""
        return self._read_manifest(step).get("position")

    def _pass_over(self, failed: dict[int, Exception]) -> None:
        """Warns of damaged checkpoints, which the next save moves aside."""
        for step, error in failed.items():
            self._damaged.add(step)
            warnings.warn(
                f"checkpoint {step} in {self._directory} is damaged "
                f"({_first_line(error)}); the one before it is used",
                stacklevel=3,
            )

    def _manager(self) -> ocp.CheckpointManager:
        self._directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=_alone(),
        )
        return ocp.CheckpointManager(self._directory, options=options)

    def _read(self, step: int, like: TrainState) -> TrainState:
        folder, manifest = self._directory / str(step), self._read_manifest(step)
        if (found := manifest["arrays"]) != (expected := described(like)):
            differing = [a for a in expected if a not in found] or found
            raise InputError(
                f"{folder} is a checkpoint of another model or optimizer (expected "
                f"{differing[0]}, not found); use another run directory"
            )
        state = _on_host(folder / "state", like)
        own = _manifest(state, manifest.get("position"))
        if own != manifest or manifest["step"] != step:
            raise OSError("its arrays are not those that were saved")
        return state

    def _read_manifest(self, step: int) -> dict[str, Any]:
        path = self._directory / str(step) / "manifest" / "metadata"
        return json.loads(path.read_text())

    def _set_aside(self, step: int) -> None:
        folder = self._directory.with_name(f"{self._directory.name}-damaged")
        folder.mkdir(exist_ok=True)
        target = Path(tempfile.mkdtemp(prefix=f"{step}-", dir=folder)) / str(step)
        (self._directory / str(step)).rename(target)


def _on_host(folder: Path, like: TrainState) -> TrainState:
    """The arrays of a folder as numpy's: they are to be checked before they are used.

    Onto a device orbax would count bytes too, at which tensorstore 0.1 leaks 11 KiB.
    """
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
        args = ocp.args.PyTreeRestore(template, restore_args=numpy)
        return checkpointer.restore(folder, args=args)


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process writes and reads without the others, if there are several."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"only{own}"
    )


def _manifest(state: TrainState, position: str | None) -> dict[str, Any]:
    arrays = {
        "schema": SCHEMA,
        "step": int(state.step),
        "arrays": described(state),
        "sha256": digest(state),
    }
    if position is None:
        return arrays
    told = np.frombuffer(position.encode(), np.uint8)
    return arrays | {"position": position, "position_sha256": digest(told)}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
