"""Inner optimizers that are recurrent networks, one coordinate at a time.

Both share their weights over the coordinates of all arrays. Each coordinate has its own
state: an LSTM of h units stores 2h numbers for every parameter at each inner step.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.learners.inner_optimizer import InnerOptimizer
from metajax.learners.lstm import (
    Memory,
    linear,
    linear_init,
    lstm,
    lstm_init,
    lstm_start,
    preprocess,
)
from metajax.ops.precision import dtype_of
from metajax.types import Array, Params, PyTree


class Gated(NamedTuple):
    """The state of `meta_lstm`: the LSTM's, and the last gates, `float[n, 1]`."""

    memory: Memory
    forget: Array
    rate: Array


def meta_lstm(
    rate: float, hidden: int = 20, *, forget_bias: float = 5.0
) -> InnerOptimizer:
    """An LSTM whose cell is the parameters: gates for what to keep and what to learn.

      θ_t = f_t ∘ θ_{t-1} - i_t ∘ ∇_t
      i_t = σ(W_I [h_t, θ_{t-1}, i_{t-1}] + b_I)
      f_t = σ(W_F [h_t, θ_{t-1}, f_{t-1}] + b_F)
      h_t = LSTM([∇_t, L_t], h_{t-1}),  ∇ and L as their logarithms and signs

    It starts near gradient descent at `rate` with a little decay. The paper holds ∇_t
    and L_t constant (`grad=metajax.first_order`); its c_0 is the learnt start, θ.

    Args:
      rate: where i starts, up to W_I, between 0 and 1; b_I is its logit.
      hidden: the width of h.
      forget_bias: where b_F starts: f ≈ σ(b_F), 0.993 at the paper's 5.

    Returns:
      An `InnerOptimizer` that asks for the loss, by optax's `value_fn`.

    Raises:
      InputError: if `rate` is not between 0 and 1, `forget_bias` is not finite, or
        `hidden` is not a whole number of at least 1.

    >>> import metajax as mj
    >>> inner = meta_lstm(0.01)
    >>> learner = mj.learned_maml(mj.mlp(), mj.mse, inner, 5, grad=mj.first_order)

    Source: Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR
    2017.
    """
    _check_gates(rate, forget_bias)
    check_count("hidden", hidden, least=1)

    def init(key: Array, params: Params) -> PyTree:
        keys, dtype = jax.random.split(key, 3), dtype_of(params)
        gate = partial(_gate_init, hidden=hidden, dtype=dtype)
        return {
            "lstm": lstm_init(keys[0], 4, hidden, dtype=dtype),
            "forget": gate(keys[1], forget_bias),
            "rate": gate(keys[2], math.log(rate / (1 - rate))),
        }

    def start(x: Array) -> Gated:
        memory = lstm_start(x.size, hidden, x.dtype)
        return Gated(memory, *jnp.zeros((2, x.size, 1), x.dtype))

    return InnerOptimizer(init, _coordinatewise(start, _gated_step))


def _check_gates(rate: float, forget_bias: float) -> None:
    if not 0 < rate < 1:
        raise InputError(
            f"rate must be above 0 and below 1, as it is where a gate starts, got "
            f"{rate!r}"
        )
    if not math.isfinite(forget_bias):
        raise InputError(f"forget_bias must be a finite number, got {forget_bias!r}")


def _gate_init(key: Array, bias: float, *, hidden: int, dtype: Any) -> PyTree:
    weights = linear_init(key, (hidden + 2, 1), scale=0.01, dtype=dtype)
    return weights | {"bias": jnp.full((1,), bias, dtype)}


