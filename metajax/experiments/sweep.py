"""`metajax sweep`: a run for each combination of some options' values, or trial.

| file | what |
|---|---|
| NAME=VALUE,NAME=VALUE/ | a run's directory, for each combination or trial |
| sweep.json, sweep.txt | the results, a row a run |
| sweep.png | the validations by the first option, a line for each value of the rest |
| | of trials, by each option |
| optuna.db | of trials, Optuna's study |
"""

import json
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from metajax._files.writing import TEMPORARY, write_whole
from metajax.data.folders.contents import hash_bytes
from metajax.errors import InputError, NonFiniteError
from metajax.experiments.best import SPLIT
from metajax.experiments.build import (
    bare_task,
    build_learner,
    build_training_learner,
)
from metajax.experiments.config import CONFIG, Config, changed
from metajax.experiments.restoring import recorded_config
from metajax.experiments.results import OWN, as_written, result_of
from metajax.experiments.run import train
from metajax.experiments.searching import Grid, Optuna
from metajax.experiments.sweep_options import Options, plain
from metajax.experiments.sweep_rows import Row, Values, best_of, table
from metajax.experiments.tasks import Places
from metajax.metrics import Metric
from metajax.reporting import finite, read_rows

FILE = "sweep.json"
LONGEST = 100  # characters of a folder's name


def sweep(
    config: Config,
    directory: Path,
    places: Places,
    options: Options,
    *,
    trials: int | None = None,
    devices: int | None = None,
) -> list[Row]:
    """Trains a run for each combination or trial, in a folder of its own, or reads it.

    A run that is finished is read; one that was stopped goes on. One whose loss or
    gradient stops being finite is a row that says so, and so is a trial of values that
    no learner can be built for.

    Args:
      config: of which each run changes some options.
      directory: the folder of the sweep.
      places: of the data.
      options: the values of each option, by its name in a configuration.
      trials: how many runs Optuna proposes; by default there is one a combination.
      devices: how many devices share the tasks; all by default.

    Returns:
      The rows, in the order of the combinations or trials.

    Raises:
      InputError: if an option or a value is none of the configuration's, before
        anything is trained; or the folder holds something else.
    """
    search = Grid(options) if trials is None else Optuna(options, trials)
    configs = [_with_values(config, values) for values in search.points]
    if trials is not None:  # later ones that cannot be built are rows
        for values, other in zip(search.points, configs):
            _check_builds(other, values)
    metric = bare_task(configs[0]).metric
    _claim(directory)
    rows: list[Row] = []
    with search.proposals(directory, config, metric) as propose:
        while (values := propose(rows)) is not None:
            row = Row(values, directory / folder_of(values))
            number = f"run {len(rows) + 1} of {search.count}"
            print(f"{number}: {row.directory}", file=sys.stderr)
            try:
                other = _with_values(config, values)
                if not (row.directory / CONFIG).exists():  # of what was built before
                    _check_builds(other, values)
            except InputError as error:
                if trials is None:
                    raise
                rows.append(_failed(row, error))
            else:
                rows.append(_run(row, other, places, devices))
            _write(directory, options, rows, metric)
    write_whole(directory / "sweep.txt", table(rows, metric) + "\n")
    from metajax.experiments import sweep_figure  # loads matplotlib

    draw = sweep_figure.draw_sweep if trials is None else sweep_figure.draw_trials
    draw(rows, metric, directory / "sweep.png")
    return rows


def _with_values(config: Config, values: Values) -> Config:
    """The configuration of a combination.

    Raises:
      InputError: if an option or a value is none of the configuration's.
    """
    try:
        nested = [reduce(_nested, reversed(x.split(".")), v) for x, v in values.items()]
        other = reduce(changed, nested, config)
        other.check()
    except InputError as error:
        raise InputError(f"--over {_text(values)}: {error}") from error
    return other


def _check_builds(config: Config, values: Values) -> None:
    """Checks a combination as `train` does before it reads data.

    Raises:
      InputError: if no learner can be built for it.
    """
    try:
        task = bare_task(config)
        build_training_learner(config, task)
        build_learner(config, task, steps=config.evaluation.steps)
    except InputError as error:
        raise InputError(f"--over {_text(values)}: {error}") from error


def _nested(value: Any, name: str) -> dict[str, Any]:
    return {name: value}


def _claim(directory: Path) -> None:
    """Makes the folder, or sees that it is a sweep's."""
    others = (x for x in directory.glob("*") if not x.match(TEMPORARY))
    is_own = (directory / FILE).is_file()
    if (directory / CONFIG).exists() or (not is_own and any(others)):
        raise InputError(
            f"{directory} is not empty, and no folder of a sweep; choose another "
            "--run-dir"
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not is_own:
        write_whole(directory / FILE, "{}\n")


def _run(row: Row, config: Config, places: Places, devices: int | None) -> Row:
    """Trains or reads a run, and fills its row."""
    directory, steps = row.directory, config.outer.steps
    done = as_written(directory, OWN, steps) is not None
    if not done or recorded_config(directory) != config:
        try:
            train(config, directory, places, devices=devices)
        except NonFiniteError as error:
            return _failed(row, error)
    result = json.loads(result_of(directory).read_bytes())
    mean, interval = (result["transductive"][x][-1] for x in ("mean", "interval"))
    row = row._replace(test=mean, test_interval=interval)
    name = bare_task(config).metric.name
    rows = [x for x in read_rows(directory / "metrics.jsonl") if x["split"] == SPLIT]
    if not rows:
        return row
    score = rows[-1].get(name), rows[-1].get(f"{name}_interval")
    return row._replace(validation=score[0], validation_interval=score[1])


def _failed(row: Row, error: Exception) -> Row:
    print(f"warning: {error}", file=sys.stderr)
    return row._replace(failed=str(error))


def folder_of(values: Values) -> str:
    """The name of the folder of a combination.

    >>> folder_of({"inner.rate": 0.1, "inner.optimizer": "sgd"})
    'inner.rate=0.1,inner.optimizer=sgd'
    """
    text = _text(values)
    if len(text) <= LONGEST and not {"/", "\0"} & {*text}:
        return text
    return hash_bytes(text.encode())


def _text(values: Values) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())


def _write(
    directory: Path, options: Options, rows: Sequence[Row], metric: Metric
) -> None:
    best = best_of(rows, metric)
    content = {
        "over": plain(options),
        "metric": metric.name,
        "best": best and str(best.directory),
        "runs": [_as_plain(row) for row in rows],
    }
    write_whole(directory / FILE, json.dumps(content, indent=2) + "\n")


def _as_plain(row: Row) -> dict[str, Any]:
    """A row as values of JSON."""
    return finite(row._asdict() | {"directory": str(row.directory)})
