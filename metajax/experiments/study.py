"""`metajax study`: every diagnostic of a run on one page."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from metajax import study, targets
from metajax._files.writing import write_whole
from metajax.data import grouped_tasks
from metajax.errors import InputError
from metajax.experiments.build import (
    build_learner,
    build_task,
    build_training_episodes,
    build_training_learner,
)
from metajax.experiments.config import Config
from metajax.experiments.plain import names_of
from metajax.experiments.published import results_of
from metajax.experiments.record import examples
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places, Task
from metajax.gradients import reverse
from metajax.metrics import Metric, as_metric
from metajax.study import remarks
from metajax.study.plots import plot
from metajax.study.plots.style import rendered
from metajax.study.report import Section, numbers, page
from metajax.study.tasks import count_tasks
from metajax.types import (
    Array,
    Episode,
    GradTransform,
    Learner,
    Loss,
    PyTree,
    Sampler,
)

FEW = 20  # tasks, where each costs many meta-gradients
JOINT_TASKS, JOINT_STEPS = 5, 100
MAP_EXAMPLES = 5  # of a class, in a map of tasks


class Studied(NamedTuple):
    """A trained run, as the diagnostics take it."""

    config: Config
    task: Task
    meta: PyTree
    tasks: PyTree
    training: PyTree
    steps: int

    @property
    def episodes(self) -> Episode:
        """The tasks, for a diagnostic that looks at examples.

        Raises:
          InputError: if the learner acts in trials.
        """
        if self.task.trials is not None:
            raise InputError(
                f"{self.config.learner} acts in trials, and this looks at examples"
            )
        return self.tasks

    @property
    def loss(self) -> Loss:
        """What its inner loop descends."""
        return self.task.losses[self.config.loss]

    @property
    def metric(self) -> Metric:
        """What judges one of its tasks, and its support set as well as its queries.

        The loss, where its metric pools tasks or is of what only queries have.
        """
        metric, (support, query) = self.task.metric, self.episodes
        seen, asked = (jax.tree.structure(side.targets) for side in (support, query))
        judges_both = metric.is_per_task and seen == asked
        return metric if judges_both else as_metric(self.loss)

    def learner(self, steps: int | None = None, **settings: Any) -> Learner:
        """Its learner, of `steps` inner steps, as it was trained by default."""
        return build_learner(self.config, self.task, steps=steps, **settings)

    def by_gradient(self, grad: GradTransform, steps: int | None = None) -> Learner:
        """The same with another inner gradient.

        Raises:
          InputError: if the learner has none to choose.
        """
        self.check_exact()
        return self.learner(steps, grad=grad)

    def at_rate(self, rate: Array, steps: int, **settings: Any) -> Learner:
        """The same at another inner rate.

        Raises:
          InputError: if the learner learns its own.
        """
        if not self.has_one_rate:
            raise InputError(f"{self.config.learner} learns its inner rates")
        inner = replace(self.config.inner, rate=rate)
        changed = self._replace(config=replace(self.config, inner=inner))
        return changed.learner(steps, **settings)

    @property
    def has_one_rate(self) -> bool:
        """Whether its inner rate is the configuration's."""
        return not self.config.inner.rate_is_learnt

    @property
    def has_steps(self) -> bool:
        """Whether it has an inner loop."""
        return "steps" in names_of(type(self.config.inner))

    @property
    def facts(self) -> dict[str, Any]:
        """What the page says of the run's configuration."""
        config, inner = self.config, self.config.inner
        values = config.as_dict()["data"].items()
        data = ", ".join(f"{n} {value}" for n, value in values if value is not None)
        facts = {"learner": config.learner, "data": data}
        if not self.has_steps:
            return facts
        steps = f"{inner.steps} in training, {self.steps} here"
        return facts | {"inner steps": steps, "inner rate": inner.rate}

    def check_steps(self) -> None:
        """Refuses a learner without an inner loop."""
        if not self.has_steps:
            raise InputError(
                f"{self.config.learner} has no inner loop on examples to look into"
            )

    def check_exact(self) -> None:
        """Refuses a learner without an inner gradient that is differentiated."""
        if not self.config.inner.differentiated:
            raise InputError(
                f"{self.config.learner} has no inner gradient that is differentiated"
            )

    def few(self) -> PyTree:
        """Some of the tasks."""
        return jax.tree.map(lambda x: x[:FEW], self.tasks)

    def rates(self, *factors: float) -> tuple[float, ...]:
        """The inner rate times each."""
        return tuple(self.config.inner.rate * factor for factor in factors)


