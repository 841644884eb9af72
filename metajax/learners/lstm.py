"""A small LSTM, and the preprocessing of gradients for learnt optimizers."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.types import Array, PyTree

LOG_RANGE = 10.0  # p of `preprocess`


class Memory(NamedTuple):
    """An LSTM's state, `float[rows, hidden]` each: its output h and its cell c."""

    output: Array
    cell: Array


def preprocess(x: Array) -> Array:
    """Magnitude and sign of numbers of any scale, as two numbers near [-1, 1].

      (log|x| / p, sign x)  if |x| >= e^-p,  else  (-1, e^p x),    p = 10

    Its derivatives are finite everywhere, at zero too.

    Args:
      x: numbers, `float[...]`.

    Returns:
      `float[..., 2]`.

    >>> preprocess(jnp.array([1.0, -jnp.exp(5.0), 0.0])).tolist()
    [[0.0, 1.0], [0.5, -1.0], [-1.0, 0.0]]

    Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient
    descent", NeurIPS 2016, appendix A.
    """
    large = jnp.abs(x) >= math.exp(-LOG_RANGE)
    # The logarithm never sees a zero, whose derivative would be NaN in both branches.
    size = jnp.log(jnp.where(large, jnp.abs(x), 1.0)) / LOG_RANGE
    first = jnp.where(large, size, -1.0)
    second = jnp.where(large, jnp.sign(x), math.exp(LOG_RANGE) * x)
    return jnp.stack([first, second], -1)


def linear_init(key: Array, shape: tuple[int, int], *, scale: float, dtype) -> PyTree:
    """Weights of variance scale² / inputs, and no bias."""
    spread = scale / math.sqrt(shape[0])
    kernel = spread * jax.random.normal(key, shape, dtype)
    return {"kernel": kernel, "bias": jnp.zeros(shape[1:], dtype)}


def linear(weights: PyTree, x: Array) -> Array:
    """X W + b, of rows x."""
    product = jnp.matmul(x, weights["kernel"], precision="highest")
    return product + weights["bias"][None]


def lstm_init(key: Array, inputs: int, hidden: int, *, dtype) -> PyTree:
    """Weights of an LSTM that starts by remembering: its forget gate's bias is 1."""
    weights = linear_init(key, (inputs + hidden, 4 * hidden), scale=1.0, dtype=dtype)
    remember = jnp.zeros((4, hidden), dtype).at[1].set(1.0)
    return weights | {"bias": remember.ravel()}


def lstm_start(rows: int, hidden: int, dtype) -> Memory:
    """The state before the first step, zeros."""
    return Memory(*jnp.zeros((2, rows, hidden), dtype))


def lstm(weights: PyTree, x: Array, memory: Memory) -> Memory:
    """One step of an LSTM, for each row by itself.

      (i, f, g, o) = [x, h] W + b
      c' = σ(f) ∘ c + σ(i) ∘ tanh(g),   h' = σ(o) ∘ tanh(c')

    Args:
      weights: from `lstm_init`.
      x: `float[rows, inputs]`.
      memory: the state before the step.

    Returns:
      The state after it.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; Gers et al., 2000.
    """
    gates = linear(weights, jnp.concatenate([x, memory.output], 1))
    i, f, g, o = jnp.split(gates, 4, axis=1)
    cell = jax.nn.sigmoid(f) * memory.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return Memory(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)
