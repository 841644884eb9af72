"""A running average of the meta-parameters, kept by the outer optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.constant import completed
from metajax.checks import check_share
from metajax.training.state import TrainState
from metajax.types import Array, Params, PyTree


class AverageState(NamedTuple):
    """The average, and the number of updates it has seen, `int32[]`."""

    average: Params
    seen: Array


def parameter_average(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters; changes no update.

      θ̄_t = d_t θ̄_{t-1} + (1 - d_t) θ_t,   d_t = min(decay, (1 + t) / (10 + t))

    Chain it last, so that it sees what is added to the parameters:
    `optax.chain(optax.adam(1e-3), parameter_average(0.999))`. `averaged(state)` is θ̄.

    Args:
      decay: in [0, 1); 0.999 averages over about the last 1,000 meta-steps.

    Returns:
      An optax optimizer.

    Raises:
      InputError: if `decay` is out of range.

    >>> optimizer = optax.chain(optax.sgd(1.0), parameter_average(0.5))
    >>> params = jnp.array(0.0)
    >>> state = optimizer.init(params)
    >>> _, state = optimizer.update(jnp.array(-1.0), state, params)
    >>> print(f"{state[-1].average:.2f}")
    0.82

    Source: Polyak & Juditsky, 1992; the ramp is TensorFlow's.
    """
    check_share("decay", decay)

    def init(params: Params) -> AverageState:
        return AverageState(params, jnp.zeros((), jnp.int32))

    def update(updates: Params, state: Any, params: Any = None):
        seen = state.seen + 1
        ramp = (1.0 + seen.astype(float)) / (10.0 + seen.astype(float))
        share = jnp.minimum(decay, ramp)

        def mix(old: Array, new: Array) -> Array:
            return old + (1 - share).astype(old.dtype) * (new - old)

        after = optax.apply_updates(params, updates)
        average = jax.tree.map(mix, state.average, after)
        return updates, AverageState(average, seen)

    return optax.GradientTransformation(init, update)


def averaged(state: TrainState) -> PyTree:
    """The averaged meta-parameters; the latest ones if no average is kept.

    Args:
      state: from `metajax.fit` or `metajax.train_step`.

    Returns:
      Meta-parameters, to evaluate.
    """
    parts = jax.tree.leaves(state.opt_state, is_leaf=_is_average)
    averages = [part.average for part in parts if _is_average(part)]
    return completed(averages[0], state.meta) if averages else state.meta


def _is_average(part: PyTree) -> bool:
    return isinstance(part, AverageState)
