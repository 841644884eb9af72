"""What a convolutional block normalises by: the named forms of batch norm."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.ops.normalisation import (
    batch_moments,
    batch_norm,
    normalise,
    pooled_moments,
)
from metajax.ops.precision import wider
from metajax.types import Array, Params, check_one_of

Settle = Callable[[Params, Array, Array | None], Params]
NormName = Literal["transductive", "support", "task"]


def as_it_is(weights: Params, x: Array, present: Array | None) -> Params:
    """Keeps nothing."""
    return weights


class Norm(NamedTuple):
    """A normalisation, of weights that have a scale γ and an offset β.

    Attributes:
      init: `init(channels, dtype) -> weights`.
      apply: `apply(weights, x, present) -> x`, normalised.
      settle: `settle(weights, x, present) -> weights`, which keep what later batches
        need of this one.
    """

    init: Callable[[int, jnp.dtype | type], Params]
    apply: Callable[[Params, Array, Array | None], Array]
    settle: Settle


def _affine(channels: int, dtype: jnp.dtype | type) -> Params:
    return {"scale": jnp.ones(channels, dtype), "offset": jnp.zeros(channels, dtype)}


def _transductive() -> Norm:
    """By the current batch."""

    def apply(weights: Params, x: Array, present: Array | None) -> Array:
        return batch_norm(x, weights["scale"], weights["offset"], present=present)

    return Norm(_affine, apply, as_it_is)


def _support() -> Norm:
    """By the support set, also for queries (MetaBN)."""

    def apply(weights: Params, x: Array, present: Array | None) -> Array:
        moments = weights.get("moments") or batch_moments(x, present)
        return normalise(x, moments, weights["scale"], weights["offset"])

    def settle(weights: Params, x: Array, present: Array | None) -> Params:
        return weights | {"moments": batch_moments(x, present)}

    return Norm(_affine, apply, settle)


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

    def apply(weights: Params, x: Array, present: Array | None) -> Array:
        moments = pooled_moments(
            x, *(weights.get("context") or context(weights, x, present))
        )
        return normalise(x, moments, weights["scale"], weights["offset"])

    def settle(weights: Params, x: Array, present: Array | None) -> Params:
        return weights | {"context": context(weights, x, present)}

    return Norm(init, apply, settle)


NORMS: dict[NormName, Norm] = {
    "transductive": _transductive(),
    "support": _support(),
    "task": _task(),
}


def norm_of(name: NormName) -> Norm:
    """The normalisation of a name.

    Raises:
      InputError: if there is none.
    """
    check_one_of("norm", name, get_args(NormName))
    return NORMS[name]
