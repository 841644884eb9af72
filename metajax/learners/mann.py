"""Memory-augmented networks: an LSTM that writes examples down and looks them up."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model, check_positive, check_share
from metajax.errors import InputError
from metajax.learners import lstm
from metajax.learners.at_once import (
    at_once,
    check_features,
    embedded,
    rows,
    settled,
    unit,
)
from metajax.losses import cross_entropy
from metajax.ops.precision import dtype_of, product
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class State(NamedTuple):
    """What the network carries from an example to the next.

    Attributes:
      memory: M, `float[slots, size]`.
      usage: w^u, `float[slots]`.
      weights: w^r, of each head, `float[heads, slots]`.
      read: r, what the heads read, `float[heads * size]`.
      controller: of one row.
    """

    memory: Array
    usage: Array
    weights: Array
    read: Array
    controller: lstm.Memory


class Remembered(NamedTuple):
    """What was learnt from a support set.

    Attributes:
      body: the body's parameters.
      network: those of the controller and its heads.
      state: after the last support example.
    """

    body: Params
    network: PyTree
    state: State


def mann(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    features: int,
    memory: tuple[int, int] = (128, 40),
    hidden: int = 200,
    heads: int = 4,
    decay: float = 0.99,
    scale: float = 10.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Reads the support set one example at a time, and writes into a memory M.

      h_t = LSTM([φ(x_t), y_t, r_{t-1}]),   k_t = tanh(h_t W + b)
      w^w_t = σ(α) w^r_{t-1} + (1 - σ(α)) w^lu_{t-1}
      M_t(i) = M_{t-1}(i) + w^w_t(i) k_t,   the slot of w^lu_{t-1} being erased first
      w^r_t = softmax_i s cos(k_t, M_t(i)),   r_t = Σ_i w^r_t(i) M_t(i)
      w^u_t = γ w^u_{t-1} + w^r_t + w^w_t
      z_t = [h_t, r_t] W' + b'

    w^lu is one at the least used slot, by w^u. Each head has a key, a gate α, and reads
    and writes of its own, the h-th at the h-th least used slot. Each query is asked as
    if it were the next example, by itself, its label zero.

    In the paper every example is a query first, so that its label comes with the next
    one; here the loss is of the query set, and a support example has its label at once.

    The result depends on the order of the support set, which samplers group by class:
    train on shuffled ones (`metajax.data.augmented` with
    `metajax.data.shuffle_support`).

    Args:
      body: the embedding φ, see `metajax.prototypical`; its features are flattened, and
        its parameters' type is that of the network (float32 if it has none).
      ways: the number of classes, and of outputs: test with as many as in training.
      loss: see `metajax.maml`.
      features: the number of the body's features.
      memory: the number of slots, and of numbers in each.
      hidden: the controller's units.
      heads: that read and write; no more than the slots.
      decay: γ, in [0, 1].
      scale: s, of the cosines; at the paper's 1 a head reads all slots nearly alike.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "network": ...}` and whose
      `adapt` returns a `Remembered`. Slots, decay and scale shape no meta-parameter.

    Raises:
      InputError: if the body is no `Model` or has other features, or a number is out of
        range.

    >>> import metajax as mj
    >>> body, _ = mj.mlp(2, (8,)).parts
    >>> learner = mann(body, ways=5, features=8, memory=(16, 4), hidden=10, heads=2)
    >>> support = Batch(jnp.ones((5, 2)), jnp.arange(5))
    >>> adapted = learner.adapt(learner.init(jax.random.key(0)), support)
    >>> adapted.state.memory.shape, learner.predict(adapted, jnp.ones((3, 2))).shape
    ((16, 4), (3, 5))

    Source: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML
    2016.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_count("features", features, least=1)
    check_count("hidden", hidden, least=1)
    if not isinstance(memory, tuple | list) or len(memory) != 2:
        raise InputError(f"memory must be (slots, numbers in each), got {memory!r}")
    slots, size = (check_count("a size of memory", n, least=1) for n in memory)
    check_count("heads", heads, least=1, most=slots)
    check_share("decay", decay, whole=True)
    check_positive("scale", scale)
    advance = partial(step, decay=decay, scale=scale)

    def init(key: Array) -> PyTree:
        first, *keys = jax.random.split(key, 4)
        params = body.init(first)
        dtype = dtype_of(params)
        read = heads * size
        shapes = {"keys": (hidden, read), "output": (hidden + read, ways)}
        network = {
            name: lstm.linear_init(k, shape, scale=1.0, dtype=dtype)
            for k, (name, shape) in zip(keys[1:], shapes.items())
        }
        told = features + ways + read
        network["controller"] = lstm.lstm_init(keys[0], told, hidden, dtype=dtype)
        network["gate"] = jnp.zeros(heads, dtype)
        return {"body": params, "network": network}

    def adapt(meta: PyTree, support: Batch) -> Remembered:
        params, found = settled(body, meta["body"], support)
        x = check_features("mann", rows(found), features)
        x, labels, present = embedded(x, support.targets, ways)

        def read(state: State, example: tuple[Array, Array, Array]):
            x, label, present = example
            after = advance(meta["network"], state, x, label)
            return jax.tree.map(partial(jnp.where, present > 0), after, state), None

        examples = x, labels, present
        state, _ = jax.lax.scan(read, start(meta["network"], slots), examples)
        return Remembered(params, meta["network"], state)

    def predict(adapted: Remembered, inputs: PyTree) -> Array:
        x = check_features("mann", rows(body.forward(adapted.body, inputs)), features)

        def ask(x: Array) -> Array:
            unknown = jnp.zeros(ways, x.dtype)
            after = advance(adapted.network, adapted.state, x, unknown)
            seen = jnp.concatenate([after.controller.output[0], after.read])
            return lstm.linear(adapted.network["output"], seen[None])[0]

        return jax.vmap(ask)(x)

    return at_once(init, adapt, predict, loss, metrics)


def start(network: PyTree, slots: int) -> State:
    """The state before the first example: nothing is remembered.

    Args:
      network: the parameters of the controller and its heads.
      slots: of the memory.

    Returns:
      The state, of zeros.
    """
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
    told = jnp.concatenate([x, label, state.read])
    controller = lstm.lstm(network["controller"], told[None], state.controller)
    heads, slots = state.weights.shape
    keys = jnp.tanh(lstm.linear(network["keys"], controller.output))
    keys = keys.reshape(heads, -1)
    # An order has no derivative: which slots are least used is a constant.
    order = jnp.argsort(state.usage)[:heads]
    least = jax.nn.one_hot(order, slots, dtype=x.dtype)
    gate = jax.nn.sigmoid(network["gate"])[:, None]
    written = gate * state.weights + (1 - gate) * least
    kept = 1 - jnp.sum(least, 0)
    memory = kept[:, None] * state.memory + product(written.T, keys)
    weights = jax.nn.softmax(scale * product(unit(keys), unit(memory).T), 1)
    usage = decay * state.usage + jnp.sum(weights + written, 0)
    read = product(weights, memory).ravel()
    return State(memory, usage, weights, read, controller)
