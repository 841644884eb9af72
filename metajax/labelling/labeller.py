"""A run's learner, made to tell pictures of a folder's classes."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.decoding import Mode
from metajax.errors import InputError
from metajax.experiments.backbone import read_body
from metajax.experiments.build import build_learner, build_model
from metajax.experiments.choices import LEARNERS
from metajax.experiments.presets import Config, Conv4Model, FolderData, ResNet12Model
from metajax.experiments.tasks import Places, Task, build_task
from metajax.labelling.classes import Alone, balanced_cross_entropy
from metajax.models.headed import parts
from metajax.types import Array, Loss, Model, Params, PyTree


class Look(NamedTuple):
    """How a run's learner sees a picture.

    Attributes:
      size: (height, width) in pixels.
      mode: "RGB", or "L" for grey.
      ink: whether what is dark in a file is bright to the learner.
    """

    size: tuple[int, int]
    mode: Mode
    ink: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture."""
        return *self.size, len(self.mode)

    def inputs(self, images: Array) -> Array:
        """What the learner takes, in [0, 1], of pictures as in their files, `uint8`."""
        seen = 255 - images if self.ink else images
        return seen.astype(jnp.float32) / 255.0


class Labeller(NamedTuple):
    """A learner that was taught its classes.

    Attributes:
      config: of the run.
      classes: their names, in the order of its outputs.
      support: how many pictures taught it.
      alone: the learner, one query at a time.
      look: how it sees.
      taught: what it learnt.
      temperature: of its logits.
      expected: what to expect of its labels, in words.
      backbone: the pre-trained parameters that it is built on, if it is.
      bits: that pictures of 16 used, which taught it; None if there were none.
    """

    config: Config
    classes: tuple[str, ...]
    support: int
    alone: Alone
    look: Look
    taught: PyTree
    temperature: float
    expected: tuple[str, ...]
    backbone: Params | None
    bits: int | None = None

    def shares(self, images: np.ndarray) -> Array:
        """The probability of each class, `float32[n, classes]`, of `uint8[n, ...]`."""
        return _shares(self.alone, self.look, self.taught, self.temperature, images)


@partial(jax.jit, static_argnums=(0, 1))
def _shares(
    alone: Alone, look: Look, taught: PyTree, temperature: Array, images: Array
) -> Array:
    logits = alone.logits(taught, look.inputs(images))
    return jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype))


def check_ways(config: Config, classes: Mapping[str, Any], support: Path) -> None:
    """Checks that a run's learner can tell so many classes.

    Raises:
      InputError: if they are fewer than two, or more than its outputs.
    """
    if len(classes) < 2:
        raise InputError(
            f"{support} has pictures of one class, {next(iter(classes))}, and a label "
            "needs two to choose from; add a folder of another"
        )
    most = config.data.ways  # pyright: ignore (sine waves were refused)
    if len(classes) > most and not LEARNERS[config.learner].any_ways:
        raise InputError(
            f"{support} has {len(classes)} classes, and this run's {config.learner} "
            f"has outputs for {most}; take fewer, or train one of any number of "
            "classes (--learner prototypical)"
        )


def look_of(config: Config, task: Task) -> Look:
    """How a run's learner sees a picture: as its data were decoded, and grey as ink.

    Args:
      config: of the run.
      task: what its data ask for.

    Returns:
      A `Look`.

    Raises:
      InputError: if they were no pictures, or its network takes none.
    """
    if not isinstance(config.model, Conv4Model | ResNet12Model):
        raise InputError(
            f"a run of {type(config.data).__name__} and {type(config.model).__name__} "
            "takes no pictures; train one of images, such as metajax train glyphs"
        )
    height, width, channels = task.input_shape
    ink = channels == 1
    return Look((height, width), "L" if ink else "RGB", ink)


def enough_to_build(config: Config) -> Places:
    """Places to build a task with, of which no episodes are drawn."""
    return Places(images=Path()) if isinstance(config.data, FolderData) else Places()


def bare_task(config: Config) -> Task:
    """A run's task, of which no episodes are drawn."""
    return build_task(config.data, enough_to_build(config))


def has_backbone(config: Config) -> bool:
    """Whether a run's learner is built on a pre-trained body."""
    return "backbone" in LEARNERS[config.learner].changes


def body_of(config: Config, task: Task) -> Model:
    """The body of a run's network."""
    return parts(build_model(config.model, task, context=0), config.learner)[0]


def backbone_of(config: Config, task: Task) -> Params | None:
    """The pre-trained parameters that a run's learner is built on, if it is.

    Raises:
      InputError: if their file cannot be read, or is of another body.
    """
    given = config.inner.backbone
    if not has_backbone(config):
        return None
    return read_body(None if given is None else Path(given), body_of(config, task))


def build_alone(
    config: Config, task: Task, ways: int, backbone: Params | None = None
) -> Alone:
    """A run's learner for so many classes, that predicts each query alone.

    A head of more outputs than classes is left with those outputs out of the softmax,
    in adaptation too, where every class counts alike, whatever its shots.

    A network trained with transductive batch norm normalises queries by the support
    set's statistics. So a query is spared a pass over the support set, at no loss:
    prototypical networks on Omniglot, 5-way 1-shot and 5-shot, were 77.4 and 91.6 %
    right so, and 77.2 and 91.6 % with each query beside the support set; relation
    networks on glyphs, whose comparator settles on the support set's own pairs, were
    72.9 and 86.5 %, and 73.2 and 86.4 %.

    Args:
      config: of the run.
      task: what its data ask for.
      ways: the number of classes.
      backbone: that the learner is built on, in place of the run's.

    Returns:
      An `Alone`.
    """
    choice = LEARNERS[config.learner]
    if not choice.beside and isinstance(config.model, Conv4Model | ResNet12Model):
        norm = config.model.norm
        settled = "support" if norm == "transductive" else norm
        config = replace(config, model=replace(config.model, norm=settled))
    mean = partial(balanced_cross_entropy, classes=ways)
    losses: dict[Any, Loss] = {
        "mean": mean,
        "sum-over-ways": lambda outputs, targets: ways * mean(outputs, targets),
    }
    outputs = ways if choice.any_ways else task.outputs
    task = task._replace(losses=losses, outputs=outputs)
    given = {} if backbone is None else {"backbone": backbone}
    learner = build_learner(config, task, steps=config.evaluation.steps, **given)
    return Alone(learner, ways, choice.beside)


def check_finite(outputs: np.ndarray) -> None:
    """Checks what a learner says.

    Raises:
      InputError: if it is not all finite.
    """
    if not np.all(np.isfinite(outputs)):
        raise InputError(
            "the learner's outputs are not finite: its training, or its adaptation to "
            "these pictures, diverged; try --checkpoint best, or train it at a lower "
            "rate"
        )
