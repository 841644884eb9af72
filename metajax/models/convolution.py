"""One convolution."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.ops import conv2d
from metajax.types import Array, Model, Params, PyTree, unpadded


def convolution(
    side: int,
    inputs: int,
    outputs: int,
    *,
    initializer: Callable[..., Array] | None = None,
    bias: float = 0.0,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Y = k * x + b, of maps of features, which keep their size.

    Args:
      side: the kernel has side x side places.
      inputs: the number of channels of x.
      outputs: the number of channels of y.
      initializer: `initializer(key, shape, dtype) -> k`; Glorot's uniform by default.
      bias: where b starts.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, height, width, inputs]` to `[n, height, width,
      outputs]`, of any height and width.

    Raises:
      InputError: for a number below 1, or when it is applied to other inputs.

    >>> model = convolution(3, 2, 8)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((1, 5, 4, 2))).shape
    (1, 5, 4, 8)
    """
    names = ("side", "inputs", "outputs")
    for name, value in zip(names, (side, inputs, outputs)):
        check_count(name, value, least=1)
    draw = initializer or jax.nn.initializers.glorot_uniform()

    def init(key: Array) -> Params:
        kernel = draw(key, (side, side, inputs, outputs), dtype)
        return {"kernel": kernel, "bias": jnp.full(outputs, bias, dtype)}

    def apply(params: Params, features: PyTree) -> Array:
        x, _ = unpadded(features)
        shape = getattr(x, "shape", None)
        if shape is None or len(shape) != 4 or shape[3] != inputs:
            kind = type(x).__name__ if shape is None else f"shape {shape}"
            raise InputError(
                f"this convolution takes maps [n, height, width, {inputs}], got {kind};"
                " build it for that many channels, and put feature_pyramid before it "
                "where a network returns several maps"
            )
        return conv2d(x, params["kernel"]) + params["bias"].reshape(1, 1, 1, outputs)

    return Model(init, apply)
