"""A run and its directory.

| file | what |
|---|---|
| config.json | the configuration, whole |
| data.json | the hash of every file of the data, if they are files |
| metrics.jsonl | a row a dispatch of training, and one a validation |
| events/ | the same for TensorBoard |
| checkpoints/ | the newest states; forms.json, those of a run that timed them |
| best/ | the state of the best validation |
| evaluation.json, evaluation.txt | the result with its protocol |
| evaluation-*.json, evaluation-*.txt | other results, see `results.py` |
| *.unfinished.npz | the scores so far of an evaluation that was interrupted |
| backbone.npz | of a learner on a pre-trained body, that body |
| learning_curve.png, adaptation.png | figures |
| genotype.json, cells.png, alphas.png | of `cells`, the architecture |
| .lock | held by the process that trains |
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

from metajax._files.fingerprint import digest
from metajax._files.lock import only_writer
from metajax._files.writing import TEMPORARY, write_whole
from metajax.data.checking import once
from metajax.data.sampling import StagedSampler
from metajax.data.staging import draw_and_fetch
from metajax.errors import InputError
from metajax.evaluation.scores import evaluate
from metajax.experiments import figures
from metajax.experiments.backbone import keep_body
from metajax.experiments.beginning import begin, check_begun, read_beginning
from metajax.experiments.best import Best
from metajax.experiments.build import (
    at_other_tasks,
    at_test_tasks,
    bare_task,
    build_learner,
    build_task,
    build_training_episodes,
    build_training_learner,
)
from metajax.experiments.config import CONFIG, Config
from metajax.experiments.domains import domain_of, own_domain
from metajax.experiments.evaluating import Evaluating
from metajax.experiments.forms import forms_of
from metajax.experiments.interrupt import Signals
from metajax.experiments.owned import is_measured
from metajax.experiments.plain import names_of
from metajax.experiments.record import keep_data
from metajax.experiments.restoring import (
    abstract_state,
    checkpoints_of,
    configured,
    forms_taken,
    recorded_config,
    restored,
    with_own_body,
)
from metajax.experiments.results import (
    Kept,
    Measured,
    measure,
    own_result,
    result_of,
    unfinished_of,
)
from metajax.experiments.tasks import Places, Split, Task
from metajax.experiments.tent import Tent
from metajax.models import remaining
from metajax.ops import taking
from metajax.reporting import (
    TRACKERS,
    JsonLines,
    Progress,
    TensorBoard,
    Tracker,
    check_trackers,
    read_rows,
)
from metajax.training.averaging import averaged
from metajax.training.checkpoints import Checkpoints
from metajax.training.fitting import fit
from metajax.training.launchers import check_world
from metajax.training.processes import alike, from_first, in_turn, is_first
from metajax.training.state import TrainState
from metajax.training.tuned import Tuner
from metajax.types import Learner, LearnerSchedule, PyTree, Sampler

FLAT = "constant"  # the schedule that is the same in a longer run
VALIDATIONS, VALIDATION_TASKS = 10, 100  # how many in a run, and of how many tasks
CHECKPOINTS = 20  # in a run
ADAPTED_AT_A_TIME = 8  # tasks, for a figure
OF_STEP = re.compile(r"-step\d+(-|$)")  # in the name of a result of a meta-step
VALIDATION_SEED = 2**31 - 1  # not that of the test: sine waves have no splits


def train(
    config: Config,
    directory: Path,
    places: Places,
    *,
    devices: int | None = None,
    start: Path | None = None,
    log: Sequence[str] = (),
) -> Path:
    """Trains in `directory`, or goes on with what is there; evaluates and draws.

    Of several processes all call it, and the first alone writes.

    Args:
      config: the configuration.
      directory: of the run.
      places: of its data.
      devices: how many devices share the tasks; all by default.
      start: a run, or its published file, whose meta-parameters training begins with.
      log: trackers that are sent the numbers too, of `metajax.reporting.TRACKERS`.

    Returns:
      The file of its result.

    Raises:
      InputError: for a configuration or data that will not do, or a directory of
        another run, or one in which another process is training.
      Stopped: if a signal asked for it; the run is saved.
    """
    config.check()
    check_world()  # `fit` does too, after the directory is claimed
    if not alike(json.dumps(config.as_dict())):
        raise InputError(
            "the processes were started with different flags; start all of them with "
            "the same ones, but for --process"
        )
    shown = _flat(config.as_dict())
    trackers = [TRACKERS[name](directory, shown) for name in log]
    from_first(lambda: check_trackers(trackers))
    job = in_turn(lambda: _job(config, directory, places, start))
    with ExitStack() as held, Signals() as signals:
        from_first(lambda: _enter(job, directory, held))
        checkpoints = checkpoints_of(directory)
        if from_first(lambda: _finished(job, directory, checkpoints), np.array(False)):
            return result_of(directory)
        how = {"devices": devices, "stop": signals, "trackers": trackers}
        state = _trained(job, directory, checkpoints, **how)
        if is_first():
            rows = read_rows(directory / "metrics.jsonl")
            lines = job.task.references
            if rows:  # not of a run without meta-steps
                figures.learning_curve(rows, job.task.metric, directory, lines)
        meta, step = averaged(state), int(state.step)
        # Of the body that the run keeps: the one that it was given may have changed.
        config = with_own_body(job.config, directory)
        own = own_domain(config)
        run = Measured(directory, config, own, job.task, job.measured, meta, step)
        from_first(lambda: _conclude(run, stop=signals))
        return result_of(directory)


class Job(NamedTuple):
    """What is trained, and on what; `claimed` as it was asked for.

    Validations and the evaluation are of one learner, `measured`, so that they are one
    compiled program where their data are of one shape.
    """

    config: Config
    task: Task
    learner: Learner | LearnerSchedule
    measured: Learner
    episodes: Sampler
    claimed: Config
    forms: Literal["table"] | Tuner
    start: PyTree = None


def _job(config: Config, directory: Path, places: Places, start: Path | None) -> Job:
    task = build_task(config, places)
    own = with_own_body(config, directory)
    learner = build_training_learner(own, task)
    measured = build_learner(own, task, steps=config.evaluation.steps)
    episodes = build_training_episodes(config, task)
    for split in ("validation", "test"):  # fails now, not after training
        task.episodes(split, config.evaluation.queries)
    forms = forms_of(config, places)
    job = Job(own, task, learner, measured, episodes, config, forms)
    return job if start is None else _beginning(job, start)


def _beginning(job: Job, start: Path) -> Job:
    """The same, of a run that begins with the meta-parameters of another."""
    meta = read_beginning(start, job.learner, job.config)
    own, claimed = (
        replace(config, start=digest(meta)) for config in (job.config, job.claimed)
    )
    return job._replace(config=own, claimed=claimed, start=meta)


def _enter(job: Job, directory: Path, held: ExitStack) -> None:
    """Makes the directory this run's and this process's, as long as it is held."""
    checkpoints = checkpoints_of(directory)
    if job.start is None:
        check_begun(directory, checkpoints, job.config)
    claim(directory, job.claimed)
    held.enter_context(only_writer(directory))
    given = job.claimed.inner.backbone
    body = None if given is None else Path(given)
    keep_data(directory, job.task, body=body)
    if body is not None:
        keep_body(body, directory)
    lengthen(directory, job.claimed)
    if job.start is not None:
        begin(checkpoints, job.learner, job.config, job.start)


def _finished(job: Job, directory: Path, checkpoints: Checkpoints) -> np.ndarray:
    """Whether there is nothing to do, which is said: the last state and its result."""
    steps = job.config.outer.steps
    state = checkpoints.restore(abstract_state(job.learner, job.config))
    whole = state is not None and int(state.step) == steps
    result = own_result(directory, steps) if whole else None
    if result is not None:
        print(result, end="")
        print(f"{directory} is finished; `metajax evaluate` measures it otherwise")
        unfinished_of(directory).unlink(missing_ok=True)
    return np.array(result is not None)


def _trained(
    job: Job,
    directory: Path,
    checkpoints: Checkpoints,
    *,
    devices: int | None,
    stop: Callable[[], bool],
    trackers: Sequence[Tracker],
) -> TrainState:
    config, task, outer = job.config, job.task, job.config.outer
    rows = JsonLines(directory / "metrics.jsonl")
    bar = Progress(outer.steps, outer.tasks, metrics={task.metric.name: task.metric})
    board = TensorBoard(directory / "events")
    with board as events, bar as progress, ExitStack() as stack:
        sinks = (rows, events, *map(stack.enter_context, trackers))
        # Of several processes all validate, so that none waits, and one writes.
        sinks = sinks if is_first() else ()
        writers = (*sinks, progress) if is_first() else ()
        best = Best(directory, task.metric, checkpoints)
        validation = Validation(
            job.measured,
            task.episodes("validation", config.evaluation.queries),
            task,
            inductive_queries=config.evaluation.inductive_queries,
            every=max(1, outer.steps // VALIDATIONS),
            sinks=sinks,
            best=best if is_first() else None,
        )
        state = fit(
            job.learner,
            config.build_optimizer(),
            job.episodes,
            steps=outer.steps,
            tasks=outer.tasks,
            seed=config.seed,
            tasks_per_chunk=outer.tasks_per_chunk,
            devices=devices,
            checkpoints=checkpoints,
            checkpoint_every=max(100, outer.steps // CHECKPOINTS),
            observers=(*writers, validation),
            stop=stop,
            forms=job.forms,
            make_step=config.inner.make_step(),
        )
        if is_first():
            best.prune()
        return state


class Changes(NamedTuple):
    """What an evaluation has other than the run's own.

    Attributes:
      settings: numbers of the measurement, by name.
      tasks: numbers of the tasks, such as "ways"; None for the run's.
      on: the preset whose data are taken; the run's own by default.
      inverted: whether inputs are inverted; None to follow the run.
      tent: the adaptation to the queries before they are predicted.
    """

    settings: Mapping[str, int] = MappingProxyType({})
    tasks: Mapping[str, Any] = MappingProxyType({})
    on: str | None = None
    inverted: bool | None = None
    tent: Tent = Tent()


def evaluate_run(
    directory: Path,
    changes: Changes,
    split: Split,
    places: Places,
    *,
    kept: Kept = "last",
) -> Path:
    """Evaluates a checkpoint of a run, by the run's own settings but the changes.

    The run may be a published file, whose results go to a folder beside it.
    Tasks may have other ways and shots, where the learner takes any, and may be of
    another family, see `metajax.experiments.domains`.

    Returns:
      The file of the result, see `metajax.experiments.results`.
    """
    config = configured(directory)
    if idle := changes.settings.keys() - names_of(type(config.evaluation)):
        raise InputError(
            f"--{idle.pop()} is no option with {config.learner}; leave it out"
        )
    settings = replace(config.evaluation, **changes.settings)
    domain = domain_of(config, places, on=changes.on, inverted=changes.inverted)
    others = at_other_tasks(replace(config, data=domain.data), changes.tasks)
    replace(others, evaluation=settings).check()
    tested = at_test_tasks(others) if split == "train" else others
    task = domain.build(tested, places)
    learner = build_learner(tested, task, steps=settings.steps)
    learner = changes.tent.wrap(learner, tested, task)
    meta, step = restored(directory, config, bare_task(config), kept)
    run = Measured(
        directory, tested, domain, task, learner, meta, step, kept, changes.tent
    )
    with Signals() as signals:
        return _measure(run, settings, split, stop=signals)


def _conclude(run: Measured, *, stop: Callable[[], bool]) -> None:
    """Evaluates a trained run; before it, the network that a search of it ends in.

    The run's own result comes last, so that a run that has one is whole.
    """
    config, directory = run.config, run.directory
    cut = _discretised(run)
    if cut is not None:
        print(
            "next is the result of the strongest edges alone, cut and not trained "
            f"again; --model.genotype {directory} trains them afresh"
        )
        _measure(cut, config.evaluation, stop=stop)
    config.model.draw(
        run.meta,
        partial(_adapted, run),
        cut and cut.meta,
        temperature=config.inner.temperature,
        to=directory,
    )
    _measure(run, config.evaluation, stop=stop)


def _adapted(run: Measured, tasks: int) -> PyTree:
    """What the learner adapts to on test tasks, stacked."""
    sampler = run.task.episodes("test", run.config.evaluation.queries)

    @once
    def adapted(meta: PyTree, fetched: PyTree, sampler: StagedSampler) -> PyTree:
        support, adapt = sampler.make(fetched).support, partial(run.learner.adapt, meta)
        return jax.lax.map(adapt, support, batch_size=ADAPTED_AT_A_TIME)

    return adapted(run.meta, *draw_and_fetch(sampler, jax.random.key(0), tasks))


def _discretised(run: Measured) -> Measured | None:
    """The run of the network that a search ends in; None without a search."""
    own = run.config.inner
    network = run.config.model.discretised(run.meta, own.temperature)
    if network is None:
        return None
    config = replace(run.config, model=network)
    fixed = replace(config, inner=own.after_search())
    learner = build_learner(fixed, run.task, steps=config.evaluation.steps)
    meta = remaining(run.meta, jax.eval_shape(learner.init, jax.random.key(0)))
    changes = {"config": config, "learner": learner, "meta": meta}
    return run._replace(**changes, network="-discretised")


def _measure(
    run: Measured, settings: Evaluating, split: Split = "test", **rest: Any
) -> Path:
    """Evaluates in the forms that the run took."""
    with taking(forms_taken(run.directory)):
        return measure(run, settings, split, **rest)


class Sink(Protocol):
    """Somewhere a row of numbers goes."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Takes a row, which has a `step` and a `split`."""
        ...


