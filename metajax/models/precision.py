"""Models computed in fewer bits than their parameters have."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Model, Params, PyTree

Precision = Literal["float32", "tensorfloat32", "bfloat16"]


def in_precision(model: Model, precision: Precision) -> Model:
    """`model` with its outputs, and all their derivatives, computed in `precision`.

    Parameters, their gradients and their updates keep their type, and sums are taken in
    float32. What it costs in accuracy is in `benchmarks/README.md`.

    Args:
      model: the network.
      precision: "float32" for exact products, which `metajax`'s own models and adapters
        have anyhow; "tensorfloat32" for products whose factors are rounded to 10 bits,
        where the hardware has them (a CPU has not, and computes in float32); "bfloat16"
        to compute in bfloat16, of 7 bits.

    Returns:
      A `Model` of the same parameters.

    Raises:
      InputError: for another precision.

    >>> from metajax import mlp
    >>> model = in_precision(mlp(2, (16,), 3), "bfloat16")
    >>> params = model.init(jax.random.key(0))
    >>> params[0]["kernel"].dtype, model.apply(params, jnp.zeros((7, 2))).dtype
    (dtype('float32'), dtype('float32'))

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """
    if precision not in get_args(Precision):
        raise InputError(
            f"precision must be one of {', '.join(get_args(Precision))}, got "
            f"{precision!r}"
        )
    if precision == "bfloat16":
        return _computed_in(jnp.bfloat16, model)
    return _multiplied_in(precision, model)


def exact_by_default(model: Model) -> Model:
    """`model` with exact products, unless JAX's setting says otherwise."""

    def apply(params: Params, inputs: PyTree) -> PyTree:
        return _multiplied_in(matmul_precision(), model).apply(params, inputs)

    return model._replace(apply=apply)


def _multiplied_in(precision: str, model: Model) -> Model:
    def apply(params: Params, inputs: PyTree) -> PyTree:
        with jax.default_matmul_precision(precision):
            return model.apply(params, inputs)

    return model._replace(apply=apply)


def _computed_in(dtype: jnp.dtype | type, model: Model) -> Model:
    def cast(x):
        x = jnp.asarray(x)
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def apply(params: Params, inputs: PyTree) -> PyTree:
        outputs = model.apply(*jax.tree.map(cast, (params, inputs)))
        return jax.tree.map(lambda x: x.astype(wider(x.dtype)), outputs)

    return model._replace(apply=apply)
