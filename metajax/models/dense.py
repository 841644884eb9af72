"""One linear layer."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.cosine import cosine_head
from metajax.models.flat import flat_features
from metajax.ops import linear
from metajax.types import Array, Model, Params, PyTree

Head = Literal["zero", "glorot", "cosine"]
"""A linear head whose kernel starts at zero or by Glorot, or a head of cosines."""


def dense(
    inputs: int,
    outputs: int,
    *,
    initializer: Callable[..., Array] | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Y = x W + b, of the flattened features of each example.

    Args:
      inputs: the number of features.
      outputs: the number of outputs.
      initializer: `initializer(key, shape, dtype) -> W`; Glorot's uniform by default.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, ...]` of `inputs` features to `[n, outputs]`.

    Raises:
      InputError: for a number below 1, or when it is applied to other inputs.

    >>> model = dense(12, 3)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2, 6))).shape
    (7, 3)
    """
    shape = (
        check_count("inputs", inputs, least=1),
        check_count("outputs", outputs, least=1),
    )
    draw = initializer or jax.nn.initializers.glorot_uniform()

    def init(key: Array) -> Params:
        return {"kernel": draw(key, shape, dtype), "bias": jnp.zeros(shape[1:], dtype)}

    def apply(params: Params, features: PyTree) -> Array:
        x = flat_features(features, inputs, "linear layer")
        return linear(x, params["kernel"]) + params["bias"][None]

    return Model(init, apply)


def linear_head(
    features: int, ways: int, kind: Head, *, dtype: jnp.dtype | type = jnp.float32
) -> Model:
    """The head of a classifier: `dense`, or cosines in its place.

    Args:
      features: the number of features.
      ways: the number of outputs.
      kind: "zero" or "glorot", a `dense` head and where its kernel starts; "cosine", a
        `metajax.models.cosine_head`, which has a start of its own.
      dtype: the type of the parameters.

    Returns:
      A `Model`.

    Raises:
      InputError: for an unknown `kind`, or a number below 1.

    >>> model = linear_head(12, 3, "zero")
    >>> float(jnp.abs(model.init(jax.random.key(0))["kernel"]).max())
    0.0
    """
    check_one_of("head", kind, get_args(Head))
    if kind == "cosine":
        return cosine_head(features, ways, dtype=dtype)
    zero = jax.nn.initializers.zeros if kind == "zero" else None
    return dense(features, ways, initializer=zero, dtype=dtype)


class DenseSizes(NamedTuple):
    """What a `dense` layer was made for.

    Attributes:
      inputs: the number of features.
      outputs: the number of outputs.
      dtype: of its parameters.
    """

    inputs: int
    outputs: int
    dtype: Any


def dense_sizes(head: Model, learner: str) -> DenseSizes:
    """What a head was made for, which `learner` puts its own in place of.

    Raises:
      InputError: if it is not a `dense` layer.

    >>> dense_sizes(dense(12, 3), "proto_maml")[:2]
    (12, 3)
    """
    params = jax.eval_shape(head.init, jax.random.key(0))
    kernel = params.get("kernel") if isinstance(params, dict) else None
    if kernel is None or kernel.ndim != 2 or set(params) != {"kernel", "bias"}:
        raise InputError(
            f"{learner} puts a head of its own in place of a linear one, got another; "
            "give it metajax.headed(body, metajax.models.dense(features, ways))"
        )
    inputs, outputs = kernel.shape
    return DenseSizes(inputs, outputs, kernel.dtype)
