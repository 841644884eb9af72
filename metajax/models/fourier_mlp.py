"""A multilayer perceptron on random Fourier features of coordinates."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import Constant
from metajax.checks import check_count, check_positive
from metajax.models.headed import headed, parts
from metajax.models.mlp import mlp
from metajax.models.per_example import per_example
from metajax.ops import linear
from metajax.types import Array, Model, Params


def fourier_mlp(
    inputs: int = 2,
    hidden: Sequence[int] = (64, 64),
    outputs: int = 1,
    *,
    features: int = 64,
    scale: float = 2.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """A perceptron of the cosines and sines of fixed random projections.

      γ(x) = [cos(2π B x), sin(2π B x)],  B_ij ~ N(0, σ²),  outputs = mlp(γ(x))

    B is a `metajax.Constant` among the parameters: it is drawn by `init`, and neither
    an inner nor an outer optimizer changes it. Angles are too large for bfloat16
    (`metajax.in_precision`): outputs are then off by several per cent.

    Args:
      inputs: the number of coordinates.
      hidden: the widths of the hidden layers.
      outputs: the number of values at a point.
      features: the number of rows of B; the perceptron has twice as many inputs.
      scale: σ, of coordinates in [-1, 1]: half of what it is for [0, 1], where the
        paper's images have 10.
      activation: between the layers.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, inputs]` to `[n, outputs]`; the head is
      the last layer.

    Raises:
      InputError: for a number below 1, no hidden layer, or a `scale` of 0 or less.

    >>> model = fourier_mlp(2, (16,), 3, features=8)
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.zeros((7, 2))).shape
    (7, 3)
    >>> params["body"]["projection"].value.shape
    (2, 8)

    Source: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions
    in Low Dimensional Domains", NeurIPS 2020, section 6.
    """
    encoder = _encoder(inputs, features, scale, dtype)
    check_count("the number of hidden layers", len(hidden), least=1)
    network = mlp(2 * features, hidden, outputs, activation=activation, dtype=dtype)
    body, head = parts(network, "fourier_mlp")

    def init(key: Array) -> Params:
        draw_key, body_key = jax.random.split(key)
        return {"projection": encoder.init(draw_key), "layers": body.init(body_key)}

    def apply(params: Params, x: Array) -> Array:
        encoded = encoder.apply(params["projection"], x)
        return body.apply(params["layers"], encoded)

    return headed(per_example(Model(init, apply)), head)


def _encoder(
    inputs: int, features: int, scale: float, dtype: jnp.dtype | type
) -> Model:
    """Cosines and sines of projections that are drawn once.

    Raises:
      InputError: for a number below 1, or a scale that is not positive.
    """
    for name, value in dict(inputs=inputs, features=features).items():
        check_count(name, value, least=1)
    check_positive("scale", scale)

    def init(key: Array) -> Constant:
        return Constant(scale * jax.random.normal(key, (inputs, features), dtype))

    def apply(projection: Constant, x: Array) -> Array:
        angles = 2 * math.pi * linear(x, projection.value)
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)

    return Model(init, apply)