def _trajectories(run: Studied) -> Any:
    return study.trajectories(
        run.learner(run.steps), run.meta, run.episodes, run.loss, run.metric
    )


def _orders(run: Studied) -> Any:
    run.check_exact()
    trained = max(1, run.config.inner.steps)

    def build(grad: GradTransform, steps: int, rate: Array) -> Learner:
        return run.at_rate(rate, steps, grad=grad)

    counts = sorted({1, 2, 3, trained})
    rates = run.rates(0.25, 0.5, 1.0, 2.0)
    return study.orders(build, run.meta, run.few(), steps=counts, rates=rates)


def _expansion(run: Studied) -> Any:
    return study.expansion(run.by_gradient, run.meta, run.few())


def _noise(run: Studied) -> Any:
    # Of the tasks that training sees: fewer queries make noisier gradients.
    return study.noise(run.by_gradient, run.meta, run.training)


def _spectrum(run: Studied) -> Any:
    learner = run.learner(run.steps)
    return study.spectrum(learner, run.meta, run.episodes, run.loss)


def _adaptation(run: Studied) -> Any:
    learner = run.by_gradient(reverse)
    return study.adaptation_spectrum(learner, run.meta, run.few())


def _reuse(run: Studied) -> Any:
    return study.reuse(run.learner(run.steps), run.meta, run.episodes)


def _contributions(run: Studied) -> Any:
    learner = run.learner(run.steps)
    return study.contributions(learner, run.meta, run.episodes, run.metric)


def _freezing(run: Studied) -> Any:
    build = partial(run.by_gradient, steps=run.steps)
    return study.freezing(build, run.meta, run.episodes, run.metric)


def _landscape(run: Studied) -> Any:
    learner = run.learner(run.steps)
    episodes = jax.tree.map(lambda x: x[:JOINT_TASKS], run.episodes)
    corner = study.joint_optimum(
        learner, run.meta, episodes, run.loss, optax.adam(1e-2), JOINT_STEPS
    )
    one = jax.tree.map(lambda x: x[0], episodes)
    return study.landscape(learner, run.meta, one, run.loss, corner)


