"""SNAIL: attention and temporal convolutions read the support set."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax.numpy as jnp

from metajax.learners.in_context import in_context
from metajax.losses import cross_entropy, probabilities
from metajax.models.snail import SIZES, snail_network
from metajax.types import Learner, Loss, Model, check_count, check_model


def snail(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    features: int,
    length: int,
    filters: int = 128,
    attention: Sequence[tuple[int, int]] = SIZES,
    dtype: jnp.dtype | type = jnp.float32,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """`metajax.in_context` of embedded examples, by causal attention and convolutions.

      z = SNAIL((φ(x_1), y_1), ..., (φ(x_K), y_K), (φ(x), 0))

    The network is `metajax.models.snail_network`. It depends on the order of the
    support set, which samplers group by class: train on shuffled ones
    (`metajax.data.augmented` with `metajax.data.shuffle_support`).

    Args:
      body: the embedding φ, see `metajax.prototypical`; its features are flattened.
      ways: the number of classes, and of outputs: test with as many as in training.
      loss: see `metajax.maml`.
      features: the number of the body's features.
      length: the most tokens of a sequence: ways times shots, and the query.
      filters: see `metajax.models.snail_network`.
      attention: see there.
      dtype: of the network's parameters; that of the body's features.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "model": ...}` and whose
      `adapt` returns the support set, embedded, as tokens.

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
    network = snail_network(
        token, ways, length, filters=filters, attention=attention, dtype=dtype
    )
    encode = partial(probabilities, ways=ways, dtype=dtype)
    return in_context(network, loss, body=body, encode=encode, metrics=metrics)
