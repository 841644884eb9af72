"""Models computed with fewer bits than their parameters have."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from metajax.checks import check_one_of
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Model, Params, PyTree, keep

Apply = Callable[[Params, PyTree], PyTree]
Precision = Literal["float32", "tensorfloat32", "bfloat16"]


def in_precision(model: Model, precision: Precision) -> Model:
    """`model` with its outputs, and all their derivatives, computed in `precision`.

    Parameters, their gradients and their updates keep their type, and sums are taken in
    float32. `benchmarks/README.md` has the loss of accuracy.

    Args:
      model: the network.
      precision: "float32", exact products, the default of all models of `metajax`;
        "tensorfloat32", products of factors rounded to 10 bits, on hardware that has
        them (a CPU computes in float32); "bfloat16", everything in 7 bits.

    Returns:
      A `Model` of the same parameters.

    Raises:
      InputError: for another precision.

    >>> from metajax import mlp
    >>> model = in_precision(mlp(2, (16,), 3), "bfloat16")
    >>> params = model.init(jax.random.key(0))
    >>> params["head"]["kernel"].dtype, model.apply(params, jnp.zeros((7, 2))).dtype
    (dtype('float32'), dtype('float32'))

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """
    check_one_of("precision", precision, get_args(Precision))
    if precision == "bfloat16":
        return _wrapped(model, partial(_computed_in, jnp.bfloat16))
    return _wrapped(model, partial(_multiplied_in, lambda: precision))


def exact_by_default(model: Model) -> Model:
    """`model` with exact products, unless JAX's setting says otherwise."""
    return _wrapped(model, partial(_multiplied_in, matmul_precision))


def _wrapped(model: Model, wrap: Callable[[Apply], Apply]) -> Model:
    """A model and its parts, with what each computes wrapped."""
    settle = model.settle if model.settle is keep else wrap(model.settle)
    inference = model.inference and wrap(model.inference)
    whole = model._replace(apply=wrap(model.apply), settle=settle, inference=inference)
    if model.parts is None:
        return whole
    body, head = model.parts
    return whole._replace(parts=(_wrapped(body, wrap), _wrapped(head, wrap)))


def _multiplied_in(precision: Callable[[], str], apply: Apply) -> Apply:
    def run(params: Params, inputs: PyTree) -> PyTree:
        with jax.default_matmul_precision(precision()):
            return apply(params, inputs)

    return run


def _computed_in(dtype: jnp.dtype | type, apply: Apply) -> Apply:
    def cast(x):
        x = jnp.asarray(x)
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def run(params: Params, inputs: PyTree) -> PyTree:
        outputs = apply(*jax.tree.map(cast, (params, inputs)))
        return jax.tree.map(lambda x: x.astype(wider(x.dtype)), outputs)

    return run
