"""Other libraries' modules as `Model`s; each library is imported when it is used.

Their products are exact in float32 unless JAX's setting says otherwise; see
`metajax.in_precision`.
"""

from collections.abc import Callable
from typing import Any

import jax

from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree


def from_linen(module: Any, inputs: PyTree) -> Model:
    """A Flax Linen module as a `Model`.

    Only the "params" collection is learnt. Other collections (batch norm's running
    statistics) start each call from their initial values and their updates are dropped,
    so that a module in training mode normalises by the current batch.

    Args:
      module: a `flax.linen.Module` called as `module(inputs)`.
      inputs: an example batch, to shape the parameters.

    Returns:
      A `Model`.

    >>> import flax.linen as nn, jax.numpy as jnp
    >>> model = from_linen(nn.Dense(3), jnp.zeros((1, 2)))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    others = dict(module.init(jax.random.key(0), inputs))
    others.pop("params", None)

    def init(key: Array) -> Params:
        return module.init(key, inputs)["params"]

    def apply(params: Params, x: PyTree) -> PyTree:
        return module.apply({"params": params, **others}, x, mutable=[*others])[0]

    return exact_by_default(Model(init, apply))


def from_nnx(build: Callable[[Any], Any]) -> Model:
    """A Flax NNX module as a `Model`.

    Only `nnx.Param`s are learnt. Other variables (batch norm's running statistics)
    start each call from their initial values and their updates are dropped.

    Args:
      build: `build(rngs) -> module`, where the module is called as `module(inputs)`.

    Returns:
      A `Model`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> model = from_nnx(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    from flax import nnx

    def split(key: Array) -> tuple:
        return nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)

    graph, _, others = split(jax.random.key(0))

    def init(key: Array) -> Params:
        return nnx.to_pure_dict(split(key)[1])

    def apply(params: Params, x: PyTree) -> PyTree:
        return nnx.merge(graph, params, nnx.to_pure_dict(others))(x)

    return exact_by_default(Model(init, apply))


def from_equinox(build: Callable[[Array], Any]) -> Model:
    """An Equinox module as a `Model`.

    Its inexact arrays are learnt. Equinox modules take one example, so it is vmapped
    over the batch.

    Args:
      build: `build(key) -> module`, where the module is called as `module(example)`.

    Returns:
      A `Model`.

    >>> import equinox as eqx, jax.numpy as jnp
    >>> model = from_equinox(lambda key: eqx.nn.Linear(2, 3, key=key))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    import equinox as eqx

    def split(key: Array) -> tuple:
        return eqx.partition(build(key), eqx.is_inexact_array)

    _, static = split(jax.random.key(0))

    def init(key: Array) -> Params:
        return split(key)[0]

    def apply(params: Params, x: PyTree) -> PyTree:
        return jax.vmap(eqx.combine(params, static))(x)

    return exact_by_default(Model(init, apply))
