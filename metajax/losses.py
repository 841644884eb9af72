"""Losses and metrics: `f(outputs, targets) -> scalar`, a mean over the batch."""

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.types import Array, Loss, Padded, PyTree


def cross_entropy(outputs: Array, targets: Array) -> Array:
    """Mean softmax cross-entropy, L = -(1/n) Σ_i log softmax(z_i)[y_i].

    The mean matters when a learning rate is copied from a paper: see
    `cross_entropy_over_ways`.

    Args:
      outputs: logits z, `float[n, ways]`.
      targets: labels y in `0, ..., ways - 1`, `int[n]`.

    Returns:
      The loss, a scalar in nats; NaN if a label is out of range.

    Raises:
      InputError: if the labels are not whole numbers of the outputs' shape.

    >>> print(f"{cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])):.4f}")
    1.3863
    """
    _check_shapes(targets, outputs.shape[:-1])
    _check_labels(targets)
    # One-hot, not a gather: the second derivative of a gather is a slow scatter.
    ways = outputs.shape[-1]
    labels = jax.nn.one_hot(targets, ways, dtype=outputs.dtype)
    losses = -jnp.sum(labels * jax.nn.log_softmax(outputs), axis=-1)
    return jnp.mean(jnp.where((targets >= 0) & (targets < ways), losses, jnp.nan))


def cross_entropy_over_ways(outputs: Array, targets: Array) -> Array:
    """The sum over the ways of the mean over a way's shots, as Finn's MAML code has it.

      L = ways · cross_entropy(z, y)

    for as many examples of each way. An inner rate from that paper's Omniglot or
    miniImageNet belongs to this loss: 0.4 at 5 ways is 2.0 of the mean.

    Args:
      outputs: see `cross_entropy`.
      targets: see `cross_entropy`.

    Returns:
      The loss, a scalar in nats.

    Raises:
      InputError: see `cross_entropy`.

    >>> print(f"{cross_entropy_over_ways(jnp.zeros((2, 4)), jnp.array([0, 3])):.4f}")
    5.5452

    Source: the code of Finn et al., "Model-Agnostic Meta-Learning", ICML 2017.
    """
    return outputs.shape[-1] * cross_entropy(outputs, targets)


def mse(outputs: Array, targets: Array) -> Array:
    """Mean squared error over every element, L = (1/n) Σ_i (f_i - y_i)².

    Args:
      outputs: predictions f, of the shape of `targets`.
      targets: values y.

    Returns:
      The loss, a scalar in the squared unit of the targets.

    >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    2.0
    """
    _check_shapes(targets, outputs.shape)
    return jnp.mean((outputs - targets) ** 2)


def accuracy(outputs: Array, targets: Array) -> Array:
    """The share of examples whose largest logit is that of their label.

    Args:
      outputs: logits, `float[n, ways]`.
      targets: labels, `int[n]`.

    Returns:
      A scalar in [0, 1].

    Raises:
      InputError: if the labels are not whole numbers of the outputs' shape.

    >>> float(accuracy(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0])))
    0.5
    """
    _check_shapes(targets, outputs.shape[:-1])
    _check_labels(targets)
    return jnp.mean(jnp.argmax(outputs, axis=-1) == targets, dtype=outputs.dtype)


def over_present(loss: Loss) -> Loss:
    """A loss that takes `Padded` targets too, as a mean over those present.

      L = Σ_i present_i loss(z_i, y_i) / Σ_i present_i

    Args:
      loss: a loss, or a metric, that is a mean over examples.

    Returns:
      A loss: of targets that are not padded, `loss` itself.

    >>> labels = Padded(jnp.array([0, 1]), jnp.array([True, False]))
    >>> float(over_present(accuracy)(jnp.array([[2.0, 1.0], [2.0, 1.0]]), labels))
    1.0
    """

    def value(outputs: PyTree, targets: PyTree) -> Array:
        if not isinstance(targets, Padded):
            return loss(outputs, targets)
        values, present, allowed = targets
        if allowed is not None:
            # Not infinity: its product with a label's zero would be NaN.
            never = jnp.finfo(outputs.dtype).min / 2
            outputs = jnp.where(allowed, outputs, never)
        alone = jax.tree.map(lambda x: x[:, None], (outputs, values))
        each = jax.vmap(loss)(*alone)
        total = jnp.sum(jnp.where(present, each, jnp.zeros_like(each)))
        return total / jnp.maximum(jnp.sum(present), 1).astype(total.dtype)

    return value


def _check_shapes(targets: Array, expected: tuple[int, ...]) -> None:
    """Refuses what would broadcast to a number that means nothing."""
    if targets.shape != expected:
        raise InputError(
            f"targets must have shape {expected} for these outputs, got {targets.shape}"
        )


def _check_labels(targets: Array) -> None:
    dtype = jnp.result_type(targets)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(f"labels must be integers, got {dtype}; cast them to int32")
