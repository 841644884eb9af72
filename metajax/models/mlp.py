"""A multilayer perceptron."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metajax.ops import linear
from metajax.types import Array, Model, Params, check_count


def mlp(
    inputs: int = 1,
    hidden: Sequence[int] = (40, 40),
    outputs: int = 1,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Linear layers with an activation between; the defaults are MAML's sinusoid net.

      h_0 = x,  h_{i+1} = act(h_i W_i + b_i),  outputs = h_n W_n + b_n

    Args:
      inputs: the number of input features.
      hidden: the widths of the hidden layers.
      outputs: the number of outputs.
      activation: act.
      dtype: of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, inputs]` to `[n, outputs]`.

    Raises:
      InputError: for a width below 1.

    >>> model = mlp(2, (16,), 3)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
    """
    widths = [check_count("a width", w, least=1) for w in (inputs, *hidden, outputs)]

    def init(key: Array) -> Params:
        glorot = jax.nn.initializers.glorot_uniform()
        keys = jax.random.split(key, len(widths) - 1)
        return [
            {"kernel": glorot(k, shape, dtype), "bias": jnp.zeros(shape[1:], dtype)}
            for k, shape in zip(keys, zip(widths, widths[1:]))
        ]

    def apply(params: Params, x: Array) -> Array:
        *body, head = params
        for layer in body:
            x = activation(linear(x, layer["kernel"]) + layer["bias"][None])
        return linear(x, head["kernel"]) + head["bias"][None]

    return Model(init, apply)
