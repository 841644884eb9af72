"""A learner that was taught the classes of labelled images."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.labelling.learner import ImageLearner, PerQueryLearner
from metajax.types import Array, PyTree


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
    """

    source: ImageLearner
    classes: tuple[str, ...]
    support: int
    learner: PerQueryLearner
    adapted: PyTree
    temperature: float
    expected: tuple[str, ...]
    bits: int | None = None

    def probabilities(self, images: np.ndarray | Array) -> Array:
        """The probability of each class.

        Args:
          images: `uint8[n, height, width, channels]`, as `source.format` says.

        Returns:
          `float32[n, classes]`; a row does not depend on the other images.
        """
        return self.probabilities_of(self.source.inputs(images))

    def probabilities_of(self, inputs: Array) -> Array:
        """The same of the learner's inputs.

        Args:
          inputs: `float32[n, ...]`, as `source.inputs` makes them.
        """
        return _probabilities(self.learner, self.adapted, self.temperature, inputs)


@partial(jax.jit, static_argnums=0)
def _probabilities(
    learner: PerQueryLearner, adapted: PyTree, temperature: Array, inputs: Array
) -> Array:
    logits = learner.logits(adapted, inputs)
    return jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype))


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
