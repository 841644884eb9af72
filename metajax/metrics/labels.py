"""The labels of a task, padded or not, in one form."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metajax.errors import InputError
from metajax.losses import wide_labels
from metajax.types import Array, Padded


def present_labels(
    metric: str, targets: Array | Padded
) -> tuple[Any, Any, Array | None]:
    """Labels, which examples are present, and which outputs are allowed.

    Those that are at hand come as NumPy arrays, whose operations no surrounding trace
    takes up: so a metric can check them before an evaluation runs.

    Args:
      metric: its name, for the error.
      targets: labels `int[examples, ...]` or `bool`, or `Padded` of them.

    Returns:
      labels `[examples, ...]`, present `bool[examples]`, and `Padded.allowed`.

    Raises:
      InputError: if the labels are not integers.

    >>> present_labels("auc", jnp.array([1, 0]))[1].tolist()
    [True, True]
    """
    padded = isinstance(targets, Padded)
    labels, present, allowed = targets if padded else (targets, None, None)
    dtype = jnp.result_type(labels)
    if not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, np.bool_)):
        raise InputError(f"{metric} needs integer labels, got {dtype}; cast to int32")
    if present is None:
        present = np.ones(len(labels), bool)
    return wide_labels(_at_hand(labels)), _at_hand(present), allowed


def _at_hand(values: Any) -> Any:
    return values if isinstance(values, Tracer) else np.asarray(values)
