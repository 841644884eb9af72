"""A network of sines, which represents a signal by its weights."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.models.dense import dense
from metajax.models.headed import headed
from metajax.models.initialise import init_each
from metajax.models.per_example import per_example
from metajax.types import Array, Model, Params


def siren(
    inputs: int = 2,
    hidden: Sequence[int] = (64, 64, 64),
    outputs: int = 1,
    *,
    omega: float = 30.0,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Linear layers with a sine after each but the last: a coordinate network.

      h_0 = x,  h_{i+1} = sin(ω (h_i W_i + b_i)),  outputs = h_n W_n + b_n
      W_0 ~ U(±1/m),  W_i ~ U(±√(6/m)/ω),  b_i ~ U(±1/√m)

    where m is the number of a layer's inputs. So each layer's sum, times ω, has a
    standard deviation of about 1, whatever the depth. Biases are as in the authors'
    code. The arguments of sines are too large for bfloat16 (`metajax.in_precision`):
    outputs are then off by several per cent.

    Args:
      inputs: the number of coordinates.
      hidden: the widths of the hidden layers, at least one.
      outputs: the number of values at a point.
      omega: ω, the factor of each sine's argument, for coordinates in [-1, 1].
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, inputs]` to `[n, outputs]`; the head is
      the last layer.

    Raises:
      InputError: for a width below 1, no hidden layer, or an `omega` that is not
        positive.

    >>> model = siren(2, (16, 16), 3)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)

    Source: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions", NeurIPS 2020, section 3.2 and supplement 1.5.
    """
    check_count("the number of hidden layers", len(hidden), least=1)
    widths = [check_count("a width", w, least=1) for w in (inputs, *hidden)]
    omega = float(check_positive("omega", omega))
    bounds = [1 / inputs, *(math.sqrt(6 / m) / omega for m in widths[1:])]
    *layers, head = (
        _layer(m, n, bound, dtype)
        for (m, n), bound in zip(pairwise((*widths, outputs)), bounds)
    )

    def apply(params: Params, x: Array) -> Array:
        for layer, weights in zip(layers, params):
            x = jnp.sin(omega * layer.apply(weights, x))
        return x

    return headed(per_example(Model(partial(init_each, layers), apply)), head)


def _layer(inputs: int, outputs: int, bound: float, dtype: jnp.dtype | type) -> Model:
    """A linear layer of weights up to `bound`, and PyTorch's biases."""
    layer = dense(inputs, outputs, initializer=_uniform(bound), dtype=dtype)
    draw_bias = _uniform(1 / math.sqrt(inputs))

    def init(key: Array) -> Params:
        kernel_key, bias_key = jax.random.split(key)
        bias = draw_bias(bias_key, (outputs,), dtype)
        return layer.init(kernel_key) | {"bias": bias}

    return layer._replace(init=init)


def _uniform(bound: float) -> Callable[..., Array]:
    """Draws uniform numbers in (-bound, bound)."""
    return partial(jax.random.uniform, minval=-bound, maxval=bound)
