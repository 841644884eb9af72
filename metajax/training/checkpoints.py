"""Checkpoints that are written completely or not at all, and checked when read."""

import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._files.fingerprint import described, digest
from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.ops import Tuned
from metajax.training.processes import placed_as
from metajax.training.state import TrainState

SCHEMA = 2  # 1 had no record of its files
RECORD = "files.json"  # the size and the hash of every other file of a checkpoint
FORMS = "forms.json"  # the forms of operations that a run timed
UNFINISHED = ".orbax-checkpoint-tmp"


class Checkpoints:
    """A folder of checkpoints, for `metajax.fit`.

    Each is written under a temporary name and then renamed. It has a hash of each of
    its files and a digest of its arrays, by which `restore` takes the newest one that
    is undamaged.

    Args:
      directory: the folder, which the first save creates.
      keep: how many checkpoints are kept, the newest ones.

    Raises:
      InputError: if `keep` is not a whole number of at least 1.

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
        """The steps with a checkpoint, in order."""
        if not self._directory.is_dir():
            return []
        return sorted(
            int(path.name)
            for path in self._directory.iterdir()
            if path.name.isdecimal() and path.name == str(int(path.name))
        )

    def save(self, state: TrainState, position: str | None = None) -> None:
        """Saves `state` under its step, completely or not at all.

        Damaged checkpoints, of this step or met by `restore`, are first moved into a
        folder beside this one. An undamaged checkpoint of this step stays if it has the
        same state; one of another state is moved aside once `state` is written. States
        can differ in their last bits if the number of devices changed.

        Args:
          state: the state to save.
          position: the position of the iterator that gave its data, if it has one.

        Raises:
          OSError: if it cannot be written; earlier checkpoints are untouched.
        """
        state = jax.tree.map(np.asarray, state)
        step = int(state.step)
        try:
            if step in self.steps() and not self._is_whole(step):
                self._damaged.add(step)
            self._damaged.intersection_update(self.steps())  # some may be deleted
            for damaged in sorted(self._damaged):
                self._set_aside(damaged, "damaged")
                self._damaged.discard(damaged)
            if step not in self.steps() or not self._is_of(state, position):
                self._write(step, state, position)
                self._remove_old()
        except Exception as error:  # a full disk raises many kinds of errors
            raise OSError(
                f"could not write checkpoint {step} in {self._directory} "
                f"({_first_line(error)}); earlier checkpoints are untouched"
            ) from error

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest undamaged checkpoint.

        Damaged ones are skipped with a warning; nothing on disk is changed.

        Args:
          like: a state with the expected structure, shapes and dtypes.

        Returns:
          The state, or None if there is no checkpoint; in numpy's arrays or over the
          devices of `like` if it has those, or else on the default device.

        Raises:
          InputError: if it is of another model or optimizer, if all checkpoints are
            damaged, or if `like` has leaves that cannot be saved.
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
            except (PermissionError, MemoryError, InputError):
                raise  # an undamaged one, which must not be skipped
            except Exception as error:  # orbax raises many kinds for a damaged file
                failed[step] = error
            else:
                self._pass_over(failed)
                return placed_as(state, like)
        self._damaged.update(failed)
        if failed:
            oldest = failed[min(failed)]
            raise InputError(
                f"no checkpoint in {self._directory} can be read "
                f"({_first_line(oldest)}); move the folder away to begin anew"
            )
        return None

    def position(self, step: int) -> str | None:
        """The position of the data that was saved with the state of a step."""
        return _read_manifest(self._directory / str(step)).get("position")

    def forms(self) -> Tuned | None:
        """The forms of operations that the run of these checkpoints takes.

        Returns:
          The forms that `keep_forms` saved, or None for those of the table.

        Raises:
          InputError: if their file is damaged.
        """
        path = self._directory / FORMS
        if not path.exists():
            return None
        try:
            return Tuned.from_text(path.read_bytes())
        except InputError as error:
            raise InputError(
                f"{path} is damaged ({error}); delete it to go on with the forms of "
                "the table, whose last bits differ"
            ) from error

    def keep_forms(self, tuned: Tuned) -> None:
        """Saves the forms that a run takes, completely or not at all.

        Raises:
          OSError: if they cannot be written.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        write_whole(self._directory / FORMS, tuned.as_text() + "\n")

    def _pass_over(self, failed: dict[int, Exception]) -> None:
        """Warns once about damaged checkpoints, which the next save moves aside."""
        for step in sorted(failed.keys() - self._damaged):
            warnings.warn(
                f"checkpoint {step} in {self._directory} is damaged "
                f"({_first_line(failed[step])}); the one before it is used",
                stacklevel=3,
            )
        self._damaged.update(failed)

    def _write(self, step: int, state: TrainState, position: str | None) -> None:
        for left in self._directory.glob(f"*{UNFINISHED}*"):  # by what was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = self._directory / f"{step}{UNFINISHED}"
        try:
            (folder / "manifest").mkdir(parents=True)
            from metajax._files import trees  # loads orbax

            trees.write(folder / "state", state)
            manifest = json.dumps(_manifest(state, position))
            write_whole(folder / "manifest" / "metadata", manifest)
            write_whole(folder / RECORD, json.dumps(_recorded(folder)))
            if step in self.steps():  # moved only now, in case the disk was full
                self._set_aside(step, "replaced")
            folder.rename(self._directory / str(step))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, step: int) -> None:
        """Removes the checkpoint of a step, if there is one."""
        shutil.rmtree(self._directory / str(step), ignore_errors=True)

    def _remove_old(self) -> None:
        for step in self.steps()[: -self._keep]:
            self.remove(step)

    def _is_whole(self, step: int) -> bool:
        try:
            _check_files(self._directory / str(step))
        except Exception:  # a damaged record may hold any JSON
            return False
        return True

    def _is_of(self, state: TrainState, position: str | None) -> bool:
        """Whether the checkpoint of a state's step holds that state."""
        manifest = _read_manifest(self._directory / str(int(state.step)))
        ours = _manifest(state, position) | {"schema": manifest["schema"]}
        return ours.items() <= manifest.items()

    def _read(self, step: int, like: TrainState) -> TrainState:
        folder = self._directory / str(step)
        _check_files(folder)
        manifest = _read_manifest(folder)
        if (arrays := manifest["arrays"]) != (ours := described(like)):
            differing = [a for a in ours if a not in arrays] or arrays
            raise InputError(
                f"{folder} is a checkpoint of another model or optimizer (expected "
                f"{differing[0]}, which it lacks); use another run directory"
            )
        from metajax._files import trees  # loads orbax

        state = trees.read(folder / "state", like)
        expected = _manifest(state, manifest.get("position"))
        if (
            expected | {"schema": manifest["schema"]} != manifest
            or manifest["step"] != step
        ):
            raise OSError("its arrays are not those that were saved")
        return state

    def _set_aside(self, step: int, why: str) -> None:
        folder = self._directory.with_name(f"{self._directory.name}-{why}")
        folder.mkdir(exist_ok=True)
        target = Path(tempfile.mkdtemp(prefix=f"{step}-", dir=folder)) / str(step)
        (self._directory / str(step)).rename(target)


def _manifest(state: TrainState, position: str | None) -> dict[str, Any]:
    arrays = {
        "schema": SCHEMA,
        "step": int(state.step),
        "arrays": described(state),
        "sha256": digest(state),
    }
    if position is None:
        return arrays
    return arrays | {"position": position}


def _read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest" / "metadata").read_text())


def _recorded(folder: Path) -> dict[str, list[Any]]:
    """The size and the hash of every file of a checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _recorded_file(path) for path in files}


def _recorded_file(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "blake2b").hexdigest()]


def _check_files(folder: Path) -> None:
    """Checks the files of a checkpoint before orbax reads them.

    Orbax would close its event loop at a damaged file while threads of tensorstore
    still report to it, and each would print a traceback.

    Raises:
      OSError: if a file is missing or changed. If the record is damaged, json raises
        other errors.
    """
    record = folder / RECORD
    if not record.is_file() and _read_manifest(folder).get("schema") == 1:
        return
    for name, expected in json.loads(record.read_text()).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected[0]:
            raise OSError(f"{name} is missing or cut")
        if _recorded_file(path) != expected:
            raise OSError(f"{name} is not what was written")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
