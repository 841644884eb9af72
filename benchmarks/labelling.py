"""How right, and how true to its word, `metajax label` is on alphabets never seen.

    python -m benchmarks.labelling RUN [--data-dir DIR] [--folders 40]

Of a run of Omniglot: each task is a few characters of one alphabet of the test split,
of so many labelled drawings, and ten others of each character to label. The
temperature of the confidences comes from nowhere (1), the labelled drawings alone, the
run's validation tasks alone, or both, as `metajax.labelling.temperature` has it.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.special import softmax

from benchmarks.command import run_command
from benchmarks.settings import Count, Folder
from metajax import data
from metajax.experiments.build import build_task
from metajax.experiments.labelled import build_per_query, run_validation_tasks
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places
from metajax.labelling import (
    Predictions,
    calibration_error,
    leave_one_out,
    predict_tasks,
    temperature,
)
from metajax.labelling.trust.predictions import shuffled
from metajax.types import Array, Batch

QUERIES = 10  # a character
SHOTS = {
    "5 classes, 1 shot": (1,) * 5,
    "5 classes, 2 shots": (2,) * 5,
    "5 classes, 1 to 8 shots": (5, 1, 3, 2, 8),
    "10 classes, 3 shots": (3,) * 10,
    "20 classes, 1 to 10 shots": (1, 2, 3, 4, 10) * 4,
    "30 classes, 1 to 10 shots": (1, 2, 3, 4, 5, 10) * 5,
}


@dataclass(frozen=True)
class Settings:
    """Which run is measured, and on how many tasks."""

    run: tyro.conf.Positional[Folder]
    """Directory of a run of Omniglot."""
    data_dir: Folder | None = None
    """Folder of prepared data; TFDS's own by default."""
    folders: Count = 40
    """Tasks of each number of classes and shots."""


def main(settings: Settings) -> None:
    """Prints a table for each number of classes and shots."""
    places = Places(data_dir=settings.data_dir)
    config = configured(settings.run)
    task = build_task(config, places)
    meta, _ = restored(settings.run, config, task)
    any_ways = config.inner.any_ways
    store = data.omniglot("test", data_dir=settings.data_dir)
    for name, shots in SHOTS.items():
        if len(shots) > task.outputs and not any_ways:
            continue
        learner = build_per_query(config, task, len(shots))
        tasks = run_validation_tasks(config, places, shots)
        others = predict_tasks(learner, meta, tasks)
        predictions, own = defaultdict(list), []
        for seed in range(settings.folders):
            support, inputs, labels = _drawn(store, shots, seed)
            left_out = leave_one_out(learner, meta, support)
            adapted = learner.adapt(meta, support)
            logits = np.asarray(learner.logits(adapted, inputs), float)
            own.append(left_out.correct())
            for source, at in _temperatures(left_out, others).items():
                predictions[source].append(Predictions(logits / at, labels))
        _print(name, predictions, np.concatenate(own), others.correct())


def _print(
    name: str,
    predictions: Mapping[str, Sequence[Predictions]],
    left_out: np.ndarray,
    held: np.ndarray,
) -> None:
    right = np.concatenate([part.correct() for part in predictions["1"]])
    shares = {"right": right, "left out": left_out, "validation": held}
    text = (f"{what} {_percent(each)}" for what, each in shares.items())
    print(f"\n{name}: {', '.join(text)}")
    for source, parts in predictions.items():
        whole = Predictions(*(np.concatenate(side) for side in zip(*parts)))
        chances = softmax(whole.logits, axis=1)[
            np.arange(len(whole.labels)), whole.labels
        ]
        print(
            f"  {source:11} negative log-likelihood {-np.log(chances).mean():.3f}"
            f", calibration error {100 * calibration_error(whole):.1f} %",
            flush=True,
        )


def _percent(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f} %" if len(right) else "none"


def _temperatures(own: Predictions, others: Predictions) -> dict[str, float]:
    temperatures = {"1": 1.0, "validation": temperature(others)}
    if len(own.labels):
        temperatures |= {"left out": temperature(own), "both": temperature(own, others)}
    return temperatures


def _drawn(
    store: data.ImageStore, shots: Sequence[int], seed: int
) -> tuple[Batch, Array, np.ndarray]:
    """A support set, queries and their labels, of characters of one alphabet."""
    draw = np.random.default_rng(seed)
    alphabets = defaultdict(list)
    for i, name in enumerate(store.names):
        alphabets[name.split("/")[0]].append(i)
    large = sorted(a for a, members in alphabets.items() if len(members) >= len(shots))
    chosen = draw.choice(alphabets[str(draw.choice(large))], len(shots), replace=False)
    support, query = [], []
    for character, count in zip(chosen, shots):
        images = np.asarray(store.images[character])[draw.permutation(20)]
        support.append(images[:count])
        query.append(images[count : count + QUERIES])
    labels = np.repeat(np.arange(len(shots), dtype=np.int32), shots)
    order = shuffled(len(labels))
    return (
        Batch(_inputs(support)[order], jnp.asarray(labels[order])),
        _inputs(query),
        np.repeat(np.arange(len(shots)), QUERIES),
    )


def _inputs(images: Sequence[np.ndarray]) -> Array:
    return jnp.asarray(np.concatenate(images), jnp.float32) / 255


if __name__ == "__main__":
    with jax.numpy_rank_promotion("allow"):
        sys.exit(run_command(main, Settings, "benchmarks.labelling", __doc__))
