"""What is compared: learners on a frozen network's features, on pixels, and runs."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import metajax as mj
from benchmarks.emoji.pictures import Drawings, makers, read_pictures
from benchmarks.emoji.tasks import (
    Centre,
    Tasks,
    centre_by_others,
    centre_each,
    predict_tasks,
    uncentred,
    whiten_by_others,
)
from metajax.experiments.build import bare_task
from metajax.experiments.config import Config
from metajax.experiments.labelled import build_per_query
from metajax.experiments.run import configured, restored
from metajax.types import Learner, Model

PIXELS = 28  # of a side
STRENGTH = 0.1  # λ of the ridge head, on features of length one
IDENTITY = Model(lambda key: {}, lambda params, inputs: inputs)


class Method(NamedTuple):
    """One row of the tables.

    Attributes:
      name: the row's.
      drawings: what the learner takes of a picture.
      build: `build(ways) -> (learner, meta-parameters)`.
      centre: see `predict_tasks`.
      scores: whether the largest output is a cosine, and so says how near a query is to
        the nearest class.
      costly: whether a task of many ways takes long, so that fewer are measured.
    """

    name: str
    drawings: Drawings
    build: Callable[[int], tuple[Learner, object]]
    centre: Centre = uncentred
    scores: bool = False
    costly: bool = False

    def outputs(self, tasks: Tasks) -> np.ndarray:
        """`float[tasks, queries, ways]`."""
        learner, meta = self.build(tasks.names.shape[1])
        return predict_tasks(learner, meta, self.drawings, tasks, self.centre)


def on_features(
    features: np.ndarray, background: np.ndarray | None = None
) -> Iterator[Method]:
    """Learners on features.

    Args:
      features: `float[names, foundries, features]`, at least 0.
      background: of other names, to centre by.
    """
    plain, roots = (Drawings(x, makers()) for x in (features, np.sqrt(features)))
    cosine = partial(_untrained, lambda ways: mj.meta_baseline(IDENTITY, ways))
    yield Method(
        "prototypical",
        plain,
        partial(_untrained, lambda ways: mj.prototypical(IDENTITY, ways)),
    )
    yield Method("cosine", plain, cosine, scores=True)
    yield Method(
        "SimpleShot, about the support set",
        plain,
        partial(_untrained, lambda ways: mj.simple_shot(IDENTITY, ways)),
    )
    yield Method("cosine of roots", roots, cosine, scores=True)
    body = mj.models.centred(IDENTITY)
    yield Method(
        "ridge (R2D2) of roots, about the support set",
        roots,
        partial(_untrained, lambda ways: mj.r2d2(body, ways, strength=STRENGTH)),
        costly=True,
    )
    if background is not None:
        others = centre_by_others(np.sqrt(background))
        name = "cosine of roots, about other names"
        yield Method(name, roots, cosine, others, scores=True)
        whitened = whiten_by_others(Drawings(background, makers()))
        name = "cosine, whitened by other names"
        yield Method(name, plain, cosine, whitened, scores=True)
    yield Method("cosine, transductive", plain, cosine, centre_each, scores=True)


def on_pixels(pixels: np.ndarray) -> Method:
    """The nearest class mean of pixels.

    Args:
      pixels: `uint8[names, foundries, side, side, 3]`.
    """
    values = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32) / 255
    build = partial(_untrained, lambda ways: mj.prototypical(IDENTITY, ways))
    return Method(
        f"class means of {PIXELS}x{PIXELS} pixels", Drawings(values, makers()), build
    )


def of_run(run: Path, folder: Path) -> Method:
    """A run's learner, each query by itself, on the test names.

    Args:
      run: its directory.
      folder: of the pictures.
    """
    config = configured(run)
    task = bare_task(config)
    meta, _ = restored(run, config, task)
    images = read_pictures(folder, task.input_shape[0], "test").astype(np.float32) / 255
    build = partial(_of_run, config, meta)
    return Method(run.name, Drawings(images, makers()), build, costly=True)


def _of_run(config: Config, meta: object, ways: int) -> tuple[Learner, object]:
    return build_per_query(config, bare_task(config), ways).learner, meta


def _untrained(build: Callable[[int], Learner], ways: int) -> tuple[Learner, object]:
    """A learner and what its meta-parameters start from: nothing was trained."""
    learner = build(ways)
    return learner, learner.init(jax.random.key(0))
