"""Losses and metrics: `f(outputs, targets) -> scalar`, a mean over the batch."""

import functools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metajax.errors import InputError
from metajax.ops.masking import expected_log, never
from metajax.types import Array, Loss, Padded, PyTree

UNLABELLED = 255  # in masks


def cross_entropy(outputs: Array, targets: Array) -> Array:
    """Mean softmax cross-entropy, H = -(1/n) Σ_i Σ_k p_ik log softmax(z_i)[k].

    For a label y_i, p_i is one at y_i and zero elsewhere. The mean matters when a
    learning rate is copied from a paper: see `cross_entropy_over_ways`.

    Args:
      outputs: logits z, `float[n, ways]`.
      targets: labels y in `0, ..., ways - 1`, `int[n]`, or probabilities p,
        `float[n, ways]`.

    Returns:
      The loss, a scalar in nats. Inside `jit`, where labels cannot be checked, it is
      NaN if a label is out of range.

    Raises:
      InputError: if the targets are neither, a label is out of range, or there is only
        one output; use `optax.sigmoid_binary_cross_entropy` for a single logit.

    >>> print(f"{cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])):.4f}")
    1.3863
    """
    _check_ways("cross_entropy", outputs)
    known = _known(outputs, targets)
    # One-hot, not a gather: the second derivative of a gather is a slow scatter.
    p = probabilities(targets, outputs.shape[-1], outputs.dtype)
    losses = -expected_log(p, outputs)
    return jnp.mean(jnp.where(known, losses, jnp.nan))


def pixel_cross_entropy(outputs: Array, targets: Array) -> Array:
    """Mean softmax cross-entropy over the pixels that are labelled.

      H = -(1/|P|) Σ_{p in P} log softmax(z_p)[y_p],   P = {p: y_p ≠ 255}

    Args:
      outputs: logits z, `float[n, height, width, classes]`.
      targets: labels y, `int[n, height, width]`; 255 means no label. Each labelled
        pixel weighs as much as any other, and in padded tasks each image does.

    Returns:
      The loss, a scalar in nats; 0 where no pixel is labelled. Inside `jit`, where
      labels cannot be checked, it is NaN if another label is out of range.

    Raises:
      InputError: if the targets are not such labels, or there is only one output.

    >>> logits, labels = jnp.zeros((1, 1, 2, 4)), jnp.array([[[3, 255]]])
    >>> print(f"{pixel_cross_entropy(logits, labels):.4f}")
    1.3863
    """
    _check_ways("pixel_cross_entropy", outputs)
    if not jnp.issubdtype(jnp.result_type(targets), jnp.integer):
        raise InputError(
            f"pixel_cross_entropy: labels must be integers, got {targets.dtype}; cast "
            "them to int32"
        )
    targets = wide_labels(targets)
    labelled = targets != UNLABELLED
    known = _known(outputs, jnp.where(labelled, targets, 0))
    p = probabilities(targets, outputs.shape[-1], outputs.dtype)  # 0 without a label
    losses = -expected_log(p, outputs)
    losses = jnp.where(known, losses, jnp.nan)
    count = jnp.maximum(jnp.sum(labelled), 1).astype(losses.dtype)
    return jnp.sum(losses) / count


def cross_entropy_over_ways(outputs: Array, targets: Array) -> Array:
    """Cross-entropy averaged over the shots of each class and summed over the classes.

      L = ways · cross_entropy(z, y),  for equally many examples per class

    The inner rates of Finn et al. for Omniglot and miniImageNet belong to this loss:
    their 0.4 at 5 ways is 2.0 with `cross_entropy`.

    Args:
      outputs: see `cross_entropy`.
      targets: see `cross_entropy`.

    Returns:
      The loss, a scalar in nats.

    Raises:
      InputError: see `cross_entropy`; also if the number of examples is not a multiple
        of the ways, as in padded tasks.

    >>> loss = cross_entropy_over_ways(jnp.zeros((4, 2)), jnp.array([0, 0, 1, 1]))
    >>> print(f"{loss:.4f}")
    1.3863

    Source: the code of Finn et al., "Model-Agnostic Meta-Learning", ICML 2017.
    """
    examples, ways = outputs.shape
    if examples % ways:
        raise InputError(
            "cross_entropy_over_ways needs equally many examples per class, got "
            f"{examples} examples of {ways} classes; use cross_entropy for padded tasks"
        )
    return ways * cross_entropy(outputs, targets)


