"""`metajax sweep`: a run for each combination of some options' values.

| file | what |
|---|---|
| NAME=VALUE,NAME=VALUE/ | a run's directory, for each combination |
| sweep.json, sweep.txt | the results, a row a run |
| sweep.png | the validations by the first option, a line for each value of the others |
"""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from metajax._files.writing import TEMPORARY, write_whole
from metajax.data.contents import hash_bytes
from metajax.errors import InputError, NonFiniteError
from metajax.experiments.best import SPLIT
from metajax.experiments.build import bare_task
from metajax.experiments.config import CONFIG, Config, changed
from metajax.experiments.restoring import recorded_config
from metajax.experiments.results import OWN, as_written, result_of
from metajax.experiments.run import train
from metajax.experiments.sweep_rows import Row, Values, best_of, table
from metajax.experiments.tasks import Places
from metajax.metrics import Metric
from metajax.reporting import finite, read_rows

FILE = "sweep.json"
LONGEST = 100  # characters of a folder's name


def read_options(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The values of each option of `NAME=VALUE,VALUE`.

    Raises:
      InputError: if there is none, or one has no values, or is given twice.

    >>> read_options(["inner.rate=0.1,4e-1", "inner.optimizer=sgd,adam"])
    {'inner.rate': [0.1, 0.4], 'inner.optimizer': ['sgd', 'adam']}
    """
    options: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        options.setdefault(name, [])
        if not name or not values or options[name]:
            raise InputError(
                "--over must be NAME=VALUE,VALUE, each name once, as in inner.rate="
                f"0.1,0.4; got {text!r}"
            )
        options[name] = _read_values(values)
    if not options:
        raise InputError("expected --over NAME=VALUE,VALUE, as in inner.rate=0.1,0.4")
    return options


def _read_values(text: str) -> list[Any]:
    try:
        return json.loads(f"[{text}]")
    except ValueError:  # names without quotes
        return [_read_value(part) for part in text.split(",")]


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def sweep(
    config: Config,
    directory: Path,
    places: Places,
    options: Mapping[str, Sequence[Any]],
    *,
    devices: int | None = None,
) -> list[Row]:
    """Trains a run for each combination, each in a folder of its own, or reads it.

    A run that is finished is read; one that was stopped goes on. One whose loss or
    gradient stops being finite is a row that says so.

    Args:
      config: of which each run changes some options.
      directory: the folder of the sweep.
      places: of the data.
      options: the values of each option, by its name in a configuration.
      devices: how many devices share the tasks; all by default.

    Returns:
      The rows, in the order of the combinations.

    Raises:
      InputError: if an option or a value is none of the configuration's, before
        anything is trained; or the folder holds something else.
    """
    combinations = [dict(zip(options, values)) for values in product(*options.values())]
    configs = [_with_values(config, values) for values in combinations]
    _claim(directory)
    rows, metric = [], bare_task(configs[0]).metric
    for number, (values, each) in enumerate(zip(combinations, configs), 1):
        row = Row(values, directory / folder_of(values))
        print(f"run {number} of {len(configs)}: {row.directory}", file=sys.stderr)
        rows.append(_run(row, each, places, devices))
        _write(directory, options, rows, metric)
    write_whole(directory / "sweep.txt", table(rows, metric) + "\n")
    from metajax.experiments.sweep_figure import draw_sweep  # loads matplotlib

    draw_sweep(rows, metric, directory / "sweep.png")
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
            print(f"warning: {error}", file=sys.stderr)
            return row._replace(failed=str(error))
    result = json.loads(result_of(directory).read_bytes())
    mean, interval = (result["transductive"][x][-1] for x in ("mean", "interval"))
    row = row._replace(test=mean, test_interval=interval)
    name = bare_task(config).metric.name
    rows = [x for x in read_rows(directory / "metrics.jsonl") if x["split"] == SPLIT]
    if not rows:
        return row
    score = rows[-1].get(name), rows[-1].get(f"{name}_interval")
    return row._replace(validation=score[0], validation_interval=score[1])


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
    directory: Path, options: Mapping[str, Any], rows: Sequence[Row], metric: Metric
) -> None:
    best = best_of(rows, metric)
    plain = {
        "over": dict(options),
        "metric": metric.name,
        "best": best and str(best.directory),
        "runs": [_as_plain(row) for row in rows],
    }
    write_whole(directory / FILE, json.dumps(plain, indent=2) + "\n")


def _as_plain(row: Row) -> dict[str, Any]:
    """A row as values of JSON."""
    return finite(row._asdict() | {"directory": str(row.directory)})
