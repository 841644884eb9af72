"""Whether what `metajax label` promises is true, over many made folders.

    python -m benchmarks.labelling_promise RUN [--data-dir DIR] [--folders 50]

Of a run of glyphs or of Omniglot: each folder has a few classes of the test split, of
so many labelled drawings, and eight others of each to label; and as many of other
classes, which are of none. Drawings of another hand are turned and made smaller.

It prints how often the true accuracy is below and above the 95 % interval of
leave-one-out, what
leave-one-out and the run's validation classes promise and what is true, the calibration
error with and without classes unseen, with and without novelty in the confidences, and
the area under the ROC curve of novelty, promised and true.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.ndimage import affine_transform
from scipy.special import softmax

from benchmarks.command import run_command
from benchmarks.settings import Count, Folder
from metajax import data
from metajax.experiments.build import bare_task
from metajax.experiments.labelled import image_learner, run_validation_tasks
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places
from metajax.labelling import (
    PerQueryLearner,
    Predictions,
    confidence_error,
    leave_one_out,
    predict_tasks,
    share_interval,
    temperature,
)
from metajax.labelling.novelty import known, thumbnails
from metajax.labelling.teaching import ELSEWHERE
from metajax.labelling.trust.predictions import shuffled
from metajax.labelling.trust.strangers import fit_novelty, left_out
from metajax.metrics.ranking import roc_area
from metajax.types import Batch, PyTree

QUERIES = 8  # a class
SHOTS = {"5 classes, 1 shot": (5, 1), "5 classes, 3 shots": (5, 3)}
SHOTS |= {"10 classes, 3 shots": (10, 3)}
TURN, SMALLER = 15.0, 0.85  # degrees and scale of another hand


@dataclass(frozen=True)
class Settings:
    """Which run is measured, and on how many folders."""

    run: tyro.conf.Positional[Folder]
    """Directory of a run of glyphs or of Omniglot."""
    data_dir: Folder | None = None
    """Folder of Omniglot's prepared data; TFDS's own by default."""
    folders: Count = 50
    """Folders of each number of classes and shots."""


class Result(NamedTuple):
    """What was promised of ONE folder, and what was true.

    Attributes:
      values: numbers by name.
      confidences: of the pictures, without and with novelty, `float[2, n]`.
      correct: `bool[n]`; those of other classes are never.
      own: whether they are of a labelled class, `bool[n]`.
    """

    values: dict[str, float]
    confidences: np.ndarray
    correct: np.ndarray
    own: np.ndarray


def main(settings: Settings) -> None:
    """Prints a table for each number of classes and shots, and each hand."""
    config = configured(settings.run)
    omniglot = "omniglot" in type(config.data).__name__.lower()
    places = Places(data_dir=settings.data_dir) if omniglot else Places()
    meta, _ = restored(settings.run, config, bare_task(config))
    source = image_learner(config)
    draw = _glyphs
    if omniglot:
        store = data.omniglot("test", data_dir=settings.data_dir)
        draw = partial(_omniglot, store)
    for name, (ways, shots) in SHOTS.items():
        learner = source.build(ways, source.pretrained)
        tasks = run_validation_tasks(config, places, [shots] * ways)
        others = predict_tasks(learner, meta, tasks)
        for hand in ("the same hand", "another hand"):
            results = []
            for seed in range(settings.folders):
                drawings = draw(ways, shots, seed)
                news = drawings[:, shots:]
                if hand == "another hand":
                    news = _other_hand(news, seed)
                results.append(
                    _measure(learner, meta, others, drawings[:ways, :shots], news)
                )
            _print(f"{name}, {hand}", results)


def _measure(
    learner: PerQueryLearner,
    meta: PyTree,
    others: Predictions,
    labelled: np.ndarray,
    news: np.ndarray,
) -> Result:
    ways, shots = labelled.shape[:2]
    labels, order = np.repeat(np.arange(ways), shots), shuffled(ways * shots)
    inputs = labelled.reshape(-1, *labelled.shape[2:])[order]
    support = Batch(jnp.asarray(inputs), jnp.asarray(labels[order]))
    queries = jnp.asarray(news.reshape(-1, *news.shape[2:]))
    truth = np.repeat(np.arange(len(news)), news.shape[1])
    own = truth < ways
    left = leave_one_out(learner, meta, support)
    adapted, references = _adapted(learner, meta, support), thumbnails(support.inputs)
    logits = np.asarray(learner.logits(adapted, queries), float)
    distances = left_out(references, np.asarray(support.targets))
    strange = np.asarray(fit_novelty(references, distances)(queries), float)
    shares = softmax(logits / temperature(left, others), axis=1)
    sure = np.stack(
        [shares.max(1), shares.max(1) * np.asarray(known(jnp.asarray(strange)))]
    )
    correct = shares.argmax(1) == truth
    area, low_area, high_area = distances.area()
    true_area = roc_area(strange[~own], strange[own])
    values = {
        "true accuracy": float(correct[own].mean()),
        "mean confidence": float(sure[1][own].mean()),
        "of validation classes": float(others.correct().mean()),
        "area promised": area,
        "area": true_area,
        "area within": float(low_area <= true_area <= high_area),
    }
    if len(left.labels):
        right, count = int(left.correct().sum()), len(left.labels)
        low, high = share_interval(right, count)
        values["of leave-one-out"] = right / count
        values["accuracy below its interval"] = float(values["true accuracy"] < low)
        low, _ = share_interval(right / ELSEWHERE, count / ELSEWHERE)
        values["below that of a third"] = float(values["true accuracy"] < low)
        values["above"] = float(values["true accuracy"] > high)
    return Result(values, sure, correct, own)


@partial(jax.jit, static_argnums=0)
def _adapted(learner: PerQueryLearner, meta: PyTree, support: Batch) -> PyTree:
    return learner.adapt(meta, support)


def _print(name: str, results: list[Result]) -> None:
    means = _means([result.values for result in results])
    text = ", ".join(f"{what} {100 * value:.0f} %" for what, value in means.items())
    print(f"\n{name}: {text}")
    correct = np.concatenate([result.correct for result in results])
    own = np.concatenate([result.own for result in results])
    for i, what in enumerate(("without novelty", "with novelty")):
        sure = np.concatenate([result.confidences[i] for result in results])
        known_only = confidence_error(sure[own], correct[own])
        errors = known_only, confidence_error(sure, correct)
        ours, both = (f"{100 * error:.1f} %" for error in errors)
        print(f"  {what:16} calibration error {ours}, {both} with classes unseen")
    sys.stdout.flush()


def _means(rows: list[dict[str, float]]) -> Mapping[str, float]:
    values = {name: [row[name] for row in rows if name in row] for name in rows[0]}
    return {name: float(np.mean(x)) for name, x in values.items() if np.isfinite(x[0])}


def _glyphs(ways: int, shots: int, seed: int) -> np.ndarray:
    """`float[2 ways, shots + QUERIES, 28, 28, 1]`, of as many classes unseen."""
    sampler = data.glyphs(ways=2 * ways, shots=shots, queries=QUERIES, split="test")
    episode = sampler(jax.random.key(seed), 1)
    parts = (np.asarray(part.inputs[0]) for part in episode)
    by_class = [x.reshape(2 * ways, -1, *x.shape[1:]) for x in parts]
    return np.concatenate(by_class, axis=1)


def _omniglot(store: data.ImageStore, ways: int, shots: int, seed: int) -> np.ndarray:
    """The same of one alphabet of at least 3/2 as many characters."""
    draw = np.random.default_rng(seed)
    alphabets = np.array([name.split("/")[0] for name in store.names])
    names, counts = np.unique(alphabets, return_counts=True)
    alphabet = draw.choice(names[counts >= 3 * ways // 2])
    members = draw.permutation(np.flatnonzero(alphabets == alphabet))[: 2 * ways]
    rows = [draw.permutation(20)[: shots + QUERIES] for _ in members]
    images = [np.asarray(store.images[k])[own] for k, own in zip(members, rows)]
    return np.stack(images).astype(np.float32) / 255


def _other_hand(drawings: np.ndarray, seed: int) -> np.ndarray:
    """The drawings, all turned one way and made smaller."""
    angle = np.deg2rad(TURN) * np.random.default_rng(seed).choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix, middle = turn / SMALLER, (np.array(drawings.shape[2:4]) - 1) / 2
    flat = drawings.reshape(-1, *drawings.shape[2:4])
    offset: Any = middle - matrix @ middle
    turned = [affine_transform(x, matrix, offset, order=1) for x in flat]
    return np.stack(turned).reshape(drawings.shape)


if __name__ == "__main__":
    with jax.numpy_rank_promotion("allow"):
        sys.exit(run_command(main, Settings, "benchmarks.labelling_promise", __doc__))
