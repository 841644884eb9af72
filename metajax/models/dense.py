"""One linear layer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.ops import linear
from metajax.types import Array, Model, Params, PyTree, check_count, unpadded


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
      initializer: of W, `initializer(key, shape, dtype)`; Glorot's uniform by default.
      dtype: of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, ...]` of `inputs` features to `[n, outputs]`.

    Raises:
      InputError: for a number below 1.

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
        x, _ = unpadded(features)
        x = x.reshape(x.shape[0], inputs)
        return linear(x, params["kernel"]) + params["bias"][None]

    return Model(init, apply)
