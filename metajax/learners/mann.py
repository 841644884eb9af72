"""Memory-augmented networks: an LSTM writes examples into a memory and finds them."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from metajax.checks import check_count, check_model
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.memory import MemoryNetwork, State, memory_network
from metajax.learners.support import check_features, embed, support_features
from metajax.losses import cross_entropy
from metajax.models.flat import rows
from metajax.ops.precision import dtype_of
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Remembered(NamedTuple):
    """The parameters, and the memory of a support set.

    Attributes:
      body: the body's parameters.
      network: the parameters of the controller and its heads.
      state: the state after the last support example.
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

      h_t, r_t, M_t = step([φ(x_t), y_t], M_{t-1}),   z = [h, r] W' + b'

    `metajax.learners.memory.step` has its equations. A query is the next example, whose
    label is zero. In the paper each label comes with the next example and every example
    is a query first; here it comes at once, and the loss is the query set's. Train on
    shuffled support sets (`metajax.data.shuffle_support`), since their order matters.

    Args:
      body: the embedding φ, from inputs to features, which are flattened. The network
        has its parameters' type (float32 if it has none).
      ways: the number of classes, and of outputs, the same in training and in tests.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      features: the number of the body's features.
      memory: the number of slots, and the size of each.
      hidden: the controller's units.
      heads: the number of heads that read and write, no more than the slots.
      decay: γ, in [0, 1], by which a slot's usage decays.
      scale: s, of the cosines; at the paper's 1 a head reads all slots nearly alike.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "network": ...}` and whose
      `adapt` returns a `Remembered`. Slots, decay and scale shape no meta-parameter.

    Raises:
      InputError: if the body is not a `Model` or has other features, or a number is out
        of range.

    >>> import metajax as mj
    >>> body, _ = mj.mlp(2, (8,)).parts
    >>> learner = mann(body, ways=5, features=8, memory=(16, 4), hidden=10, heads=2)

    Source: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML
    2016.
    """
    check_count("ways", ways, least=1)
    network = memory_network(
        features, ways, memory, hidden=hidden, heads=heads, decay=decay, scale=scale
    )
    return _mann(body, network, features, ways, loss, metrics)


def _mann(
    body: Model,
    network: MemoryNetwork,
    features: int,
    ways: int,
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Learner:
    check_model(body)

    def init(key: Array) -> PyTree:
        keys = jax.random.split(key, 4)
        params = body.init(keys[0])
        return {"body": params, "network": network.init(keys[1:], dtype_of(params))}

    def adapt(meta: PyTree, support: Batch) -> Remembered:
        params, x = embed(body, meta["body"], support)
        examples = support_features(x, support.targets, ways)
        check_features("mann", examples.features, features)
        state = network.read(meta["network"], examples)
        return Remembered(params, meta["network"], state)

    def predict(adapted: Remembered, inputs: PyTree) -> Array:
        x = check_features("mann", rows(body.forward(adapted.body, inputs)), features)
        return network.ask(adapted.network, adapted.state, x)

    return feed_forward_learner(init, adapt, predict, loss, metrics)
