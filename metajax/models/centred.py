"""Features about a mean, at length one."""

from functools import partial

import jax.numpy as jnp

from metajax.checks import check_model
from metajax.models.flat import rows
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, Model, Params, PyTree, unpadded


def centred(body: Model, mean: Array | None = None) -> Model:
    """The features of a body, less a mean, at length one.

      z = (φ(x) - μ) / |φ(x) - μ|

    Args:
      body: the embedding φ.
      mean: μ, `float[d]`, such as the mean feature of the training classes; by default
        that of the support set, by `Model.settle`, and of the batch before that.

    Returns:
      A `Model` from inputs to z, `float[n, d]`. Its parameters are
      `{"body": ..., "mean": μ}`, or `{"body": ...}` without one.

    Raises:
      InputError: if the body is not a `Model`.

    >>> import jax
    >>> from metajax.types import Model
    >>> model = centred(Model(lambda key: {}, lambda params, x: x), jnp.ones(2))
    >>> model.apply(model.init(jax.random.key(0)), jnp.array([[1.0, 3.0]])).tolist()
    [[0.0, 1.0]]

    Source: Wang et al., "SimpleShot", 2019.
    """
    check_model(body)

    def init(key: Array) -> Params:
        params = body.init(key)
        if mean is None:
            return {"body": params}
        return {"body": params, "mean": jnp.asarray(mean)}

    def apply(params: Params, inputs: PyTree) -> Array:
        return _about(params, body.forward(params["body"], inputs), inputs)

    def inference(params: Params, inputs: PyTree) -> Array:
        return _about(params, body.predict(params["body"], inputs), inputs)

    return Model(
        init,
        apply,
        settle=partial(_settle, body),
        inference=body.inference and inference,
    )


def _about(params: Params, features: Array, inputs: PyTree) -> Array:
    """The features about the mean that there is, or about their own."""
    x = rows(features)
    mean = params["mean"] if "mean" in params else _mean(x, inputs)
    return unit_rows(x - mean[None])


def _settle(body: Model, params: Params, inputs: PyTree) -> Params:
    """With the mean of the support set, if there is none."""
    settled = {**params, "body": body.settle(params["body"], inputs)}
    if "mean" in params:
        return settled
    features = body.predict(settled["body"], inputs)
    return {**settled, "mean": _mean(rows(features), inputs)}


def _mean(x: Array, inputs: PyTree) -> Array:
    """Over the examples that are present, `float[d]`; zeros if there are none."""
    _, present = unpadded(inputs)
    weights = jnp.ones_like(x[:, 0]) if present is None else present.astype(x.dtype)
    count = jnp.maximum(jnp.sum(weights), 1).astype(x.dtype)
    return jnp.sum(weights[:, None] * x, 0) / count
