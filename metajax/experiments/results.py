"""The results of a run: which file each is written to.

`evaluation.json` and `evaluation.txt`, and the figure `adaptation.png`, are the run's
own result: of its own protocol, test classes and data, after all of its meta-steps, of
the newest checkpoint. `evaluation-on-NAME.*` are the same on the data of another preset
(`--on NAME`), or of a folder of images, whose name and hash then stand for it. Every
other evaluation has files of its own, whose name says what is different: the split, the
numbers of the protocol, the meta-step that was measured, the data. So nothing replaces
a result but the same measurement again.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metajax._files.writing import write_whole
from metajax.evaluation.result import Evaluation, Score, report
from metajax.evaluation.scores import evaluate
from metajax.experiments.config import Config
from metajax.experiments.domains import Domain
from metajax.experiments.evaluating import Evaluating
from metajax.experiments.published import results_of
from metajax.experiments.record import Examples
from metajax.experiments.tasks import Split, Task
from metajax.experiments.tent import Tent
from metajax.reporting import finite
from metajax.types import Learner, PyTree

Kept = Literal["last", "best"]
OWN = "evaluation"
MODES = "transductive", "inductive"
HASH = "sha256"
CUT = "cut, not trained again"
NUMBERS = {  # of the name of a result
    "steps": "{}steps",
    "tasks": "{}tasks",
    "queries": "{}queries",
    "inductive_queries": "{}inductive",
    "seed": "seed{}",
}


class Measured(NamedTuple):
    """What is evaluated.

    Attributes:
      directory: the run's, or its published file.
      config: its configuration, with the data that it is evaluated on.
      domain: those data beside the run's own.
      task: of the data.
      learner: with the steps that are evaluated.
      meta: the meta-parameters.
      step: after how many meta-steps.
      kept: which checkpoint that is.
      tent: the adaptation to the queries before they are predicted.
      network: what is different of its network: "-discretised", if it was cut.
    """

    directory: Path
    config: Config
    domain: Domain
    task: Task
    learner: Learner
    meta: PyTree
    step: int
    kept: Kept = "last"
    tent: Tent = Tent()
    network: str = ""

    @property
    def other(self) -> str:
        """What is different of its tasks or its predictions, such as "-10ways"."""
        return self.domain.changes(self.config.data) + self.tent.name + self.network


def measure(
    run: Measured,
    settings: Evaluating,
    split: Split = "test",
    *,
    stop: Callable[[], bool],
) -> Path:
    """Evaluates a run, and writes the result to the file that is its.

    Args:
      run: what is evaluated.
      settings: how.
      split: on which classes.
      stop: see `metajax.evaluation.scores.evaluate`.

    Returns:
      The file, of JSON.
    """
    directory, config, domain, task, learner, meta, step, *_ = run
    episodes = task.episodes(split, settings.queries)
    data = domain.examples(directory, task, split)
    folder = results_of(directory)
    folder.mkdir(exist_ok=True)
    if data.why:
        print(f"warning: {data.why}; the result has a file of its own", file=sys.stderr)
    print(
        f"evaluating {settings.tasks} tasks ({split}) after {step} of "
        f"{config.outer.steps} meta-steps",
        file=sys.stderr,
    )
    name = name_of(run, settings, split, data)
    unfinished = unfinished_of(folder, name)
    evaluation = evaluate(
        learner,
        meta,
        episodes,
        task.metric,
        tasks=settings.tasks,
        seed=settings.seed,
        inductive_queries=settings.inductive_queries,
        judge=task.judge,
        protocol=_protocol(run, settings, split, data),
        unfinished=unfinished,
        stop=stop,
    )
    if name == OWN:
        config.data.draw(task, learner, meta, queries=settings.queries, to=folder)
    _write(folder, name, evaluation)
    unfinished.unlink(missing_ok=True)
    print(report(evaluation))
    path = result_of(folder, name)
    print(f"written to {path}")
    return path


def _protocol(
    run: Measured, settings: Evaluating, split: Split, data: Examples
) -> dict[str, Any]:
    config, best = run.config, f"best, after {run.step} meta-steps"
    facts = config.as_dict()["data"] | {
        "queries": settings.queries,
        "norm": config.model.norm,
        **config.model.facts,
        "network": CUT if run.network else None,
        "average": config.outer.average,
        "start": config.start,
        "forms": None if config.forms == "table" else config.forms,
        "checkpoint": best if run.kept == "best" else None,
        **data.facts,
        **run.domain.facts,
        **run.tent.facts,
        **config.inner.facts,
    }
    return {
        "split": split,
        **{name: value for name, value in facts.items() if value is not None},
        "learner": config.learner,
        "precision": config.precision,
        "meta_step": run.step,
    }


def name_of(run: Measured, settings: Evaluating, split: Split, data: Examples) -> str:
    """The name of a result: the run's own, or one that says what is different."""
    config, kept, on = run.config, run.kept, f"{OWN}{run.domain.name}"
    whole = kept == "last" and run.step == config.outer.steps
    own = not run.other and not data.why
    if whole and own and settings == config.evaluation and split == "test":
        return f"{on}{data.suffix}"
    return (
        f"{on}-{split if kept == 'last' else f'best-{split}'}-{numbers_of(settings)}"
        f"{run.other}-step{run.step}{data.suffix}"
    )


