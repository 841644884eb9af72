"""Equinox's modules as `Model`s."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._pytrees.constant import Constant, is_constant
from metajax.errors import InputError
from metajax.models._passes import (
    STATE_MEND,
    Passes,
    examine,
    is_key,
    model_of,
)
from metajax.models._reads import once_per_shape
from metajax.models._statics import check_statics
from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree

KEEPS_STATE = (
    "has a state that its call takes and returns, and a metajax network keeps none "
    f"from call to call; {STATE_MEND}"
)


def from_equinox(build: Callable[[Array], Any]) -> Model:
    """An Equinox module as a `Model`.

    Its inexact arrays are learnt. `init` draws its other arrays, and any that it holds
    as a `metajax.Constant`: each is a `metajax.Constant`, which nothing changes. The
    module takes one example, as Equinox's do, and is vmapped over the batch.

    A module that draws random numbers, as `eqx.nn.Dropout` does, takes a key for each
    example, and needs inputs with keys in training; see `metajax.data.keyed`. Its
    predictions are those of `eqx.nn.inference_mode(module)`.

    Args:
      build: `build(key) -> module`, called as `module(example)`, or as
        `module(example, key=key)` if it takes a key.

    Returns:
      A `Model`.

    Raises:
      InputError: if the module keeps a state (`eqx.nn.BatchNorm`) or a PRNG key, or if
        another attribute than an array depends on the key of `build`; from its first
        call, if it draws random numbers in predictions.

    >>> import equinox as eqx, jax.numpy as jnp
    >>> model = from_equinox(lambda key: eqx.nn.Linear(2, 3, key=key))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    import equinox as eqx

    example = _example(build)
    template, static = eqx.partition(example, _is_array, is_leaf=is_constant)

    def init(key: Array) -> Params:
        arrays, _ = eqx.partition(build(key), _is_array, is_leaf=is_constant)
        return jax.tree.map(_wrapped, arrays, is_leaf=is_constant)

    def module(params: Params) -> Any:
        arrays = jax.tree.map(_unwrapped, template, params, is_leaf=is_constant)
        return eqx.combine(arrays, static, is_leaf=is_constant)

    if (key := _parameters(example).get("key")) is None:
        plain = Model(init, lambda params, x: _mapped(module(params), None, x))
        return exact_by_default(plain)

    passes = _passes(module, key_is_required=key.default is not None)
    examined = once_per_shape(partial(examine, passes))

    def draws(params: Params, x: PyTree) -> bool:
        return examined((), params, _keys(x), x).draws

    return model_of(init, passes, lambda params: ((), params), draws)


def _passes(module: Callable[[Params], Any], *, key_is_required: bool) -> Passes:
    """The passes of `module(params)`, which takes a key, or may take None."""
    import equinox as eqx

    def available(keys: Array | None, x: PyTree) -> Array | None:
        # Nothing is drawn where there are no keys; some modules ask for one still.
        return _keys(x) if keys is None and key_is_required else keys

    def training(state: PyTree, params: Params, keys: Array | None, x: PyTree):
        return _mapped(module(params), available(keys, x), x), state

    def predicting(state: PyTree, params: Params, keys: Array | None, x: PyTree):
        keys = available(keys, x) if key_is_required else None
        return _mapped(eqx.nn.inference_mode(module(params)), keys, x), state

    return Passes(
        training,
        predicting,
        layer=str,
        running=bool,
        mend="let it draw nothing where its attribute `inference` is True, as "
        "eqx.nn.Dropout does",
    )


def _example(build: Callable[[Array], Any]) -> Any:
    """A module of `build`, checked."""
    module = build(jax.random.key(0))
    _check_stateless(module)
    other = build(jax.random.key(1))
    mend = "jnp.asarray(...), or metajax.Constant(...)"
    check_statics(module, other, _is_array, mend=mend)
    return module


def _mapped(module: Any, keys: Array | None, x: PyTree) -> PyTree:
    """The module of each example, with a key for each if there are some."""
    if keys is None:
        return jax.vmap(module)(x)
    return jax.vmap(lambda key, x: module(x, key=key))(keys, x)


def _keys(x: PyTree) -> Array:
    return jax.random.split(jax.random.key(0), len(jax.tree.leaves(x)[0]))


def _is_array(x: Any) -> bool:
    import equinox as eqx

    return is_constant(x) or eqx.is_array(x) or eqx.is_inexact_array(x) or _is_numpy(x)


def _is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _is_learnt(x: Any) -> bool:
    import equinox as eqx

    return not is_constant(x) and eqx.is_inexact_array(x)


def _wrapped(x: Any) -> Any:
    return x if is_constant(x) or _is_learnt(x) else Constant(jnp.asarray(x))


def _unwrapped(template: Any, x: Any) -> Any:
    """What the module itself has where its example has `template`."""
    return x if is_constant(template) or _is_learnt(template) else x.value


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module).parameters


def _check_stateless(module: Any) -> None:
    for path, leaf in jax.tree.leaves_with_path(module, is_leaf=_is_index):
        if _is_index(leaf):
            raise InputError(f"{_layer(module, path[:-1])} {KEEPS_STATE}")
        if is_key(leaf):
            raise InputError(
                f"{_layer(module, path[:-1])} holds a PRNG key; take one in the call, "
                "key=..., or keep jax.random.key_data of it"
            )
    if isinstance(module, tuple):
        raise InputError(f"build must return a module alone, got {len(module)} values")
    state = _parameters(module).get("state")
    if state is not None and state.default is inspect.Parameter.empty:
        raise InputError(f"{_layer(module, ())} {KEEPS_STATE}")


def _layer(module: Any, path: tuple) -> str:
    """The layer at a path, in words."""
    for part in path:
        if isinstance(part, jax.tree_util.GetAttrKey):
            module = getattr(module, part.name)
        else:
            module = module[getattr(part, "idx", getattr(part, "key", None))]
    return f"layer {jax.tree_util.keystr(path) or 'itself'} ({type(module).__name__})"


def _is_index(x: Any) -> bool:
    import equinox as eqx

    return isinstance(x, eqx.nn.StateIndex)
