"""SNAIL: attention and temporal convolutions read the support set."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model
from metajax.learners.at_once import (
    at_once,
    check_features,
    embedded,
    rows,
    settled,
)
from metajax.losses import cross_entropy
from metajax.models.dense import dense
from metajax.models.several import init_named
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
    """What was learnt from a support set.

    Attributes:
      body: the body's parameters.
      model: the network's.
      kept: what the network needs of the support set, a block each.
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

      z = SNAIL((φ(x_1), y_1), ..., (φ(x_K), y_K), (φ(x), 0))

    The network is `metajax.models.snail_network`, of tokens that also say whether they
    are queries. The support set is computed once, not once a query. The result depends
    on its order, which samplers group by class: train on shuffled ones
    (`metajax.data.augmented` with `metajax.data.shuffle_support`).

    Args:
      body: the embedding φ, see `metajax.prototypical`; its features are flattened, and
        its parameters' type is that of the network (float32 if it has none).
      ways: the number of classes, and of outputs: test with as many as in training.
      loss: see `metajax.maml`.
      features: the number of the body's features.
      length: the number of tokens that the convolutions reach back over: ways times
        shots, and the query.
      filters: see `metajax.models.snail_network`.
      attention: see there.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "model": ...}` and whose
      `adapt` returns what the network makes of the support set, in a `Read`.

    Raises:
      InputError: if the body is no `Model` or has other features, a number is below 1,
        or `attention` is not of pairs.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5).parts
    >>> learner = snail(body, ways=5, features=64, length=5 * 1 + 1)

    Source: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_count("features", features, least=1)
    token = features + ways + 1  # an example, its label, and whether it is a query

    def networks(dtype: jnp.dtype | type) -> tuple[Reader, Model]:
        body = reader(token, length, filters=filters, attention=attention, dtype=dtype)
        return body, dense(body.width, ways, dtype=dtype)

    network, head = networks(jnp.float32)  # the type matters to `init` alone

    def init(key: Array) -> PyTree:
        first, second = jax.random.split(key)
        params = body.init(first)
        reads, tells = networks(dtype_of(params))
        model = init_named({"body": reads, "head": tells}, second)
        return {"body": params, "model": model}

    def adapt(meta: PyTree, support: Batch) -> Read:
        params, found = settled(body, meta["body"], support)
        examples = embedded(found, support.targets, ways)
        x = check_features("snail", examples.features, features)
        told = jnp.concatenate([x, examples.members, jnp.zeros_like(x[:, :1])], 1)
        present = unpadded(support.inputs)[1]
        there = None if present is None else present[None]
        kept = network.read(meta["model"]["body"], told[None], there)
        return Read(params, meta["model"], kept)

    def predict(adapted: Read, inputs: PyTree) -> Array:
        x = rows(body.forward(adapted.body, inputs))
        unknown = jnp.zeros((len(x), ways), x.dtype)
        asked = jnp.concatenate([x, unknown, jnp.ones_like(x[:, :1])], 1)
        seen = network.ask(adapted.model["body"], adapted.kept, asked[None])
        return head.apply(adapted.model["head"], seen[0])

    return at_once(init, adapt, predict, loss, metrics)
