"""`metajax train --submit`: training as a job of a scheduler, by submitit."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metajax.errors import InputError

FLAG, CLUSTER = "--submit", "cluster"
LOGGING = "SUBMITIT_LOG_LEVEL"  # read when submitit is imported
TIMEOUTS = 1000  # how often a job is queued again: until it is done
SAVED = 128 + signal.SIGTERM  # the status of a run that was told to stop, and saved
SECONDS = 1.0  # between two looks at a run


class Training:
    """A command that trains, as submitit calls it.

    Before its time is up, or when it is preempted, submitit asks for a `checkpoint`:
    the run is told to save and stop, and the same command is queued again, which goes
    on.

    Args:
      arguments: of the command, after its name.
      folder: in which it is run.
    """

    def __init__(self, arguments: Sequence[str], folder: Path):
        self.arguments, self.folder = tuple(arguments), folder
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Trains, in a process of its own.

        Returns:
          Its status: 0, or 143 if it was told to stop and has saved.

        Raises:
          RuntimeError: if it failed.
        """
        command = [sys.executable, "-m", "metajax", "train", *self.arguments]
        self._process = subprocess.Popen(
            command, cwd=self.folder, preexec_fn=_ignore_warning
        )
        try:
            while (status := self._process.poll()) is None:
                time.sleep(SECONDS)
        finally:
            self._process.terminate()
        if status not in (0, SAVED):
            raise RuntimeError(f"metajax train ended with status {status}")
        return status

    def checkpoint(self) -> Any:
        """Stops the run once it is saved; returns the command that goes on."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(ChildProcessError):  # it has ended
                # Not `wait`, whose lock is held by the call that this interrupts.
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        again = Training(self.arguments, self.folder)
        return _imported().helpers.DelayedSubmission(again)


def submit(arguments: Sequence[str], settings: Sequence[str], run: Path) -> None:
    """Submits a training command, and prints the job and where its log is.

    Args:
      arguments: of the command, after its name, `--submit` among them.
      settings: those of submitit, NAME=VALUE; `cluster` is slurm, local or debug.
      run: the directory of the run, beside which the job's files are kept.

    Raises:
      InputError: if submitit is not installed, or a setting is none of its.
    """
    submitit, named = _imported(), _read_settings(settings)
    cluster, folder = named.pop(CLUSTER, None), f"{os.path.abspath(run)}-jobs"
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=cluster, slurm_max_num_timeout=TIMEOUTS
        )
        executor.update_parameters(**{"name": "metajax", **named})
    except (ValueError, NameError, TypeError, RuntimeError) as error:
        raise InputError(f"{FLAG}: submitit refuses the settings: {error}") from error
    job = executor.submit(Training(without_flag(arguments), Path.cwd()))
    print(f"job {job.job_id} of {executor.cluster} trains {run}; its log is in")
    print(job.paths.stdout)
    print(job.paths.stderr)


def without_flag(arguments: Sequence[str], flag: str = FLAG) -> list[str]:
    """Arguments without a flag and its values.

    >>> without_flag(["glyphs", "--submit", "cluster=local", "--seed", "1"])
    ['glyphs', '--seed', '1']
    """
    kept, inside = [], False
    for argument in arguments:
        if argument.startswith("--"):
            inside = argument.partition("=")[0] == flag
        if not inside:
            kept.append(argument)
    return kept


def _ignore_warning() -> None:
    """Ignores the signal of submitit, which a scheduler may send to every process."""
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)


def _read_settings(texts: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or name in settings:
            raise InputError(
                f"{FLAG} takes settings of submitit, each once, as in timeout_min=120 "
                f"slurm_partition=gpu; got {text!r}"
            )
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def _imported() -> Any:
    """Submitit.

    Raises:
      InputError: if it is not installed.
    """
    # It would set up logging anew, and close the handlers that there are. The job,
    # which is not told, does log.
    told = LOGGING in os.environ
    os.environ.setdefault(LOGGING, "NOCONFIG")
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise InputError(
            f"{FLAG} needs submitit ({error}): pip install 'metajax[submit]'"
        ) from error
    finally:
        if not told:
            del os.environ[LOGGING]