def mse(outputs: Array, targets: Array) -> Array:
    """Mean squared error over every element, L = (1/n) Σ_i |f_i - y_i|².

    Args:
      outputs: predictions f, of the shape of `targets`.
      targets: values y.

    Returns:
      The loss, a scalar in the squared unit of the targets.

    Raises:
      InputError: if outputs and targets differ in shape.

    >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    2.0
    """
    _check_shapes(targets, outputs.shape)
    errors = outputs - targets
    if jnp.iscomplexobj(errors):
        return jnp.mean(errors.real**2 + errors.imag**2)
    return jnp.mean(errors**2)


def gaussian(outputs: Array, targets: Array) -> Array:
    """Mean negative log-likelihood of normal distributions, over every element.

      L = -(1/n) Σ_i log N(y_i | μ_i, σ_i²),   σ = 0.1 + 0.9 softplus(s)

    Args:
      outputs: means μ, then raw scales s, `float[n, 2 values]`.
      targets: y, `float[n, values]`.

    Returns:
      The loss, a scalar in nats per value.

    Raises:
      InputError: if outputs and targets do not have these shapes.

    >>> outputs, targets = jnp.array([[1.0, 0.0]]), jnp.array([[1.5]])
    >>> print(f"{gaussian(outputs, targets):.4f}")
    0.8343

    Source: Garnelo et al., "Conditional Neural Processes", ICML 2018; its least scale,
    0.1, keeps the likelihood finite.
    """
    mean, raw = _halves(outputs)
    _check_shapes(targets, mean.shape)
    scale = 0.1 + 0.9 * jax.nn.softplus(raw)
    squares = ((targets - mean) / scale) ** 2
    return jnp.mean(0.5 * (squares + math.log(2 * math.pi)) + jnp.log(scale))


def of_mean(loss: Loss) -> Loss:
    """Applies a loss or a metric to the means in outputs made for `gaussian`.

    Args:
      loss: `loss(means, targets) -> scalar`, such as `mse`.

    Returns:
      The same loss, of outputs as `gaussian` takes them.

    Raises:
      InputError: when the result is called, if outputs do not have that shape.

    >>> outputs, targets = jnp.array([[1.0, 0.0]]), jnp.array([[1.5]])
    >>> print(of_mean(mse)(outputs, targets))
    0.25
    """

    @functools.wraps(loss)  # an evaluation reports its name
    def value(outputs: Array, targets: Array) -> Array:
        return loss(_halves(outputs)[0], targets)

    return value


def score_mse(outputs: Array, targets: Array) -> Array:
    """Mean squared error of scores, each the sigmoid of a logit.

      L = 1/(n ways) Σ_i Σ_k (σ(z_ik) - [y_i = k])²

    Args:
      outputs: logits z, `float[n, ways]`.
      targets: labels y, `int[n]`, or probabilities `float[n, ways]`.

    Returns:
      The loss, a scalar.

    Raises:
      InputError: if the targets are neither.

    >>> print(score_mse(jnp.zeros((3, 5)), jnp.array([0, 1, 2])))
    0.25

    Source: Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning",
    CVPR 2018, equation 2.
    """
    return jnp.mean((jax.nn.sigmoid(outputs) - _classes(outputs, targets)) ** 2)


