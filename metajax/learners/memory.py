"""The memory of a MANN: an LSTM that writes examples into slots and reads them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive, check_share
from metajax.errors import InputError
from metajax.learners import lstm
from metajax.learners.support import SupportFeatures
from metajax.ops.precision import product
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, PyTree


class State(NamedTuple):
    """What the network carries from one example to the next.

    Attributes:
      memory: M, `float[slots, size]`.
      usage: w^u, `float[slots]`.
      weights: w^r of each head, `float[heads, slots]`.
      read: r, what the heads read, `float[heads * size]`.
      controller: the LSTM's state, of one row.
    """

    memory: Array
    usage: Array
    weights: Array
    read: Array
    controller: lstm.Memory


class MemoryNetwork(NamedTuple):
    """An LSTM with a memory, which reads examples and is asked of others.

    Attributes:
      init: `init(keys, dtype) -> params`, of three keys.
      read: `read(params, examples) -> state`, after one example after another.
      ask: `ask(params, state, x) -> logits`, `float[n, ways]` of `float[n, features]`,
        each as the next example, whose label is zero.
    """

    init: Callable[[Array, Any], PyTree]
    read: Callable[[PyTree, SupportFeatures], State]
    ask: Callable[[PyTree, State, Array], Array]


def memory_network(
    features: int,
    ways: int,
    memory: tuple[int, int],
    *,
    hidden: int,
    heads: int,
    decay: float,
    scale: float,
) -> MemoryNetwork:
    """The network of `metajax.mann`, whose arguments it takes.

      h_t, r_t = step(φ(x_t), y_t),   z_t = [h_t, r_t] W' + b'

    Args:
      features: the number of features of φ(x).
      ways: the number of classes.
      memory: the number of slots, and of numbers in each.
      hidden: the units of the LSTM.
      heads: the number of heads.
      decay: γ of `step`.
      scale: s of `step`.

    Returns:
      A `MemoryNetwork`.

    Raises:
      InputError: if a number is out of range.
    """
    check_count("features", features, least=1)
    check_count("hidden", hidden, least=1)
    if not isinstance(memory, tuple | list) or len(memory) != 2:
        raise InputError(f"memory must be (slots, numbers in each), got {memory!r}")
    slots, size = (check_count("a size of memory", n, least=1) for n in memory)
    check_count("heads", heads, least=1, most=slots)
    check_share("decay", decay, whole=True)
    check_positive("scale", scale)
    advance = partial(step, decay=decay, scale=scale)

    def read(params: PyTree, examples: SupportFeatures) -> State:
        def see(state: State, example: tuple[Array, Array, Array]):
            x, label, present = example
            after = advance(params, state, x, label)
            return jax.tree.map(partial(jnp.where, present > 0), after, state), None

        x, labels, present = examples
        return jax.lax.scan(see, start(params, slots), (x, labels, present))[0]

    def ask(params: PyTree, state: State, x: Array) -> Array:
        def logits(x: Array) -> Array:
            after = advance(params, state, x, jnp.zeros(ways, x.dtype))
            both = jnp.concatenate([after.controller.output[0], after.read])
            return lstm.linear(params["output"], both[None])[0]

        return jax.vmap(logits)(x)

    init = partial(_init, features + ways, ways, hidden, (heads, size))
    return MemoryNetwork(init, read, ask)


def _init(
    inputs: int,
    outputs: int,
    hidden: int,
    heads: tuple[int, int],
    keys: Array,
    dtype: Any,
) -> PyTree:
    count, size = heads
    read, linear = count * size, partial(lstm.linear_init, scale=1.0, dtype=dtype)
    return {
        "controller": lstm.lstm_init(keys[0], inputs + read, hidden, dtype=dtype),
        "keys": linear(keys[1], (hidden, read)),
        "output": linear(keys[2], (hidden + read, outputs)),
        "gate": jnp.zeros(count, dtype),
    }


def start(network: PyTree, slots: int) -> State:
    """The state before the first example, of zeros."""
    hidden, read = network["keys"]["kernel"].shape
    heads, dtype = len(network["gate"]), network["gate"].dtype
    zeros = partial(jnp.zeros, dtype=dtype)
    return State(
        memory=zeros((slots, read // heads)),
        usage=zeros(slots),
        weights=zeros((heads, slots)),
        read=zeros(read),
        controller=lstm.lstm_start(1, hidden, dtype),
    )


def step(
    network: PyTree,
    state: State,
    x: Array,
    label: Array,
    *,
    decay: float,
    scale: float,
) -> State:
    """The state after one more example.

      h_t = LSTM([φ(x_t), y_t, r_{t-1}]),   k_t = tanh(h_t W + b)
      w^w_t = σ(α) w^r_{t-1} + (1 - σ(α)) w^lu_{t-1}
      M_t(i) = M_{t-1}(i) + w^w_t(i) k_t,   the slot of w^lu_{t-1} being erased first
      w^r_t = softmax_i s cos(k_t, M_t(i)),   r_t = Σ_i w^r_t(i) M_t(i)
      w^u_t = γ w^u_{t-1} + w^r_t + w^w_t

    w^lu is one at the least used slot, by w^u. Each head has its own key, gate α, reads
    and writes; the h-th head writes to the h-th least used slot.

    Args:
      network: the parameters of the controller and its heads.
      state: before the example.
      x: φ(x_t), `float[features]`.
      label: y_t, `float[ways]`; zeros if it is not known.
      decay: γ.
      scale: s.

    Returns:
      The state.
    """
    inputs = jnp.concatenate([x, label, state.read])
    controller = lstm.lstm(network["controller"], inputs[None], state.controller)
    heads, slots = state.weights.shape
    keys = jnp.tanh(lstm.linear(network["keys"], controller.output))
    keys = keys.reshape(heads, -1)
    # An order has no derivative: which slots are least used is a constant.
    order = jnp.argsort(state.usage)[:heads]
    least = jax.nn.one_hot(order, slots, dtype=x.dtype)
    gate = jax.nn.sigmoid(network["gate"])[:, None]
    written = gate * state.weights + (1 - gate) * least
    kept = 1 - jnp.sum(least, 0)  # zero erases a slot
    memory = kept[:, None] * state.memory + product(written.T, keys)
    weights = jax.nn.softmax(scale * product(unit_rows(keys), unit_rows(memory).T), 1)
    usage = decay * state.usage + jnp.sum(weights + written, 0)
    read = product(weights, memory).ravel()
    return State(memory, usage, weights, read, controller)
