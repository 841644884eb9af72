"""Flax NNX's modules as `Model`s."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from metajax._pytrees.constant import Constant, values
from metajax.errors import InputError
from metajax.models._passes import (
    STATE_MEND,
    Call,
    Passes,
    examine,
    is_key,
    model_of,
)
from metajax.models._reads import once_per_shape
from metajax.models._statics import check_statics
from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree


def from_nnx(build: Callable[[Any], Any]) -> Model:
    """A Flax NNX module as a `Model`.

    Only `nnx.Param`s are learnt. `init` draws the other variables: each is a
    `metajax.Constant`, which nothing changes. What a call updates and does not read
    (the running statistics of batch norm that normalises by the current batch) is
    dropped.

    A module that draws random numbers, as `nnx.Dropout` does, needs inputs with keys in
    training; see `metajax.data.keyed`. Its predictions are those of the module with
    `deterministic=True`.

    Args:
      build: `build(rngs) -> module`, called as `module(inputs)`.

    Returns:
      A `Model`.

    Raises:
      InputError: if the module normalises by running statistics, or if another
        attribute than an array depends on the key of `build`; from its first call, if
        it reads what its call changes, or draws random numbers in predictions.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> model = from_nnx(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    example = _example(build)
    _, streams, statistics, others = _states(example)

    def init(key: Array) -> Params:
        params, _, _, others = _states(_built(build, key))
        return _merged(params, jax.tree.map(Constant, others))

    if not jax.tree.leaves((streams, statistics, others)):
        plain = _call(example, {})
        return exact_by_default(
            Model(init, lambda params, x: plain(((), ()), params, None, x)[0])
        )

    passes = Passes(
        _call(example, {}),
        _call(example, {"deterministic": True} if streams else {}),
        layer=partial(_layer, example),
        running=lambda path: path[0].idx == 0,
        mend="give the layer that draws an attribute `deterministic`, as nnx.Dropout "
        "has it, and let it draw nothing where that is True",
    )
    examined = once_per_shape(partial(examine, passes))

    def split(params: Params) -> tuple[PyTree, Params]:
        return (statistics, _only(others, params)), _without(others, params)

    def draws(params: Params, x: PyTree) -> bool:
        return examined(*split(params), jax.random.key(0)[None], x).draws

    model = model_of(init, passes, split, draws)
    return model if streams else model._replace(inference=None)


def _built(build: Callable[[Any], Any], key: Array) -> Any:
    from flax import nnx

    return build(nnx.Rngs(key))


def _example(build: Callable[[Any], Any]) -> Any:
    """A module of `build`, checked."""
    example, other = (_built(build, jax.random.key(seed)) for seed in range(2))
    _check_running(example)
    mend = "an nnx.Param, or jnp.asarray(...)"
    check_statics(example, other, _is_drawn, mend=mend)
    return example


def _kinds() -> tuple[Any, ...]:
    from flax import nnx

    return nnx.Param, nnx.RngState, nnx.BatchStat, ...


def _is_drawn(x: Any) -> bool:
    from flax import nnx

    return isinstance(x, nnx.Variable | jax.Array | np.ndarray)


def _states(module: Any) -> Any:
    """Parameters, random streams, running statistics and the other variables."""
    from flax import nnx

    _, *states = nnx.split(module, *_kinds())
    return tuple(map(nnx.to_pure_dict, states))


def _call(example: Any, settings: dict[str, bool]) -> Call:
    """A module as a function of all it depends on, with some attributes set."""
    from flax import nnx

    graph, _, streams, *_ = nnx.split(example, *_kinds())
    streams = nnx.to_pure_dict(streams)  # pyright: ignore (a state)

    def call(state: PyTree, params: Params, keys: Array | None, x: PyTree):
        drawn = streams if keys is None else _streams(streams, keys[0])
        parts = [part for part in (params, drawn, *state) if part]
        module = nnx.merge(graph, *parts)
        module.set_attributes(**settings, raise_if_not_found=False)
        outputs = module(x)
        return outputs, _states(module)[2:]

    return call


def _streams(streams: PyTree, key: Array) -> PyTree:
    """Random streams, each with a key of its own that follows from one."""
    leaves, structure = jax.tree.flatten(streams)
    own = [
        jax.random.split(jax.random.fold_in(key, i), x.shape) if is_key(x) else x
        for i, x in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, own)


def _merged(tree: dict, other: dict) -> dict:
    """Nested dictionaries, joined."""
    both = {k: _merged(tree[k], other[k]) for k in tree.keys() & other.keys()}
    return {**tree, **other, **both}


def _only(pattern: dict, tree: dict) -> dict:
    """Of nested dictionaries, the values where another has some."""
    return {
        k: _only(v, tree[k]) if isinstance(v, dict) else values(tree[k])
        for k, v in pattern.items()
    }


def _without(pattern: Any, tree: Any) -> Any:
    """Of nested dictionaries, the values where another has none."""
    if not isinstance(pattern, dict):
        return tree
    return {
        k: _without(pattern.get(k), v)
        for k, v in tree.items()
        if k not in pattern or isinstance(pattern[k], dict)
    }


def _check_running(module: Any) -> None:
    """Checks that no layer is to normalise by its running statistics."""
    from flax import nnx

    for path, node in nnx.iter_graph(module):
        running = getattr(node, "use_running_average", False)
        if isinstance(node, nnx.Module) and running is True:
            raise InputError(
                f"layer {_dotted(path)} ({type(node).__name__}) has "
                f"use_running_average=True, statistics that no meta-step updates; "
                f"{STATE_MEND}"
            )


def _layer(module: Any, path: tuple) -> str:
    """The layer of a variable, whose path starts with which state it is of."""
    from flax import nnx

    node, place, owner = module, [], (module, [])
    for part in (part.key for part in path[1:-1]):
        node = node[part] if isinstance(node, dict | nnx.List) else getattr(node, part)
        place = [*place, part]
        owner = (node, place) if isinstance(node, nnx.Module) else owner
    return f"layer {_dotted(owner[1])} ({type(owner[0]).__name__})"


def _dotted(path: Any) -> str:
    return ".".join(map(str, path)) or "itself"