def _heat_map(run: Studied) -> Any:
    rates = run.rates(0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
    return study.heat_map(
        lambda rate: run.at_rate(rate, run.steps),
        run.meta,
        run.episodes,
        run.metric,
        rates=rates,
    )


def _tasks(run: Studied) -> Any:
    if run.task.store is None:  # drawn on demand: no class has a name
        tasks = run.episodes.support
        groups = ("",) * count_tasks(run.episodes)
    else:
        tasks, groups = grouped_tasks(
            run.task.store("validation"),
            run.task.outputs,
            MAP_EXAMPLES,
            tasks=count_tasks(run.episodes),
            seed=run.config.seed,
        )
    return study.task_map(run.learner(run.steps), run.meta, tasks, groups)


def _divergence(run: Studied, trajectories: study.Trajectories) -> str:
    return remarks.divergence(trajectories)


def _useful_batch(run: Studied, noise: study.Noise) -> str:
    return remarks.useful_batch(noise, run.config.outer.tasks)


def _instability(run: Studied, spectrum: study.Spectrum) -> str:
    inner = run.config.inner
    plain = run.has_one_rate and inner.optimizer == "sgd" and not inner.rates_differ
    return remarks.instability(spectrum, inner.rate) if plain else ""


def _explosion(run: Studied, sensitivity: study.Sensitivity) -> str:
    # Derivatives by learnt rates may be large without harm.
    return remarks.explosion(sensitivity) if run.has_one_rate else ""


def _best_settings(run: Studied, heat_map: study.HeatMap) -> str:
    return remarks.best_settings(heat_map, run.metric.better)


def _nearness(run: Studied, task_map: study.TaskMap) -> str:
    return remarks.nearness(task_map)


def _nothing(run: Studied, result: Any) -> str:
    return ""


class Diagnostic(NamedTuple):
    """A section to be.

    Attributes:
      title: what it is about.
      reading: how to read it.
      find: what finds its result.
      remark: what stands out in a result.
      of_steps: whether it looks at an inner loop.
    """

    title: str
    reading: str
    find: Callable[[Studied], Any]
    remark: Callable[[Studied, Any], str] = _nothing
    of_steps: bool = True


DIAGNOSTICS = {
    "trajectories": Diagnostic(
        "The inner loop, step by step",
        "Lines are medians over tasks, shades the middle 80 %. A query loss that "
        "rises while the support loss falls is overfitting; cosines near 1 say that"
        " successive steps agree, below 0 that they jump across a valley: lower the"
        " inner rate.",
        _trajectories,
        _divergence,
    ),
    "orders": Diagnostic(
        "First against second order",
        "A cosine near 1 says that the first-order gradient points where the exact "
        "one does; the further it falls with inner steps or the rate, the more "
        "first-order training loses.",
        _orders,
    ),
    "expansion": Diagnostic(
        "The meta-gradient, order by order",
        "Terms by the number of Hessians they pass through; the one without is the "
        "first-order gradient. Terms that do not fall say that no truncation will "
        "do.",
        _expansion,
    ),
    "noise": Diagnostic(
        "How many tasks a meta-batch needs",
        "On training tasks: the error of a meta-gradient averaged over so many. Where "
        "it crosses the signal, both are as large: far fewer tasks waste steps, far "
        "more waste tasks. The first-order line flattens at its bias; estimated from "
        "few tasks, that may come out below zero, and the line then falls and ends.",
        _noise,
        _useful_batch,
    ),
    "spectrum": Diagnostic(
        "Curvature of the support loss",
        "Plain gradient steps at an inner rate above 2 / λ_max grow along the "
        "sharpest direction. Dots are medians, bars the middle 80 % of tasks.",
        _spectrum,
        _instability,
    ),
    "adaptation": Diagnostic(
        "What adaptation does to a change of the start",
        "Singular values above 1 are directions in which the inner loop, and the "
        "meta-gradient on its way back, grow; far above 1, meta-training explodes.",
        _adaptation,
        _explosion,
    ),
    "reuse": Diagnostic(
        "Rapid learning or feature reuse",
        "Similarity of each layer's values on the query set before and after "
        "adaptation: near 1, the layer's features are used as they were; low, they "
        "were learnt anew.",
        _reuse,
    ),
    "contributions": Diagnostic(
        "Which layers adaptation needs",
        "The score with only one layer adapted, and with all but one. A layer whose"
        " absence costs nothing need not adapt.",
        _contributions,
    ),
    "freezing": Diagnostic(
        "Adapting with layers frozen",
        "The inner loop run with layers held as meta-learnt; frozen up to the last "
        "layer but one is what ANIL does.",
        _freezing,
    ),
    "landscape": Diagnostic(
        "The losses of one task around its solution",
        "The plane through the start, the adapted parameters and what joint "
        "training on several tasks finds. Adapted should lie in a basin of the "
        "query loss too.",
        _landscape,
    ),
    "heat_map": Diagnostic(
        "Score over inner rate and steps",
        "A wide plateau is a learner that does not mind how it is used; the rate it"
        " was trained at is the fourth row from below.",
        _heat_map,
        _best_settings,
    ),
    "tasks": Diagnostic(
        "A map of tasks",
        "Each point is a task of classes of one group (an alphabet, a folder of "
        "folders); near ones draw on the same filters (Task2Vec).",
        _tasks,
        _nearness,
        of_steps=False,
    ),
}


def study_run(
    directory: Path, places: Places, *, tasks: int, seed: int, only: Sequence[str]
) -> None:
    """Runs the diagnostics on the newest checkpoint and writes their page.

    They go to `study/` in the run's directory; those of a run that is not finished, or
    on other data than its own, to a folder whose name says so.

    Raises:
      InputError: if the directory holds no trained run, a name is unknown, or none of
        the diagnostics is for such a run.
    """
    if unknown := [name for name in only if name not in DIAGNOSTICS]:
        names = ", ".join(DIAGNOSTICS)
        raise InputError(f"there is no diagnostic {unknown[0]!r}; there are {names}")
    config = configured(directory)
    _say(f"restoring {directory}, and sampling {tasks} tasks")
    task = build_task(config, places)
    meta, step = restored(directory, config, task)
    # Not the test's classes: what is seen here may decide what is tested.
    sampler = task.episodes("validation", config.evaluation.queries)
    drawn = _drawn(sampler, seed, tasks)
    steps = max(config.evaluation.steps, config.inner.steps)
    training = _drawn(build_training_episodes(config, task), seed, tasks)
    run = Studied(config, task, meta, drawn, training, steps)
    seen = [examples(directory, task, split) for split in ("validation", "train")]
    data = max(seen, key=lambda part: bool(part.why))
    if data.why:
        print(f"warning: {data.why}; the page has a folder of its own", file=sys.stderr)
    older = "" if step == config.outer.steps else f"-step{step}"
    folder = results_of(directory) / f"study{older}{data.suffix}"
    sections, names = [], tuple(only or DIAGNOSTICS)
    for number, name in enumerate(names, 1):
        _say(f"studying {name} ({number} of {len(names)})")
        sections.append(_section(name, run, folder))
    if all(section.missing for section in sections):
        raise InputError(
            f"no diagnostic that was asked for is for {directory}: "
            f"{sections[0].missing}"
        )
    facts = {
        "run": directory,
        **run.facts,
        **{n: x for n, x in data.facts.items() if x is not None},
        "meta-steps": f"{step} of {config.outer.steps}",
        "tasks": f"{tasks} of the validation classes, seed {seed}",
    }
    written = json.dumps(numbers(sections)) + "\n"
    write_whole(folder / "study.json", written)
    write_whole(folder / "report.html", page(f"{directory.name}", facts, sections))
    if missing := [section for section in sections if section.missing]:
        few = f"{len(missing)} of {len(sections)} diagnostics are not for this run"
        print(f"{few}: {missing[0].missing}")
    print(f"written to {folder / 'report.html'}")


def _section(name: str, run: Studied, folder: Path) -> Section:
    """The section of a diagnostic, whose figure is also written into the folder."""
    title, reading, find, remark, of_steps = DIAGNOSTICS[name]
    try:
        if of_steps:
            run.check_steps()
        result = find(run)
    except InputError as error:  # a diagnostic that is not for this learner
        return Section(name, title, reading, missing=str(error))
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plot(result)
    figure = rendered(drawn, "svg")
    write_whole(folder / f"{name}.svg", figure)
    write_whole(folder / f"{name}.png", rendered(drawn, "png"))
    return Section(name, title, reading, result, figure, remark=remark(run, result))


def _drawn(sampler: Sampler, seed: int, tasks: int) -> PyTree:
    return jax.jit(sampler, static_argnums=1)(jax.random.key(seed), tasks)


def plan_run(config: Config, places: Places, *, devices: int | None = None) -> None:
    """Prints what a configuration will cost here, and what fits.

    Args:
      config: the configuration.
      places: where its data are.
      devices: how many devices share the tasks; all by default.
    """
    _say(f"sampling {config.outer.tasks} tasks")
    task = build_task(config, places)
    sampler = build_training_episodes(config, task)
    episodes = _drawn(sampler, config.seed, config.outer.tasks)
    plan = study.plan(
        lambda steps: build_training_learner(
            replace(config, inner=config.inner.taking(steps)), task
        ),
        config.build_optimizer(),
        episodes,
        steps=config.inner.steps,
        tasks_per_chunk=config.outer.tasks_per_chunk,
        devices=devices,
        make_step=config.inner.planned_step(),
        say=_say,
    )
    print(plan)
    name = f"time, {config.outer.steps} meta-steps"
    print(f"{name:<32}about {_duration(plan.seconds * config.outer.steps)}")


def plan_run_for(
    config: Config, places: Places, chip: str, devices: int | None
) -> None:
    """Prints what a configuration would need on a chip that is not here.

    Args:
      config: the configuration.
      places: where its data are.
      chip: as `metajax.targets.devices` takes it, "v5e:4x4".
      devices: how many of them; all by default.

    Raises:
      InputError: if there is no such chip, compiler or number of devices.
    """
    jax.config.update("jax_platforms", "cpu")  # nothing is run on what is here
    absent = targets.devices(chip)
    if devices is not None and not 1 <= devices <= len(absent):
        raise InputError(
            f"--devices must be of the {len(absent)} of {chip}, got {devices}"
        )
    task = build_task(config, places)
    plan = study.plan_for(
        build_training_learner(config, task),
        config.build_optimizer(),
        build_training_episodes(config, task),
        absent[:devices],
        tasks=config.outer.tasks,
        tasks_per_chunk=config.outer.tasks_per_chunk,
        precision=config.precision,
        make_step=config.inner.planned_step(),
        say=_say,
    )
    print(plan)


def _say(text: str) -> None:
    """What is being done, beside the result on standard output."""
    print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """In the unit that a person would take."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