def pair_cross_entropy(outputs: Array, targets: Array) -> Array:
    """Binary cross-entropy over all pairs of an example and a class.

      L = -1/(2n) Σ_i Σ_k (y_ik log σ(z_ik) + (1 - y_ik)/(ways - 1) log σ(-z_ik))

    Pairs that match and pairs that do not have the same total weight.

    Args:
      outputs: logits z, `float[n, ways]`.
      targets: labels, `int[n]`, or probabilities y, `float[n, ways]`.

    Returns:
      The loss, a scalar in nats.

    Raises:
      InputError: if the targets are neither.

    >>> print(f"{pair_cross_entropy(jnp.zeros((3, 5)), jnp.array([0, 1, 2])):.4f}")
    0.6931

    Source: Koch et al., "Siamese Neural Networks for One-shot Image Recognition", ICML
    Deep Learning Workshop 2015, section 3.2.
    """
    alike = _classes(outputs, targets)
    others = max(1, outputs.shape[-1] - 1)
    terms = alike * jax.nn.softplus(-outputs)
    terms = terms + (1 - alike) / others * jax.nn.softplus(outputs)
    return jnp.mean(jnp.sum(terms, axis=-1)) / 2


def accuracy(outputs: Array, targets: Array) -> Array:
    """The share of examples whose largest logit is their label's.

    An example with a logit of NaN is not right.

    Args:
      outputs: logits, `float[n, ways]`.
      targets: labels, `int[n]`, or probabilities `float[n, ways]`, the largest of which
        is the label.

    Returns:
      A scalar in [0, 1].

    Raises:
      InputError: if the targets are neither, a label is out of range, or there is only
        one output; use the mean of `(outputs[:, 0] > 0) == targets` for one logit.

    >>> float(accuracy(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0])))
    0.5
    """
    _check_ways("accuracy", outputs)
    soft = _are_probabilities(outputs, targets)
    labels = jnp.asarray(targets)
    labels = jnp.argmax(labels, axis=-1) if soft else wide_labels(labels)
    right = likeliest(outputs).astype(labels.dtype) == labels
    return jnp.mean(right, dtype=outputs.dtype)


def likeliest(outputs: Array) -> Array:
    """The class of the largest logit, along the last axis; -1 where one is NaN.

    >>> likeliest(jnp.array([[0.5, 2.0], [0.5, jnp.nan]])).tolist()
    [1, -1]
    """
    unknown = jnp.isnan(outputs).any(axis=-1)
    return jnp.where(unknown, -1, jnp.argmax(outputs, axis=-1))