def _gated_step(
    rule: PyTree, g: Array, x: Array, value: Array, state: Gated
) -> tuple[Array, Gated]:
    """θ_t - θ_{t-1} = (f_t - 1) ∘ θ_{t-1} - i_t ∘ ∇_t."""
    gradients, losses = preprocess(g), preprocess(value)
    inputs = [gradients, jnp.broadcast_to(losses, (len(g), 2))]
    memory = lstm(rule["lstm"], jnp.concatenate(inputs, 1), state.memory)

    def gate(weights: PyTree, last: Array) -> Array:
        features = jnp.concatenate([memory.output, x[:, None], last], 1)
        return jax.nn.sigmoid(linear(weights, features))

    f, i = gate(rule["forget"], state.forget), gate(rule["rate"], state.rate)
    return (f[:, 0] - 1) * x - i[:, 0] * g, Gated(memory, f, i)


def learned_optimizer(
    hidden: int = 20, layers: int = 2, *, scale: float = 0.1
) -> InnerOptimizer:
    """An LSTM that maps each coordinate's gradient to its update.

      u_t = scale (W h_t + b),   h_t = LSTM(∇_t, h_{t-1}),  ∇ as its logarithm and sign

    The paper holds ∇_t constant (`grad=metajax.first_order`).

    Args:
      hidden: the width of each layer.
      layers: the number of LSTMs, one on another.
      scale: the factor of the updates.

    Returns:
      An `InnerOptimizer`.

    Raises:
      InputError: if `scale` is not finite, or `hidden` or `layers` is not a whole
        number of at least 1.

    >>> import metajax as mj
    >>> inner = learned_optimizer()
    >>> learner = mj.learned_maml(mj.mlp(), mj.mse, inner, 5, grad=mj.first_order)

    Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient
    descent", NeurIPS 2016.
    """
    if not math.isfinite(scale):
        raise InputError(f"scale must be a finite number, got {scale!r}")
    check_count("hidden", hidden, least=1)
    check_count("layers", layers, least=1)

    def init(key: Array, params: Params) -> PyTree:
        keys, dtype = jax.random.split(key, layers + 1), dtype_of(params)
        widths = [2] + [hidden] * (layers - 1)
        return {
            "lstm": [
                lstm_init(k, n, hidden, dtype=dtype) for k, n in zip(keys, widths)
            ],
            "output": linear_init(keys[-1], (hidden, 1), scale=1.0, dtype=dtype),
        }

    def start(x: Array) -> list[Memory]:
        return [lstm_start(x.size, hidden, x.dtype) for _ in range(layers)]

    def step(rule: PyTree, g: Array, x: Array, value: Array, state: list[Memory]):
        h, memories = preprocess(g), []
        for weights, memory in zip(rule["lstm"], state):
            memories.append(lstm(weights, h, memory))
            h = memories[-1].output
        return scale * linear(rule["output"], h)[:, 0], memories

    return InnerOptimizer(init, _coordinatewise(start, step))


def _coordinatewise(
    start: Callable[[Array], Any], step: Callable[..., tuple[Array, Any]]
) -> Callable[[PyTree], optax.GradientTransformationExtraArgs]:
    """The `build` of an inner optimizer that treats each coordinate by itself.

    Args:
      start: `start(array) -> state` of the array's coordinates.
      step: `step(rule, gradient, parameters, value, state) -> (update, state)`, of
        arrays `float[n]` and the loss's value.
    """

    def build(rule: PyTree) -> optax.GradientTransformationExtraArgs:
        def init(params: Params) -> PyTree:
            return jax.tree.map(start, params)

        def update(
            updates: Params, state: PyTree, params: Params | None = None, **also: Any
        ):
            shared = rule, also["value_fn"](params)

            def update_array(g: Array, x: Array, own: Any) -> tuple[Array, Any]:
                weights, value = jax.tree.map(lambda w: w.astype(g.dtype), shared)
                u, own = step(weights, g.ravel(), x.ravel(), value, own)
                return u.reshape(g.shape), own

            pairs = jax.tree.map(update_array, updates, params, state)
            return tuple(
                jax.tree.map(lambda _, pair: pair[i], updates, pairs)  # noqa: B023
                for i in range(2)
            )

        return optax.GradientTransformationExtraArgs(init, update)

    return build
