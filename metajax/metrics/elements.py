"""The elements of segmented images, such as pixels: labelled, predicted, and counted.

Metrics of segmentation share them. Outputs of a task are logits
`float[examples, ..., classes]`, its targets labels `int[examples, ...]`, or `Padded` of
them; 0 is the background where there is one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.losses import likeliest
from metajax.metrics.labels import present_labels
from metajax.ops.masking import never
from metajax.types import Array, Padded


class Elements(NamedTuple):
    """The elements of a task, by class.

    Attributes:
      labels: the class of each, `int[examples, ...]`.
      guesses: the class that is predicted, `int[examples, ...]`; -1 for none, where a
        logit is NaN.
      known: which count, `bool[examples, ...]`.
      present: which examples are no padding, `bool[examples]`.
      unknown: how many elements have a label that is no class, a scalar.
    """

    labels: Array
    guesses: Array
    known: Array
    present: Array
    unknown: Array | np.integer


def elements_of(
    metric: str,
    outputs: Array,
    targets: Array | Padded,
    *,
    classes: int | None = None,
    ignore: int | None = None,
    guess: Callable[[Array], Array] = likeliest,
) -> Elements:
    """The elements of one task.

    Args:
      metric: its name, for errors.
      outputs: logits, `float[examples, ..., classes]`.
      targets: labels, `int[examples, ...]`, or `Padded` of them.
      classes: the number of classes, background included; any, for None.
      ignore: the label of elements that do not count.
      guess: `guess(outputs) -> classes`, what is predicted.

    Returns:
      `Elements`.

    Raises:
      InputError: if shapes differ, or a label that is at hand is no class.

    >>> elements_of("iou", jnp.zeros((1, 3, 2)), jnp.array([[1, 0, 9]]), ignore=9).known
    Array([[ True,  True, False]], dtype=bool)
    """
    labels, present, allowed = present_labels(metric, targets)
    classes = outputs.shape[-1] if classes is None else classes
    if outputs.shape != (*labels.shape, classes) or classes < 2:
        raise InputError(
            f"{metric} needs outputs of shape {(*labels.shape, max(classes, 2))} for "
            f"{max(classes, 2)} classes and these targets, got {outputs.shape}"
        )
    between = [1] * (labels.ndim - 1)
    if allowed is not None:  # of an example, whatever the axes between
        allowed = allowed.reshape(len(allowed), *between, -1)
        outputs = jnp.where(allowed, outputs, never(outputs.dtype))
    counted = present.reshape(-1, *between)
    if ignore is not None:
        counted = counted & (labels != ignore)
    known = counted & (labels >= 0) & (labels < classes)
    unknown = (counted & ~known).sum()
    if isinstance(unknown, np.integer):  # the targets are at hand
        check_known(metric, unknown, classes)
    guesses = guess(outputs)
    return Elements(labels, guesses, jnp.asarray(known), jnp.asarray(present), unknown)


def class_sizes(elements: Elements, classes: int) -> tuple[Array, Array]:
    """Numbers of elements of each example and class.

    Args:
      elements: of one task.
      classes: their number.

    Returns:
      How many are labelled and predicted as the class, and how many labelled or
      predicted, `int32[examples, classes]` both.

    >>> elements = elements_of("iou", jnp.eye(2)[None], jnp.array([[0, 0]]))
    >>> [sizes.tolist() for sizes in class_sizes(elements, 2)]
    [[[1, 0]], [[2, 1]]]
    """
    labels, guesses, known, *_ = elements
    each = jnp.arange(classes).reshape(-1, *[1] * labels.ndim)
    labelled = (labels[None] == each) & known[None]
    guessed = (guesses[None] == each) & known[None]
    return _sizes(labelled & guessed), _sizes(labelled | guessed)


def check_known(metric: str, unknown: int | np.integer, classes: int | None) -> None:
    """Checks that there are no labels of unknown classes.

    Raises:
      InputError: if there are.

    >>> check_known("mean_iou", 0, 2)
    """
    if unknown:
        last = "the number of outputs - 1" if classes is None else classes - 1
        raise InputError(
            f"{metric} needs labels in 0..{last}, got {unknown} others; give every "
            "class an output, and ignore=LABEL for elements that do not count"
        )


def _sizes(members: Array) -> Array:
    """Of `bool[classes, examples, ...]`, how many there are: `[examples, classes]`."""
    flat = members.reshape(*members.shape[:2], -1)
    return jnp.sum(flat, axis=-1, dtype=jnp.int32).T
