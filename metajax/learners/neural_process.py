"""Conditional neural processes: the support set as one vector, a mean."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_count, check_model
from metajax.errors import InputError
from metajax.learners.feed_forward import feed_forward_learner, identity
from metajax.learners.support import class_means, embed, support_features
from metajax.models.flat import rows
from metajax.models.initialise import init_named
from metajax.types import (
    Array,
    Batch,
    Learner,
    Loss,
    Model,
    Padded,
    Params,
    PyTree,
    unpadded,
)


class Process(NamedTuple):
    """The parameters, and the representation of a support set.

    Attributes:
      body: the body's parameters.
      decoder: the decoder's.
      representation: r, `float[d]`.
    """

    body: Params
    decoder: Params
    representation: Array


def neural_process(
    encoder: Model,
    decoder: Model,
    loss: Loss,
    *,
    ways: int | None = None,
    body: Model | None = None,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Predicts from a query and a mean over the support set.

      r = (1/K) Σ_i h([x_i, y_i]),   ŷ = g([x, r])

    To classify, r = [r_1, ..., r_ways], where r_k is the mean of h(x_i) over the
    support examples of class k.

    Args:
      encoder: h, from `[n, features]` to `[n, d]`: of examples joined to their targets,
        or, to classify, of examples alone.
      decoder: g, of examples joined to r, which has d numbers, or `ways` times d.
      loss: `loss(outputs, targets) -> scalar` of the query set: with
        `metajax.gaussian`, g returns a mean and a scale for each target.
      ways: the number of classes; None if targets are values.
      body: an embedding of the examples, before they are flattened; none by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "encoder": ..., "decoder":
      ...}` and whose `adapt` returns a `Process`.

    Raises:
      InputError: if one of the networks is not a `Model`, `ways` is not a whole number
        of at least 1, or labels come without `ways`.

    >>> import metajax as mj
    >>> encoder, decoder = mj.mlp(1 + 1, (16,), 8), mj.mlp(1 + 8, (16,), 2)
    >>> learner = neural_process(encoder, decoder, mj.gaussian)

    Source: Garnelo et al., "Conditional Neural Processes", ICML 2018.
    """
    embedding = identity() if body is None else body
    networks = {"body": embedding, "encoder": encoder, "decoder": decoder}
    _check(networks, ways)

    def adapt(meta: PyTree, support: Batch) -> Process:
        params, features = embed(embedding, meta["body"], support)
        examples, members = _examples(rows(features), support.targets, ways)
        codes = encoder.forward(meta["encoder"], _like(support.inputs, examples))
        r = class_means(rows(codes), members).ravel()
        return Process(params, meta["decoder"], r)

    def predict(adapted: Process, inputs: PyTree) -> PyTree:
        x = rows(embedding.forward(adapted.body, inputs))
        r = adapted.representation
        joined = jnp.concatenate([x, jnp.broadcast_to(r, (len(x), len(r)))], 1)
        return decoder.forward(adapted.decoder, _like(inputs, joined))

    init = partial(init_named, networks)
    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _check(networks: Mapping[str, Model], ways: int | None) -> None:
    for network in networks.values():
        check_model(network)
    if ways is not None:
        check_count("ways", ways, least=1)


def _examples(x: Array, targets: PyTree, ways: int | None) -> tuple[Array, Array]:
    """What the encoder sees, and the classes to average over: one class for values."""
    if ways is not None:
        return x, support_features(x, targets, ways).members
    values, present = unpadded(targets)
    return _pairs(x, values), _all_of_one(x, present)


def _pairs(x: Array, targets: Array) -> Array:
    """Examples joined to their targets, which are values."""
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise InputError(
            f"labels ({targets.dtype}) need the number of classes: give neural_process "
            "ways=..., and an encoder of examples alone"
        )
    return jnp.concatenate([x, rows(targets).astype(x.dtype)], 1)


def _all_of_one(x: Array, present: Array | None) -> Array:
    """Every example in one class, `float[n, 1]`; padding in none."""
    there = jnp.ones(len(x), bool) if present is None else present
    return there[:, None].astype(x.dtype)


def _like(inputs: PyTree, examples: Array) -> PyTree:
    """Examples, `Padded` and `Keyed` as the inputs they were computed from are."""
    present = unpadded(inputs)[1]
    return keyed_as(inputs, examples if present is None else Padded(examples, present))