def numbers_of(settings: Evaluating) -> str:
    """The numbers of a protocol, as the name of a result has them."""
    return "-".join(
        text.format(value)
        for name, text in NUMBERS.items()
        if (value := getattr(settings, name)) is not None
    )


def result_of(directory: Path, name: str = OWN) -> Path:
    """The file of the result of a name, of JSON."""
    return directory / f"{name}.json"


def unfinished_of(directory: Path, name: str = OWN) -> Path:
    """The scores so far of the evaluation of a name."""
    return directory / f"{name}.unfinished.npz"


def own_result(directory: Path, step: int) -> str | None:
    """The text of the run's own result after so many meta-steps.

    None if there is none, or its files are not what was written. They are moved aside
    then, as the result will be written anew.
    """
    text, plain = (directory / f"{OWN}.{suffix}" for suffix in ("txt", "json"))
    if not plain.exists():
        return None
    if (content := as_written(directory, OWN, step)) is not None:
        return content
    print(
        f"warning: {plain} or {text.name} is not what was written; it is measured "
        f"again, and what is there is kept as {OWN}-damaged",
        file=sys.stderr,
    )
    for path in filter(Path.exists, (text, plain)):
        path.rename(path.with_stem(f"{OWN}-damaged"))
    return None


def as_written(directory: Path, name: str, step: int) -> str | None:
    """The text of a result after so many meta-steps.

    Args:
      directory: the run's.
      name: of the result.
      step: of the meta-parameters.

    Returns:
      The text; None if there is none, or its two files are not those that were written.
    """
    text, plain = (directory / f"{name}.{suffix}" for suffix in ("txt", "json"))
    try:
        return _if_whole(text.read_text("utf-8"), json.loads(plain.read_bytes()), step)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # JSON of anything


def _if_whole(content: str, values: Any, step: int) -> str | None:
    """The text of a result, if it and its values are those that were written."""
    if HASH not in values and "meta_step" not in values["protocol"]:  # an old version's
        return content if _has_scores(content, values) else None
    whole = values.pop(HASH, None) == _hash(content, values)
    return content if whole and values["protocol"].get("meta_step") == step else None


def _has_scores(text: str, plain: dict[str, Any]) -> bool:
    """Whether a result has scores, and a line for each: older ones have no hash."""
    scores = [plain[mode][name] for mode in MODES for name in Score._fields]
    lines, lengths = len(text.splitlines()), set(map(len, scores))
    return len(lengths) == 1 and 0 < min(lengths) < lines


def _write(directory: Path, name: str, evaluation: Evaluation) -> None:
    """Writes a result, its text first, so that one with JSON is complete."""
    text = report(evaluation) + "\n"
    plain: dict[str, Any] = {"protocol": dict(evaluation.protocol)}
    for mode in MODES:
        score = getattr(evaluation, mode)
        plain[mode] = {name: x.tolist() for name, x in score._asdict().items()}
    plain = finite(plain)
    content = json.dumps(plain | {HASH: _hash(text, plain)}, indent=2) + "\n"
    write_whole(directory / f"{name}.txt", text)
    write_whole(directory / f"{name}.json", content)


def _hash(text: str, plain: dict[str, Any]) -> str:
    """The hash of a result, as text and as plain values."""
    return hashlib.sha256((text + json.dumps(plain)).encode()).hexdigest()
