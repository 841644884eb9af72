"""The embedded support set, as the heads of feed-forward learners see it."""

from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import values_of
from metajax.errors import InputError
from metajax.losses import check_labels, memberships
from metajax.models.flat import rows
from metajax.ops.masking import never
from metajax.ops.precision import product
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, Batch, Model, Params, PyTree, unpadded


class SupportFeatures(NamedTuple):
    """The features of a support set, and the classes they belong to.

    Attributes:
      features: φ(x), `float[n, d]`; zeros for padding.
      members: how much of each example is in each class, `float[n, ways]`; a row of
        zeros has no label, or is padding; one of NaN has a label out of range.
      present: 1 for an example, 0 for padding, `float[n]`.
    """

    features: Array
    members: Array
    present: Array

    def absent(self) -> Array:
        """Which classes have no example, `bool[ways]`."""
        return jnp.sum(self.members, 0) == 0

    def only_present(self, logits: Array) -> Array:
        """The logits, `float[..., ways]`, by which no absent class is predicted."""
        absent = jnp.broadcast_to(self.absent(), logits.shape)
        return jnp.where(absent, never(logits.dtype), logits)

    def labelled(self) -> Array:
        """The features, with zeros where there is no label."""
        known = (jnp.sum(self.members, 1) > 0).astype(self.features.dtype)
        return self.features * known[:, None]


def embed(body: Model, params: Params, support: Batch) -> tuple[Params, Array]:
    """Settles the body on the support set, and embeds it.

    Args:
      body: the embedding φ.
      params: its parameters.
      support: the support set.

    Returns:
      The parameters to embed queries with, and φ(x), `float[n, ...]`.
    """
    settled = body.settle(params, values_of(support.inputs))
    return settled, body.forward(settled, support.inputs)


def support_features(features: Array, targets: PyTree, ways: int) -> SupportFeatures:
    """Features and their targets as `SupportFeatures`.

    Args:
      features: φ(x), `float[n, ...]`, which are flattened.
      targets: labels `int[n]`, probabilities `float[n, ways]`, or `Padded` of them.
      ways: the number of classes.

    Returns:
      The `SupportFeatures`.

    Raises:
      InputError: if probabilities are not of `ways` classes, or a label is out of range
        (where it is not traced).

    >>> support_features(jnp.ones((2, 3)), jnp.array([1, 0]), ways=2).members.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    x, (labels, present) = rows(features), unpadded(targets)
    members = memberships(labels, ways, x.dtype)
    if members.shape != (len(x), ways):
        raise InputError(
            f"support targets must be labels [n], or probabilities [n, {ways}] of "
            f"{ways} ways, got {jnp.shape(labels)} for {len(x)} examples"
        )
    if present is None:
        if jnp.issubdtype(labels.dtype, jnp.integer):
            check_labels(labels, ways)
        return SupportFeatures(x, members, jnp.ones_like(members[:, 0]))
    there = present.astype(x.dtype)
    members = jnp.where(present[:, None], members, jnp.zeros_like(members))
    return SupportFeatures(x * there[:, None], members, there)


def class_means(features: Array, members: Array) -> Array:
    """The prototype c_k of each class.

    Args:
      features: φ(x), `float[n, d]`.
      members: how much of each is in each class, `float[n, ways]`.

    Returns:
      `float[ways, d]`; zeros for a class without examples.

    >>> class_means(jnp.array([[1.0], [3.0], [5.0]]), jnp.eye(2)[jnp.array([0, 0, 1])])
    Array([[2.],
           [5.]], dtype=float32)
    """
    sums, counts = product(members.T, features), jnp.sum(members, 0)
    return sums / jnp.where(counts > 0, counts, jnp.ones_like(counts))[:, None]


def cosines(features: Array, codes: Array) -> Array:
    """The cosine of features at each place with each code; 0 where one is zero.

    Args:
      features: `float[..., d]`.
      codes: `float[classes, d]`.

    Returns:
      `float[..., classes]`.

    >>> cosines(jnp.array([[[3.0, 4.0]]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [[[0.6000000238418579, 0.800000011920929]]]
    """
    flat = unit_rows(features).reshape(-1, features.shape[-1])
    return product(flat, unit_rows(codes).T).reshape(*features.shape[:-1], len(codes))


def check_features(name: str, features: Array, count: int) -> Array:
    """Returns features `[n, d]` if d is `count`.

    Raises:
      InputError: if it is not.
    """
    if (width := features.shape[1]) != count:
        raise InputError(
            f"{name} was built for {count} features, and the body has {width}; give it "
            f"features={width}"
        )
    return features


def pair_matrix(logits: Array, queries: int, others: int) -> Array:
    """A comparator's logits of all pairs, `[queries * others, 1]`, as a matrix.

    Raises:
      InputError: if the comparator does not return one number for each pair.
    """
    if logits.shape != (queries * others, 1):
        raise InputError(
            f"the comparator must map {queries * others} pairs to one output each, got "
            f"shape {logits.shape}"
        )
    return logits.reshape(queries, others)
