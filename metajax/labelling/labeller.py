"""A learner that was taught the classes of labelled images."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.labelling.learner import ImageLearner, PerQueryLearner
from metajax.labelling.novelty import Novelty, known
from metajax.types import Array, PyTree


class Judgement(NamedTuple):
    """What a labeller says of pictures.

    Attributes:
      probabilities: see `Labeller.probabilities`.
      novelty: how strange the picture is, see `Novelty`; `float32[n]`.
    """

    probabilities: Array
    novelty: Array


class Labeller(NamedTuple):
    """A learner that was taught its classes, and what accuracy to expect of it.

    Attributes:
      source: the learner of images that was taught.
      classes: the names of the classes, in the order of the probabilities.
      support: the number of labelled images that taught it.
      learner: the same learner for these classes.
      adapted: what `learner.adapt` returned.
      temperature: of the softmax.
      expected: what accuracy to expect, in sentences.
      bits: the depth that labelled images of 16 bits a pixel were read at; None if
        there were no such images.
      novelty: how strange a picture is; None to call none strange.
      summaries: of the labelled pictures, see `preparation.summaries`; None to
        compare none with them.
      contents: the number of the class of each labelled file, by
        `contents.content_of`.
      examples: a few labelled pictures of each class, as `data:` URIs.
    """

    source: ImageLearner
    classes: tuple[str, ...]
    support: int
    learner: PerQueryLearner
    adapted: PyTree
    temperature: float
    expected: tuple[str, ...]
    bits: int | None = None
    novelty: Novelty | None = None
    summaries: np.ndarray | None = None
    contents: Mapping[str, int] = {}
    examples: Mapping[str, tuple[str, ...]] = {}

    def probabilities(self, images: np.ndarray | Array) -> Array:
        """The probability of each class.

        Args:
          images: `uint8[n, height, width, channels]`, as `source.format` says.

        Returns:
          `float32[n, classes]`; a row does not depend on the other images. It sums to
          `known(novelty)`: the rest is the probability that it is of no class.
        """
        return self.judge(images).probabilities

    def judge(self, images: np.ndarray | Array) -> Judgement:
        """The probability of each class, and how strange each image is.

        Args:
          images: see `probabilities`.

        Returns:
          A `Judgement`, of which a row does not depend on the other images.
        """
        return self.judge_inputs(self.source.inputs(images))

    def judge_inputs(self, inputs: Array) -> Judgement:
        """The same of the learner's inputs.

        Args:
          inputs: `float32[n, ...]`, as `source.inputs` makes them.
        """
        return _judge(
            self.learner, self.adapted, self.temperature, self.novelty, inputs
        )


@partial(jax.jit, static_argnums=0)
def _judge(
    learner: PerQueryLearner,
    adapted: PyTree,
    temperature: Array,
    novelty: Novelty | None,
    inputs: Array,
) -> Judgement:
    logits = learner.logits(adapted, inputs)
    shares = jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype))
    strange = jnp.zeros(len(logits)) if novelty is None else novelty(inputs)
    return Judgement(shares * known(strange)[:, None], strange)


def check_finite(outputs: np.ndarray) -> None:
    """Checks a learner's outputs.

    Raises:
      InputError: if one is not finite.
    """
    if not np.all(np.isfinite(outputs)):
        raise InputError(
            "the learner's outputs are not finite: its training, or its adaptation to "
            "these images, diverged; take the checkpoint of the best validation, or "
            "train it at a lower rate"
        )
