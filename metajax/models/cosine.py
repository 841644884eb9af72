"""A linear layer of directions: cosines, at a length for each output."""

import math

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.models.flat import flat_features
from metajax.ops import linear
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, Model, Params, PyTree

MANY, SCALES = 200, (2.0, 10.0)  # outputs, and the scale up to that many and above


def cosine_head(
    inputs: int,
    outputs: int,
    scale: float | None = None,
    *,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Scaled cosines with a direction for each output, whose length is learnt too.

      y_k = s g_k cos(x, v_k)

    Every entry of v_k starts in U(-1, 1) / √inputs, and g_k at |v_k|.

    Args:
      inputs: the number of features.
      outputs: the number of outputs.
      scale: s; by default 2, and 10 for over 200 outputs.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, ...]` of `inputs` features to `[n, outputs]`,
      and whose parameters are `{"kernel": v, "length": g}`.

    Raises:
      InputError: for a number out of range, or when it is applied to other inputs.

    >>> model = cosine_head(12, 3)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2, 6))).shape
    (7, 3)

    Source: Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019, whose
    code has these scales, starts and lengths.
    """
    check_count("inputs", inputs, least=1)
    check_count("outputs", outputs, least=1)
    factor = SCALES[outputs > MANY] if scale is None else check_positive("scale", scale)
    bound = 1 / math.sqrt(inputs)

    def init(key: Array) -> Params:
        kernel = jax.random.uniform(key, (inputs, outputs), dtype, -bound, bound)
        return {"kernel": kernel, "length": jnp.linalg.norm(kernel, axis=0)}

    def apply(params: Params, features: PyTree) -> Array:
        x = flat_features(features, inputs, "cosine layer")
        directions = unit_rows(params["kernel"].T).T
        cosines = linear(unit_rows(x), directions)
        return factor * cosines * params["length"][None]

    return Model(init, apply)


def is_cosine_head(head: Model) -> bool:
    """Whether a head has the parameters of a `cosine_head`.

    Args:
      head: any model.

    Returns:
      Whether it has.

    >>> is_cosine_head(cosine_head(12, 3))
    True
    """
    params = jax.eval_shape(head.init, jax.random.key(0))
    return isinstance(params, dict) and set(params) == {"kernel", "length"}
