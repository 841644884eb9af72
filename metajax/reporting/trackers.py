"""Training as runs of trackers of experiments: Weights & Biases, MLflow, trackio."""

import importlib
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.reporting.rows import means
from metajax.training.state import TrainState

PROJECT = "metajax"


class Tracker:
    """An observer that sends the mean of each metric to a tracker.

    It is a context manager: the tracker's run ends when it closes. Training that
    resumes goes on in the same run of the tracker, whose name is kept in a file.

    Args:
      directory: the run's, whose name the tracker shows, and in which files lie that
        the tracker keeps beside its store.
      config: plain values by name, which the tracker shows.

    Attributes:
      name: of the tracker, and of the extra that installs it.
      package: which it needs.

    Raises:
      InputError: by `check`, or when training starts, if the package is not installed.

    A tracker of your own says how it opens, logs and closes:

    >>> import tempfile, optax, metajax as mj
    >>> class Printer(Tracker):
    ...     package = "math"
    ...     def open(self, package, key):
    ...         return print
    ...     def log(self, run, numbers, step):
    ...         run(step, sorted(numbers)[0])
    ...     def close(self, run):
    ...         pass
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> training = dict(steps=20, tasks=4, steps_per_call=10)
    >>> with Printer(tempfile.mkdtemp()) as tracker:
    ...     training["observers"] = [tracker]
    ...     _ = mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), **training)
    10 train/gradient_norm
    20 train/gradient_norm
    """

    name: ClassVar[str] = ""
    package: ClassVar[str] = ""

    def __init__(self, directory: str | Path, config: Mapping[str, Any] | None = None):
        self.directory, self.config = Path(directory), dict(config or {})
        self._run: Any = None

    def check(self) -> None:
        """Refuses, before training, a tracker whose package is not installed."""
        self._imported()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._run is not None:
            with redirect_stdout(sys.stderr):
                self.close(self._run)

    def start(self, state: TrainState) -> None:
        """Opens the tracker's run."""
        path = self.directory / f"{self.name or PROJECT}.id"
        if not path.exists():
            write_whole(path, uuid.uuid4().hex)
        with redirect_stdout(sys.stderr):
            self._run = self.open(self._imported(), path.read_text().strip())

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Sends the numbers of a dispatch."""
        self.write({"step": int(state.step), "split": "train", **means(metrics)})

    def write(self, row: Mapping[str, Any]) -> None:
        """Sends the numbers of a row, named by its `split`."""
        numbers = {
            f"{row['split']}/{name}": value
            for name, value in row.items()
            if isinstance(value, float)
        }
        self.log(self._run, numbers, row["step"])

    def _imported(self) -> Any:
        try:
            return importlib.import_module(self.package)
        except ImportError as error:
            raise InputError(
                f"{self.name} is not installed ({error}): pip install "
                f"'metajax[{self.name}]'"
            ) from error

    def open(self, package: Any, key: str) -> Any:
        """Opens the run of a key, which may be there already."""
        raise NotImplementedError

    def log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        """Sends numbers to the run that `open` returned."""
        raise NotImplementedError

    def close(self, run: Any) -> None:
        """Ends the run."""
        raise NotImplementedError


class WandB(Tracker):
    """Weights & Biases, online or offline as its own WANDB_MODE says."""

    name, package = "wandb", "wandb"

    def open(self, package: Any, key: str) -> Any:
        """Opens or resumes the run."""
        return package.init(
            project=PROJECT,
            id=key,
            name=self.directory.name,
            dir=self.directory,
            config=self.config,
            resume="allow",
        )

    def log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        """Sends numbers; of steps that were sent before, nothing."""
        run.log(dict(numbers), step=step)

    def close(self, run: Any) -> None:
        """Ends the run."""
        run.finish()


class MLflow(Tracker):
    """MLflow, in the store that MLFLOW_TRACKING_URI names, or in its own default."""

    name, package = "mlflow", "mlflow"
    KEY: ClassVar[str] = "metajax.key"

    def open(self, package: Any, key: str) -> Any:
        """Opens or resumes the run of the key, which is a tag of it."""
        client = package.MlflowClient()
        known = client.get_experiment_by_name(PROJECT)
        place = known.experiment_id if known else client.create_experiment(PROJECT)
        runs = client.search_runs([place], f"tags.`{self.KEY}` = '{key}'")
        if runs:
            return client, runs[0].info.run_id
        tags, name = {self.KEY: key}, self.directory.name
        number = client.create_run(place, run_name=name, tags=tags).info.run_id
        for each, value in self.config.items():
            client.log_param(number, each, value)
        return client, number

    def log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        """Sends numbers."""
        client, number = run
        for name, value in numbers.items():
            client.log_metric(number, name, value, step=step)

    def close(self, run: Any) -> None:
        """Ends the run."""
        client, number = run
        client.set_terminated(number)


class Trackio(Tracker):
    """trackio, whose store is on this machine, in TRACKIO_DIR or its own default."""

    name, package = "trackio", "trackio"

    def open(self, package: Any, key: str) -> Any:
        """Opens or resumes the run of the name and the key."""
        name = f"{self.directory.name}-{key[:8]}"
        package.init(project=PROJECT, name=name, config=self.config, resume="allow")
        return package

    def log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        """Sends numbers."""
        run.log(dict(numbers), step=step)

    def close(self, run: Any) -> None:
        """Ends the run."""
        run.finish()


TRACKERS: dict[str, type[Tracker]] = {
    kind.name: kind for kind in (WandB, MLflow, Trackio)
}
"""The trackers by name."""


def check_trackers(trackers: Iterable[Tracker]) -> None:
    """Refuses, before training, trackers whose packages are not installed.

    Raises:
      InputError: if one is not.
    """
    for tracker in trackers:
        tracker.check()
