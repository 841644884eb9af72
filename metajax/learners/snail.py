"""SNAIL: attention and temporal convolutions read the support set."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import check_features, embed, support_features
from metajax.losses import cross_entropy
from metajax.models.dense import dense
from metajax.models.flat import rows
from metajax.models.initialise import init_named
from metajax.models.snail import SIZES, Reader, reader
from metajax.ops.precision import dtype_of
from metajax.types import (
    Array,
    Batch,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
    unpadded,
)


class Read(NamedTuple):
    """The parameters, and what was read of a support set.

    Attributes:
      body: the body's parameters.
      model: the network's.
      kept: what each block of the network needs of the support set.
    """

    body: Params
    model: Params
    kept: PyTree


def snail(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    features: int,
    length: int,
    filters: int = 128,
    attention: Sequence[tuple[int, int]] = SIZES,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Reads embedded examples by causal attention and convolutions, then each query.

      z = SNAIL((φ(x_1), y_1, 0), ..., (φ(x_K), y_K, 0), (φ(x), 0, 1))

    The network is `metajax.models.snail_network`, which computes the support set once,
    not once a query. Train on shuffled support sets (`metajax.data.shuffle_support`),
    since their order matters.

    Args:
      body: the embedding φ, from inputs to features, which are flattened. The network
        has its parameters' type (float32 if it has none).
      ways: the number of classes, and of outputs, the same in training and in tests.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      features: the number of the body's features.
      length: the number of tokens that the convolutions reach back over: ways times
        shots, and the query.
      filters: the number of features of each convolution.
      attention: the numbers of features of the keys and of the values, of each block of
        attention.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "model": ...}` and whose
      `adapt` returns a `Read`.

    Raises:
      InputError: if the body is not a `Model` or has other features, a number is below
        1, or `attention` is not of pairs.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5).parts
    >>> learner = snail(body, ways=5, features=64, length=5 * 1 + 1)

    Source: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018.
    """
    check_count("ways", ways, least=1)
    check_count("features", features, least=1)
    token = features + ways + 1  # an example, its label, and whether it is a query
    build = partial(reader, token, length, filters=filters, attention=attention)
    return _snail(body, build, features, ways, loss, metrics)


def _snail(
    body: Model,
    build: Callable[..., Reader],
    features: int,
    ways: int,
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Learner:
    check_model(body)

    def networks(dtype: Any) -> dict[str, Any]:
        network = build(dtype=dtype)
        return {"body": network, "head": dense(network.width, ways, dtype=dtype)}

    network, head = networks(jnp.float32).values()  # the type matters to `init` alone

    def init(key: Array) -> PyTree:
        first, second = jax.random.split(key)
        params = body.init(first)
        return {"body": params, "model": init_named(networks(dtype_of(params)), second)}

    def adapt(meta: PyTree, support: Batch) -> Read:
        params, x = embed(body, meta["body"], support)
        examples = support_features(x, support.targets, ways)
        check_features("snail", examples.features, features)
        tokens = _tokens(examples.features, examples.members, is_query=0)
        present = unpadded(support.inputs)[1]
        there = None if present is None else present[None]
        kept = network.read(meta["model"]["body"], tokens[None], there)
        return Read(params, meta["model"], kept)

    def predict(adapted: Read, inputs: PyTree) -> Array:
        x = rows(body.forward(adapted.body, inputs))
        tokens = _tokens(x, jnp.zeros((len(x), ways), x.dtype), is_query=1)
        h = network.ask(adapted.model["body"], adapted.kept, tokens[None])
        return head.apply(adapted.model["head"], h[0])

    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _tokens(x: Array, labels: Array, *, is_query: int) -> Array:
    """(x_i, y_i, is_query), `float[n, features + ways + 1]`."""
    return jnp.concatenate([x, labels, jnp.full_like(x[:, :1], is_query)], 1)