def wide_labels(labels: Any) -> Any:
    """Labels of 32 bits or more, among which every class has a number of its own.

    >>> wide_labels(jnp.zeros(2, jnp.uint8)).dtype
    dtype('int32')
    """
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def probabilities(targets: Array, ways: int, dtype: Any) -> Array:
    """One-hot `dtype[n, ways]` of labels `int[n]`; casts targets that are floats.

    >>> probabilities(jnp.array([2, 0]), 3, jnp.float32).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if jnp.issubdtype(targets.dtype, jnp.floating):
        return targets.astype(dtype)
    return jax.nn.one_hot(wide_labels(targets), ways, dtype=dtype)


def memberships(targets: Array, ways: int, dtype: Any) -> Array:
    """`probabilities`, with a row of NaN for a label that is out of range.

    >>> memberships(jnp.array([2, 0]), 2, jnp.float32).tolist()
    [[nan, nan], [1.0, 0.0]]
    """
    p = probabilities(targets, ways, dtype)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        return p
    labels = wide_labels(targets)
    known = (labels >= 0) & (labels < ways)
    return jnp.where(known[..., None], p, jnp.nan)


def over_present(loss: Loss) -> Loss:
    """Extends a loss to `Padded` targets, as the mean over the examples present.

      L = Σ_i present_i loss(z_i, y_i) / Σ_i present_i

    Args:
      loss: a loss, or a metric, that is a mean over examples.

    Returns:
      A loss that is `loss` itself where targets are not padded.

    >>> labels = Padded(jnp.array([0, 1]), jnp.array([True, False]))
    >>> float(over_present(accuracy)(jnp.array([[2.0, 1.0], [2.0, 1.0]]), labels))
    1.0
    """

    def value(outputs: PyTree, targets: PyTree) -> Array:
        if not isinstance(targets, Padded):
            return loss(outputs, targets)
        values, present, allowed = targets
        if _is_concrete((values, present)):
            _check_present(loss, outputs, values, np.asarray(present))
        if allowed is not None:
            if not hasattr(outputs, "shape"):
                raise InputError(
                    "targets with allowed outputs need a model whose outputs are one "
                    f"array of logits, got {type(outputs).__name__}; leave allowed out"
                )
            if allowed.shape != outputs.shape:
                raise InputError(
                    f"tasks of up to {allowed.shape[-1]} classes need a model of "
                    f"that many outputs, got {outputs.shape[-1]}"
                )
            outputs = jnp.where(allowed, outputs, never(outputs.dtype))
        # So padding has no derivative, where the loss's is infinite or NaN there.
        outputs = jax.tree.map(partial(_only_present, present), outputs)
        alone = jax.tree.map(lambda x: x[:, None], (outputs, values))
        each = jax.vmap(loss)(*alone)
        total = jnp.sum(jnp.where(present, each, jnp.zeros_like(each)))
        return total / jnp.maximum(jnp.sum(present), 1).astype(total.dtype)

    return value


def check_labels(labels: Array, ways: int) -> None:
    """Checks labels whose values are known; inside `jit` they are not.

    Raises:
      InputError: if a label is below 0 or not below `ways`.

    >>> check_labels(jnp.array([0, 2]), 3)
    """
    if not _is_concrete(labels) or not labels.size:
        return
    values = np.asarray(labels)  # no surrounding trace records NumPy's operations
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= ways:
        raise InputError(
            f"labels must lie in 0..{ways - 1} for a model of {ways} outputs, got "
            f"{low}..{high}; give the model one output for each way of the episodes"
        )


def _only_present(present: Array, x: Array) -> Array:
    """An array whose rows of padding are constants."""
    there = present.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(there, x, jax.lax.stop_gradient(x))


def _check_present(loss: Loss, outputs: PyTree, values: PyTree, present: Any) -> None:
    """Lets a loss check the targets that are present."""
    kept = jax.tree.map(lambda x: np.asarray(x)[present], values)
    count = int(np.sum(present))
    like = jax.eval_shape(lambda: jax.tree.map(lambda x: x[:count], outputs))
    jax.eval_shape(lambda outputs: loss(outputs, kept), like)


def _is_concrete(tree: PyTree) -> bool:
    return not any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))


def _check_ways(name: str, outputs: Array) -> None:
    if outputs.shape[-1:] == (1,):
        raise InputError(
            f"{name} needs an output for each class, at least 2, got 1; for a single "
            "logit of two classes, use a loss or a metric of (outputs[:, 0], targets), "
            "such as optax.sigmoid_binary_cross_entropy"
        )


def _check_shapes(targets: Array, expected: tuple[int, ...]) -> None:
    """Refuses shapes that would broadcast to a meaningless number."""
    if targets.shape != expected:
        raise InputError(
            f"targets must have shape {expected} for these outputs, got {targets.shape}"
        )


def _halves(outputs: Array) -> tuple[Array, Array]:
    """Splits outputs into means and raw scales."""
    if not outputs.shape or outputs.shape[-1] % 2:
        raise InputError(
            "outputs must hold means and equally many raw scales along the last axis, "
            f"got shape {outputs.shape}; give the model two outputs for each value"
        )
    mean, raw = jnp.split(outputs, 2, axis=-1)
    return mean, raw


def _classes(outputs: Array, targets: Array) -> Array:
    """Checks targets, and converts them as `memberships` does."""
    _are_probabilities(outputs, targets)
    return memberships(targets, outputs.shape[-1], outputs.dtype)


def _known(outputs: Array, targets: Array) -> Array:
    """Checks targets, and tells which are of one of the classes."""
    if _are_probabilities(outputs, targets):
        return jnp.ones(targets.shape[:-1], bool)
    labels = wide_labels(targets)
    return (labels >= 0) & (labels < outputs.shape[-1])


def _are_probabilities(outputs: Array, targets: Array) -> bool:
    """Whether the targets are probabilities, not labels; refuses what is neither."""
    dtype, shape = jnp.result_type(targets), outputs.shape
    if jnp.issubdtype(dtype, jnp.floating) and targets.shape == shape:
        return True
    _check_shapes(targets, shape[:-1])
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(
            f"labels must be integers, got {dtype}; cast them to int32, or give "
            f"probabilities, floats of shape {shape}"
        )
    check_labels(targets, shape[-1])
    return False
