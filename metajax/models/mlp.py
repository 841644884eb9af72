"""A multilayer perceptron."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count
from metajax.models.dense import dense
from metajax.models.headed import headed
from metajax.models.initialise import init_each
from metajax.types import Array, Model, Params, PyTree, unpadded


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
      activation: act, between the layers.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, inputs]` to `[n, outputs]`; the head is
      the last layer.

    Raises:
      InputError: for a width below 1.

    >>> model = mlp(2, (16,), 3)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
    """
    widths = [check_count("a width", w, least=1) for w in (inputs, *hidden)]
    layers = [dense(n, m, dtype=dtype) for n, m in pairwise(widths)]

    def apply(params: Params, inputs: PyTree) -> Array:
        x, _ = unpadded(inputs)
        for block, (layer, weights) in enumerate(zip(layers, params)):
            x = activation(layer.apply(weights, x))
            x = checkpoint_name(x, f"block{block}")
        return x

    body = Model(partial(init_each, layers), apply)
    return headed(body, dense(widths[-1], outputs, dtype=dtype))