@dataclass(frozen=True)
class Validation:
    """An observer that scores the learner on held-out tasks now and then.

    The scores go to the sinks; then `best` is offered the state.
    """

    learner: Learner
    episodes: Sampler
    task: Task
    inductive_queries: int
    every: int
    sinks: Sequence[Sink]
    best: Best | None

    def start(self, state: TrainState) -> None:
        """Training begins or resumes."""
        if self.best is not None:
            self.best.start(state)

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Validates if a multiple of `every` was passed in this dispatch."""
        step = int(state.step)
        before = step - len(metrics["loss"])
        if step // self.every == before // self.every:
            return
        score = evaluate(
            self.learner,
            averaged(state),
            self.episodes,
            self.task.metric,
            tasks=VALIDATION_TASKS,
            seed=VALIDATION_SEED,
            inductive_queries=self.inductive_queries,
            inductive=False,
            judge=self.task.judge,
        ).transductive
        name = self.task.metric.name
        row = {
            "step": step,
            "split": "validation",
            name: float(score.mean[-1]),
            f"{name}_interval": float(score.interval[-1]),
        }
        for sink in self.sinks:
            sink.write(row)
        if self.best is not None:
            self.best.offer(state)


def claim(directory: Path, config: Config) -> None:
    """Makes `directory` this configuration's, or sees that it is.

    A run may be asked for more meta-steps than before: see `lengthen`.

    Raises:
      InputError: if it holds another configuration's run, or something else.
    """
    _check_name(directory)
    path = directory / CONFIG
    if path.exists():
        theirs = recorded_config(directory)
        if config not in (theirs, _of_length(theirs, config)):
            raise InputError(
                f"{directory} holds a run of another configuration "
                f"({_differences(theirs, config)}); choose another --run-dir, or give "
                f"--config {directory} for the options that it began with"
            )
        return
    if directory.exists() and not (
        directory.is_dir() and all(p.match(TEMPORARY) for p in directory.iterdir())
    ):
        raise InputError(
            f"{directory} exists and is not a run directory; choose another --run-dir"
        )
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        _write_config(directory, config)
    except OSError:
        if made:
            directory.rmdir()
        raise


def lengthen(directory: Path, config: Config) -> None:
    """Raises the meta-steps of a claimed run to those of `config`, if it has fewer.

    The parameters go on from where they are; with a constant rate, they become those of
    a run that was asked for as many at first. What was measured at the former end keeps
    a name that says so.
    """
    before = recorded_config(directory).outer.steps
    if before > config.outer.steps:  # another process was here since it was claimed
        claim(directory, config)
    if before == config.outer.steps:
        return
    print(
        f"going on from {before} to {config.outer.steps} meta-steps"
        + (", at the rates of the longer schedule" * (config.outer.schedule != FLAT)),
        file=sys.stderr,
    )
    for path in directory.iterdir():
        told = OF_STEP.search(path.stem) or path.suffix == ".npz"
        if is_measured(path) and not told:
            path.rename(path.with_stem(f"{path.stem}-step{before}"))
    _write_config(directory, config)


def _of_length(theirs: Config, ours: Config) -> Config:
    """A run's configuration with as many meta-steps as ours, if those are more."""
    steps = max(theirs.outer.steps, ours.outer.steps)
    return replace(theirs, outer=replace(theirs.outer, steps=steps))


def _differences(theirs: Config, ours: Config) -> str:
    there = _flat(_of_length(theirs, ours).as_dict())
    here = _flat(ours.as_dict())
    return "; ".join(
        f"{name} is {_shown(name, there)} there and {_shown(name, here)} here"
        for name in here | there
        if there.get(name) != here.get(name)
    )


def _shown(name: str, options: Mapping[str, Any]) -> str:
    return repr(options[name]) if name in options else "no option"


def _check_name(directory: Path) -> None:
    name = str(directory.absolute())
    if "\0" in name or name.encode(errors="replace").decode() != name:
        raise InputError(  # orbax would, after the first steps
            f"{directory} cannot be a run directory, as its name is not UTF-8 text; "
            "choose another --run-dir"
        )


def _write_config(directory: Path, config: Config) -> None:
    write_whole(directory / CONFIG, json.dumps(config.as_dict(), indent=2) + "\n")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
