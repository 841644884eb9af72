"""Tables of accuracies, and of AUROC of "none of them"."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.emoji.methods import PIXELS, Method, of_run, on_features, on_pixels
from benchmarks.emoji.pictures import SPLITS, features, read_pictures
from benchmarks.emoji.settings import Trial
from benchmarks.emoji.tasks import Shape, draw_tasks
from metajax.metrics import intervals
from metajax.metrics.ranking import roc_area

SHAPES = tuple(Shape(ways, shots) for ways in (5, 20, 200) for shots in (1, 4))
UNSEEN = Shape(5, 1, 5), Shape(5, 4, 5), Shape(20, 4, 20)
FEW = 5  # ways of which as many tasks are taken of a costly method as of the others


def run_trial(settings: Trial) -> dict[str, Any]:
    """Prints a row for each method, and gives all of them by title and name."""
    tables: dict[str, Any] = {}
    for method in list_methods(settings):
        for kind, shapes in (("accuracy", SHAPES), ("AUROC", UNSEEN)):
            if kind == "accuracy" or method.scores:
                row = {str(s): _measure(method, s, settings) for s in shapes}
                tables.setdefault(settings.title(kind), {})[method.name] = row
                print(_line(kind, method.name, row), flush=True)
    return tables


def list_methods(settings: Trial) -> Iterator[Method]:
    """What is measured, each made when its turn comes."""
    folder, weights = settings.folder, settings.weights
    if settings.runs:
        yield from (of_run(run, folder) for run in settings.runs)
        return
    if settings.names == "test":
        tested = features(folder, weights, "test")
        pixels = read_pictures(folder, PIXELS, "test")
        background = features(folder, weights, "validation")
    else:
        tested = np.concatenate([features(folder, weights, s) for s in SPLITS])
        parts = [read_pictures(folder, PIXELS, s) for s in SPLITS]
        pixels, background = np.concatenate(parts), None
    yield on_pixels(pixels)
    yield from on_features(tested, background)


def _measure(method: Method, shape: Shape, settings: Trial) -> dict[str, Any]:
    """A mean over tasks in percent, with its interval and their number."""
    many = method.costly and shape.ways > FEW
    tasks = settings.tasks * FEW // shape.ways if many else settings.tasks
    batch = draw_tasks(
        method.drawings,
        shape,
        tasks=max(2, tasks),
        seed=settings.seed,
        other_maker=settings.other_maker,
    )
    outputs = method.outputs(batch)
    score = novelty_areas if shape.unseen else accuracies
    values = score(outputs, shape)
    mean, interval = intervals.mean(100 * values)
    row = {"mean": float(mean), "interval": float(interval), "tasks": len(values)}
    if shape.unseen:
        row["pooled"] = 100 * _pooled_area(outputs, shape)
    return row


def accuracies(outputs: np.ndarray, shape: Shape) -> np.ndarray:
    """The share of a task's queries that is right, `float[tasks]`.

    Args:
      outputs: `float[tasks, ways, ways]`, of queries in the order of the classes.
      shape: of a task.
    """
    return np.mean(outputs.argmax(-1) == np.arange(shape.ways), -1)


def novelty_areas(outputs: np.ndarray, shape: Shape) -> np.ndarray:
    """AUROC of the largest output, of seen classes against unseen, `float[tasks]`.

    Args:
      outputs: `float[tasks, ways + unseen, ways]`, those of the unseen classes last.
      shape: of a task.
    """
    best = outputs.max(-1)
    return np.array([roc_area(x[: shape.ways], x[shape.ways :]) for x in best])


def _pooled_area(outputs: np.ndarray, shape: Shape) -> float:
    """The same over the queries of all tasks, as with one threshold for all."""
    best = outputs.max(-1)
    return roc_area(best[:, : shape.ways].ravel(), best[:, shape.ways :].ravel())


def _line(kind: str, name: str, row: dict[str, dict[str, float]]) -> str:
    cells = [f"{cell['mean']:.1f} ± {cell['interval']:.1f}" for cell in row.values()]
    return " | ".join((f"{kind} % | {name}", *cells))


def markdown(title: str, table: dict[str, dict[str, dict[str, float]]]) -> str:
    """A table with a row for each method and a column for each size of task."""
    columns: Sequence[str] = list(next(iter(table.values())))
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        cells = [f"{row[c]['mean']:.1f} ± {row[c]['interval']:.1f}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
