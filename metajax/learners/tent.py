"""Entropy minimisation on unlabelled queries, before they are predicted.

A network of transductive batch norm adapts to the queries without it: it normalises by
the statistics of all that are predicted at once. Tent moves the scales and offsets too.
"""

import jax
import jax.numpy as jnp
import optax

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.inner import inner_loop
from metajax.learners.partition import (
    PathPredicate,
    combine,
    partition,
    scale_or_offset,
)
from metajax.losses import over_present
from metajax.ops.masking import expected_log
from metajax.types import Array, Batch, Learner, Padded, Params, PyTree, unpadded


def tent(
    learner: Learner,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    adapts: PathPredicate = scale_or_offset,
) -> Learner:
    """A learner that adapts to the queries themselves, without their labels.

      H(ω) = -(1/n) Σ_i Σ_k p_ik log p_ik,   p_i = softmax(predict({ω, rest}, x_i))
      ω' = ω - α ∇_ω H(ω)   (`steps` times)
      ŷ = predict({ω', rest}, x)

    ω are the scales and offsets of the network's normalisation. Predictions depend on
    all queries that are predicted at once, and so are transductive; `per_query(tent(
    ...))` adapts to the support inputs and one query. What was computed of the support
    set, such as prototypes, stays as it is.

    Args:
      learner: any whose outputs are logits. Its loss stays as it is.
      optimizer: with its rate α; the paper takes Adam at 1e-3, on classifiers that were
        trained with labels.
      steps: the number of steps on each set of queries.
      adapts: `adapts(path) -> bool`, which arrays of what the learner adapts to are ω,
        by their paths.

    Returns:
      A `Learner`.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; in use, for outputs
        that are no logits, targets that allow only some, or no arrays that are ω.

    >>> import metajax as mj
    >>> learner = mj.prototypical(mj.mlp(2, (8,), 4), ways=3)
    >>> surer = tent(learner, optax.sgd(0.1), 5, adapts=lambda path: "bias" in path)
    >>> x = jax.random.normal(jax.random.key(0), (9, 2))
    >>> support = mj.Batch(x[:3], jnp.arange(3))
    >>> adapted = learner.adapt(learner.init(jax.random.key(1)), support)
    >>> before, after = (each.predict(adapted, x[3:]) for each in (learner, surer))
    >>> bool(prediction_entropy(after) < prediction_entropy(before))
    True

    Source: Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization",
    ICLR 2021.
    """
    check_count("steps", steps, least=0)

    def predict(adapted: PyTree, inputs: PyTree) -> PyTree:
        omega, rest = _parted(adapts, adapted)
        present = unpadded(inputs)[1]

        def loss(omega: Params, inputs: PyTree) -> Array:
            outputs = learner.predict(combine(omega, rest), inputs)
            return _entropy(outputs, present)

        last = inner_loop(loss, optimizer, steps)(omega, inputs)
        return learner.predict(combine(last, rest), inputs)

    return _of_all_ways(learner)._replace(predict=predict)


def prediction_entropy(outputs: Array) -> Array:
    """The mean entropy of predictions, H = -(1/n) Σ_i Σ_k p_ik log p_ik.

    Args:
      outputs: logits, `float[..., classes]`.

    Returns:
      A scalar in nats.

    Raises:
      InputError: if the outputs are not one array of two logits or more.

    >>> print(f"{prediction_entropy(jnp.zeros((3, 4))):.4f}")
    1.3863
    """
    shape = getattr(outputs, "shape", ())
    if not shape or shape[-1] < 2:
        raise InputError(
            "entropy is of classes: expected outputs [..., classes] of two classes or "
            f"more, got {shape or type(outputs).__name__}"
        )
    return -jnp.mean(expected_log(jax.nn.softmax(outputs), outputs))


def _entropy(outputs: Array, present: Array | None) -> Array:
    """The same over the examples that are present."""
    targets = outputs if present is None else Padded(outputs, present)
    return over_present(lambda z, _: prediction_entropy(z))(outputs, targets)


def _of_all_ways(learner: Learner) -> Learner:
    """The same for tasks of as many ways as outputs: queries do not say which count."""

    def check(support: Batch) -> None:
        targets = getattr(support, "targets", None)
        if isinstance(targets, Padded) and targets.allowed is not None:
            raise InputError(
                "tent minimises the entropy over all outputs, and the targets allow "
                "only some (Padded.allowed); give tasks of as many ways as outputs"
            )

    def adapt(meta: PyTree, support: Batch) -> PyTree:
        check(support)
        return learner.adapt(meta, support)

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        check(support)
        return learner.trajectory(meta, support)

    return learner._replace(adapt=adapt, trajectory=trajectory)


def _parted(adapts: PathPredicate, adapted: PyTree) -> tuple[Params, Params]:
    try:
        return partition(adapts, adapted)
    except InputError as error:
        raise InputError(
            "tent adapts the scales and offsets of a network's normalisation, and this "
            "learner has none among what it adapts to; give a network that has, or "
            "other `adapts`"
        ) from error
