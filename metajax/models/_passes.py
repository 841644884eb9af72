"""Checks of another library's module, in training and in predictions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import Keyed, values_of
from metajax.errors import InputError
from metajax.models._reads import Dependence, dependence
from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree

Call = Callable[[PyTree, Params, Any, PyTree], tuple[PyTree, PyTree]]
STATE_MEND = (
    "normalise by the current batch (use_running_average=False), by GroupNorm or by "
    "LayerNorm, or take metajax.conv4, whose norms keep what they need"
)


class Passes(NamedTuple):
    """What a module computes, as `call(state, params, keys, x) -> (outputs, state)`.

    Attributes:
      training: the call in training.
      predicting: the call in predictions.
      layer: `layer(path) -> str`, the name of the layer that a leaf of the state is of.
      running: `running(path) -> bool`, whether that leaf is a running statistic.
      mend: how to build a module that draws no random numbers in predictions.
    """

    training: Call
    predicting: Call
    layer: Callable[[tuple], str]
    running: Callable[[tuple], bool]
    mend: str


class Examined(NamedTuple):
    """Whether training draws random numbers, and which leaves of the state are read."""

    draws: bool
    read: PyTree


def examine(passes: Passes, *args: PyTree) -> Examined:
    """Traces both passes of `(state, params, keys, x)`.

    Raises:
      InputError: if the outputs depend on what a call changes, or on running
        statistics, or predictions draw random numbers.
    """
    both = [dependence(passes.training, *args), dependence(passes.predicting, *args)]
    for traced in both:
        _check_state(passes, args[0], traced)
    draws = [any(jax.tree.leaves(traced.read[2])) for traced in both]
    if draws[1]:
        raise InputError(
            f"the module draws random numbers in predictions too; {passes.mend}"
        )
    states = (traced.read[0] for traced in both)
    return Examined(draws[0], jax.tree.map(lambda *x: any(x), *states))


def _check_state(passes: Passes, state: PyTree, traced: Dependence) -> None:
    leaves, changed = map(jax.tree.leaves, (state, traced.changed))
    read = jax.tree.leaves_with_path(traced.read[0])
    for (path, is_read), change, leaf in zip(read, changed, leaves, strict=True):
        if not is_read:
            continue
        if passes.running(path):
            raise InputError(
                f"{passes.layer(path)} reads running statistics, which no meta-step "
                f"updates; {STATE_MEND}"
            )
        if change:
            raise InputError(
                f"{passes.layer(path)} reads what its own call changes, and a metajax "
                "network keeps no state from call to call; compute it from the inputs, "
                f"and in a norm, {STATE_MEND}"
            )
        if is_key(leaf):
            raise InputError(
                f"{passes.layer(path)} draws from a PRNG key that it holds, the same "
                f"numbers in every call; draw from one of the library's random streams"
            )


def is_key(x: Any) -> bool:
    """Whether an array is of typed PRNG keys."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def model_of(
    init: Callable[[Array], Params],
    passes: Passes,
    split: Callable[[Params], tuple[PyTree, Params]],
    draws: Callable[[Params, PyTree], bool],
) -> Model:
    """The `Model` of a module that may draw random numbers in training.

    Args:
      init: `init(key) -> params`.
      passes: the module.
      split: `split(params) -> (state, params)` of its passes.
      draws: `draws(params, x) -> bool`, whether training draws; it checks the module.

    Returns:
      A `Model`.
    """

    def apply(params: Params, inputs: PyTree) -> PyTree:
        x = values_of(inputs)
        keys = Keyed.of(inputs).keys if draws(params, x) else None
        return passes.training(*split(params), keys, x)[0]

    def inference(params: Params, x: PyTree) -> PyTree:
        draws(params, x)  # for its checks
        return passes.predicting(*split(params), None, x)[0]

    return exact_by_default(Model(init, apply, inference=inference))
