"""What proposes the runs of a sweep, by their scores so far: a grid, or Optuna."""

import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.errors import InputError
from metajax.experiments.config import Config
from metajax.experiments.sweep_options import Options, Range, plain
from metajax.experiments.sweep_rows import Row, Values
from metajax.metrics import Metric

FILE = "optuna.db"  # in the folder of the sweep
STUDY, ASKED = "sweep", "asked"  # names in it

Propose = Callable[[Sequence[Row]], Values | None]
"""The values of the run after those of the rows; None after the last."""


class Grid:
    """Every combination of the values of options.

    Attributes:
      points: what to check before anything is trained.
      count: how many runs there will be.

    Raises:
      InputError: if an option is a range.
    """

    def __init__(self, options: Options):
        ranges = [f"{k}={x}" for k, x in options.items() if isinstance(x, Range)]
        if ranges:
            raise InputError(
                f"--over {ranges[0]} is a range, in which Optuna proposes values; add "
                "--trials 20, or give values, as in inner.rate=0.1,0.4"
            )
        self.points = [dict(zip(options, x)) for x in product(*options.values())]
        self.count = len(self.points)

    @contextmanager
    def proposals(
        self, directory: Path, config: Config, metric: Metric
    ) -> Iterator[Propose]:
        """One combination after another."""
        ends = [*self.points, None]
        yield lambda rows: ends[len(rows)]


class Optuna:
    """Trials of Optuna's tree-structured Parzen estimator.

    A search that was stopped proposes what it would have without the stop.

    Args:
      options: the values, or the range, of each.
      count: how many trials.

    Attributes:
      points: what to check before anything is trained: one option after another at
        each of its values, or the ends of its range.
      count: how many runs there will be.

    Raises:
      InputError: if Optuna is not installed.
    """

    def __init__(self, options: Options, count: int):
        self.options, self.count = options, count
        ends = {k: x[:2] if isinstance(x, Range) else x for k, x in options.items()}
        first = {name: values[0] for name, values in ends.items()}
        self.points = [first | {k: x} for k, values in ends.items() for x in values]
        try:
            self._optuna: Any = importlib.import_module("optuna")
        except ImportError as error:
            raise InputError(
                f"--trials needs Optuna ({error}): pip install 'metajax[optuna]'"
            ) from error

    @contextmanager
    def proposals(
        self, directory: Path, config: Config, metric: Metric
    ) -> Iterator[Propose]:
        """One trial after another, of a study that is kept in a file.

        Raises:
          InputError: if the study was asked something else.
        """
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        address = importlib.import_module("sqlalchemy.engine").URL.create(
            "sqlite", database=str(directory.absolute() / FILE)
        )
        storage = self._optuna.storages.RDBStorage(address.render_as_string())
        try:
            study = self._optuna.create_study(
                storage=storage,
                study_name=STUDY,
                direction="maximize" if metric.better(1.0, 0.0) else "minimize",
                load_if_exists=True,
            )
            over = plain(self.options)
            asked = json.dumps({"config": config.as_dict(), "over": over})
            if study.user_attrs.get(ASKED, asked) != asked:
                raise InputError(
                    f"the trials in {directory} are of another configuration or --over;"
                    " take the same ones, or choose another --run-dir"
                )
            study.set_user_attr(ASKED, asked)
            yield _Trials(self._optuna, study, self.options, self.count, config.seed)
        finally:
            storage.remove_session()
            storage.engine.dispose()


class _Trials(NamedTuple):
    """Tells a study the last score, and asks it for the next trial."""

    optuna: Any
    study: Any
    options: Options
    count: int
    seed: int

    def __call__(self, rows: Sequence[Row]) -> Values | None:
        trials, done = self.study.get_trials(deepcopy=False), len(rows)
        if rows and not trials[done - 1].state.is_finished():
            self._tell(done - 1, rows[-1].validation)
        if done == self.count:
            return None
        if done < len(trials):  # asked before a stop
            return self._values(trials[done].params)
        # Of the number too: the estimator that goes on must not draw the same again.
        (seed,) = np.random.SeedSequence((self.seed, done)).generate_state(1)
        sampler = self.optuna.samplers.TPESampler(seed=int(seed))
        # In memory, and then written at once: a kill must not leave half a trial.
        copy = self.optuna.create_study(sampler=sampler, direction=self.study.direction)
        copy.add_trials(trials)
        kinds = {name: self._kind(values) for name, values in self.options.items()}
        params = copy.ask(kinds).params
        running = self.optuna.trial.TrialState.RUNNING
        self.study.add_trial(
            self.optuna.trial.create_trial(
                state=running, params=params, distributions=kinds
            )
        )
        return self._values(params)

    def _tell(self, number: int, score: float | None) -> None:
        if score is not None and math.isfinite(score):
            self.study.tell(number, score)
        else:  # the estimator takes what is pruned for the worst, and ignores failures
            self.study.tell(number, state=self.optuna.trial.TrialState.PRUNED)

    def _kind(self, values: Sequence[Any] | Range) -> Any:
        kinds = self.optuna.distributions
        if not isinstance(values, Range):
            return kinds.CategoricalDistribution([json.dumps(x) for x in values])
        whole = isinstance(values.low, int) and isinstance(values.high, int)
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        return kind(values.low, values.high, log=values.log)

    def _values(self, params: Mapping[str, Any]) -> Values:
        return {
            name: params[name] if isinstance(x, Range) else json.loads(params[name])
            for name, x in self.options.items()
        }
