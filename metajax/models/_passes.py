"""The passes of another library's module, in training and in predictions, checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import Keyed, values_of
from metajax.errors import InputError
from metajax.models._reads import Looked, look
from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree

Call = Callable[[PyTree, Params, Any, PyTree], tuple[PyTree, PyTree]]
STATE_MEND = (
    "normalise by the current batch (use_running_average=False), by GroupNorm or by "
    "LayerNorm, or take metajax.conv4, whose norms keep what they need"
)


class Passes(NamedTuple):
    """What a module computes, `call(state, params, key, x) -> (outputs, state after)`.

    Attributes:
      training: the call in training.
      predicting: the call in predictions.
      layer: `layer(path) -> str`, whose a leaf of the state is, in words.
      running: `running(path) -> bool`, whether that leaf is a running statistic.
      mend: how to build a module that predicts without drawing random numbers.
    """

    training: Call
    predicting: Call
    layer: Callable[[tuple], str]
    running: Callable[[tuple], bool]
    mend: str


class Examined(NamedTuple):
    """Whether training draws random numbers, and what is read of the state."""

    draws: bool
    read: PyTree


def examine(passes: Passes, *args: PyTree) -> Examined:
    """Traces both passes of `(state, params, key, x)`.

    Raises:
      InputError: if the outputs depend on what a call changes, or on running
        statistics, or predictions draw random numbers.
    """
    looks = [look(passes.training, *args), look(passes.predicting, *args)]
    for looked in looks:
        _check_state(passes, args[0], looked)
    draws = [any(jax.tree.leaves(looked.read[2])) for looked in looks]
    if draws[1]:
        raise InputError(
            f"the module draws random numbers in predictions too; {passes.mend}"
        )
    states = (looked.read[0] for looked in looks)
    return Examined(draws[0], jax.tree.map(lambda *x: any(x), *states))


def _check_state(passes: Passes, state: PyTree, looked: Looked) -> None:
    leaves, changed = map(jax.tree.leaves, (state, looked.changed))
    read = jax.tree.leaves_with_path(looked.read[0])
    for (path, own), change, leaf in zip(read, changed, leaves, strict=True):
        if not own:
            continue
        if passes.running(path):
            raise InputError(
                f"{passes.layer(path)} reads running statistics, which no meta-step "
                f"updates; {STATE_MEND}"
            )
        if change:
            raise InputError(
                f"{passes.layer(path)} reads what its own call changes, and a metajax "
                "network keeps no state from call to call; compute it of the inputs, "
                f"and in a norm, {STATE_MEND}"
            )
        if is_key(leaf):
            raise InputError(
                f"{passes.layer(path)} draws of a PRNG key that it holds, the same "
                f"numbers in every call; draw of one of the library's random streams"
            )


def is_key(x: Any) -> bool:
    """Whether an array is of typed PRNG keys."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def drawing_model(
    init: Callable[[Array], Params],
    draws: Callable[[Params, PyTree], bool],
    training: Callable[[Params, Array | None, PyTree], PyTree],
    predicting: Callable[[Params, PyTree], PyTree],
) -> Model:
    """A network that may draw random numbers in training.

    Args:
      init: see `metajax.Model`.
      draws: `draws(params, x) -> bool`, whether it does.
      training: `training(params, keys, x) -> outputs`; keys are None if it does not.
      predicting: `predicting(params, x) -> outputs`.

    Returns:
      A `Model`.
    """

    def apply(params: Params, inputs: PyTree) -> PyTree:
        x = values_of(inputs)
        if not draws(params, x):
            return training(params, None, x)
        return training(params, Keyed.of(inputs).keys, x)

    return exact_by_default(Model(init, apply, inference=predicting))
