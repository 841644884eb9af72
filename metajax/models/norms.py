"""The named forms of batch norm, by the statistics that each normalises by."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.checks import check_one_of
from metajax.ops.normalisation import (
    Moments,
    batch_moments,
    normalise,
    pooled_moments,
)
from metajax.ops.precision import wider
from metajax.types import Array, Model, Params, PyTree, keep

Settle = Callable[[Params, Array, Array | None], Params]
NormName = Literal["transductive", "support", "task"]


def keep_weights(weights: Params, x: Array, present: Array | None) -> Params:
    """The weights, unchanged."""
    return weights


class Norm(NamedTuple):
    """A normalisation, whose weights have a scale γ and an offset β.

    Attributes:
      init: `init(channels, dtype) -> weights`.
      moments: `moments(weights, x, present) -> Moments`, what x is normalised by.
      settle: `settle(weights, x, present) -> weights`, which store the statistics of x
        for later batches.
    """

    init: Callable[[int, jnp.dtype | type], Params]
    moments: Callable[[Params, Array, Array | None], Moments]
    settle: Settle

    def apply(self, weights: Params, x: Array, present: Array | None) -> Array:
        """`x`, normalised."""
        moments = self.moments(weights, x, present)
        return normalise(x, moments, weights["scale"], weights["offset"])


def _affine(channels: int, dtype: jnp.dtype | type) -> Params:
    return {"scale": jnp.ones(channels, dtype), "offset": jnp.zeros(channels, dtype)}


def _transductive() -> Norm:
    """By the current batch."""

    def moments(weights: Params, x: Array, present: Array | None) -> Moments:
        return batch_moments(x, present)

    return Norm(_affine, moments, keep_weights)


def _support() -> Norm:
    """By the support set, also for queries (MetaBN)."""

    def moments(weights: Params, x: Array, present: Array | None) -> Moments:
        return weights.get("moments") or batch_moments(x, present)

    def settle(weights: Params, x: Array, present: Array | None) -> Params:
        return weights | {"moments": batch_moments(x, present)}

    return Norm(_affine, moments, settle)


def _task() -> Norm:
    """By the support set and each example itself (TaskNorm-I).

    The share of the support set is α = sigmoid(slope · |support| + intercept).
    """

    def init(channels: int, dtype: jnp.dtype | type) -> Params:
        start = jnp.zeros((), dtype)
        return _affine(channels, dtype) | {"slope": start, "intercept": start}

    def context(weights: Params, x: Array, present: Array | None) -> Any:
        count = jnp.asarray(len(x)) if present is None else jnp.sum(present)
        kind = wider(x.dtype)
        slope, intercept = (weights[n].astype(kind) for n in ("slope", "intercept"))
        share = jax.nn.sigmoid(slope * count.astype(kind) + intercept)
        return batch_moments(x, present), share

    def moments(weights: Params, x: Array, present: Array | None) -> Moments:
        known = weights.get("context") or context(weights, x, present)
        return pooled_moments(x, *known)

    def settle(weights: Params, x: Array, present: Array | None) -> Params:
        return weights | {"context": context(weights, x, present)}

    return Norm(init, moments, settle)


NORMS: dict[NormName, Norm] = {
    "transductive": _transductive(),
    "support": _support(),
    "task": _task(),
}


def norm_of(name: NormName) -> Norm:
    """The normalisation called `name`.

    Raises:
      InputError: if there is none.
    """
    check_one_of("norm", name, get_args(NormName))
    return NORMS[name]


def normed_model(
    norm: Norm,
    init: Callable[[Array], Params],
    run: Callable[[Params, PyTree, Settle], tuple[Array, Params]],
) -> Model:
    """A network whose layers normalise by `norm`.

    Args:
      norm: the normalisation.
      init: `init(key) -> params`.
      run: `run(params, inputs, settle) -> (outputs, params)`, which settles the weights
        of each layer on its inputs, before it normalises them.

    Returns:
      A `Model`.
    """

    def apply(params: Params, inputs: PyTree) -> Array:
        return run(params, inputs, keep_weights)[0]

    def settle(params: Params, inputs: PyTree) -> Params:
        return run(params, inputs, norm.settle)[1]

    return Model(init, apply, settle=keep if norm.settle is keep_weights else settle)
