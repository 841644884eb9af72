"""Flax Linen's modules as `Model`s."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax

from metajax._pytrees.constant import Constant
from metajax.errors import InputError
from metajax.models._passes import Call, Examined, Passes, examine, model_of
from metajax.types import Array, Model, Params, PyTree

Run = Callable[[dict[str, Array]], Any]  # of random streams, by name
_TRACED_ANEW = jax.make_user_context()  # nn.jit calls nothing that it knows
NO_ARGUMENTS: Mapping[str, Any] = {}


def from_linen(
    module: Any,
    inputs: PyTree,
    *,
    training: Mapping[str, Any] = NO_ARGUMENTS,
    predicting: Mapping[str, Any] | None = None,
) -> Model:
    """A Flax Linen module as a `Model`.

    Only the "params" collection is learnt. `init` draws what the outputs read of other
    collections: each array is a `metajax.Constant`, which nothing changes. What a call
    updates and does not read (the running statistics of batch norm in training mode,
    which normalises by the current batch) is dropped.

    A module that draws random numbers, as `nn.Dropout` does, or where `self.has_rng` is
    true, needs inputs with keys in training; see `metajax.data.keyed`.

    Args:
      module: a `flax.linen.Module` called as `module(inputs)`.
      inputs: an example batch, to shape the parameters.
      training: more arguments of the call in training, by name: `{"train": True}`.
      predicting: those in predictions, the same by default; `{"train": False}` for a
        module that would draw random numbers there.

    Returns:
      A `Model`; its parameters are those of the module, or `{"params": ...,
      "constants": ...}` of one with constants.

    Raises:
      InputError: if the module reads what its call changes, or running statistics; if
        it draws random numbers in predictions; if it draws none in training, and
        `predicting` makes it another function.

    >>> import flax.linen as nn, jax.numpy as jnp
    >>> model = from_linen(nn.Dense(3), jnp.zeros((1, 2)))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """
    settings = training if predicting is None else predicting
    variables = partial(_variables, module, inputs, training)
    state, params = variables(jax.random.key(0))  # the state for what nothing reads
    args = (state, params, jax.random.key(0)[None], inputs)
    passes, (draws, read) = _examined(module, training, settings, args)
    fixed = any(jax.tree.leaves(read))

    def init(key: Array) -> Params:
        state, params = variables(key)
        kept = jax.tree.map(lambda r, x: Constant(x) if r else None, read, state)
        return {"params": params, "constants": kept} if fixed else params

    def split(params: Params) -> tuple[PyTree, Params]:
        if not fixed:
            return state, params
        kept = params["constants"]
        both = jax.tree.map(lambda r, x, c: c.value if r else x, read, state, kept)
        return both, params["params"]

    model = model_of(init, passes, split, lambda params, x: draws)
    return model if draws else model._replace(inference=None)


def _variables(
    module: Any, inputs: PyTree, settings: Mapping[str, Any], key: Array
) -> tuple[PyTree, Params]:
    """A module's other collections, and its parameters."""
    state = dict(module.init(key, inputs, **settings))
    params = state.pop("params", {})
    return state, params


def _examined(
    module: Any, training: Mapping[str, Any], predicting: Mapping[str, Any], args: tuple
) -> tuple[Passes, Examined]:
    """The module's passes, checked by an example of their arguments."""
    classes: dict[tuple[str, ...], str] = {}
    passes = Passes(
        _call(module, training, _looked_up, args),
        _call(module, predicting, _needed, args),
        layer=lambda path: _layer(classes, path),
        running=lambda path: path[0].key == "batch_stats",
        mend='say how it is called: training={"train": True}, predicting={"train": '
        "False}, by the names of its own arguments, or let it draw only where "
        "self.has_rng(...)",
    )
    with _noting(lambda each: _note_class(each, classes)):
        examined = examine(passes, *args)
    if not examined.draws and predicting is not training:
        _check_same(passes, args)
    return passes, examined


def _call(
    module: Any, settings: Mapping[str, Any], choose: Callable[[Run], list[str]], args
) -> Call:
    """The module as a function of all it depends on, with the streams `choose(run)`.

    `args` are an example of its arguments.
    """
    state, params, _, x = args

    def run(rngs: dict[str, Array], state: PyTree, params: Params, x: PyTree):
        variables = {"params": params, **state}
        return module.apply(variables, x, rngs=rngs, mutable=[*state], **settings)

    # A function of its own each time: JAX would not trace a known one again.
    streams = choose(
        lambda rngs: jax.eval_shape(lambda rngs: run(rngs, state, params, x), rngs)
    )

    def call(state: PyTree, params: Params, keys: Array | None, x: PyTree):
        # Without keys, nothing is drawn from the streams that are asked for.
        key = jax.random.key(0) if keys is None else keys[0]
        rngs = {s: jax.random.fold_in(key, i) for i, s in enumerate(streams, 1)}
        return run(rngs, state, params, x)

    return call


def _needed(run: Run, known: Iterable[str] = ()) -> list[str]:
    """The random streams of `known`, and those without which a module fails."""
    from flax.errors import InvalidRngError

    names = list(known)
    while True:
        try:
            run({name: jax.random.key(0) for name in names})
        except InvalidRngError as error:
            asked = re.search('PRNG for "([^"]+)"', str(error))
            if asked is None or asked[1] in names:
                raise
            names.append(asked[1])
        else:
            return names


def _looked_up(run: Run) -> list[str]:
    """The random streams that a module needs, or draws from where it has them.

    Not "params" if it is only looked up: a module that has it takes the call for its
    `init`.
    """
    names, looked = [], {}
    while True:  # what is behind one stream may look for another
        with (
            _TRACED_ANEW(object()),
            _noting(lambda module: _note_streams(module, looked)),
        ):
            names = _needed(run, names)
        more = [name for name in looked if name not in [*names, "params"]]
        if not more:
            return names
        names += more


def _note_streams(module: Any, names: dict[str, None]) -> None:
    """Notes the names of the streams that are looked up in a module's scope."""

    class Streams(dict):
        def __contains__(self, name: Any) -> bool:
            names[name] = None
            return super().__contains__(name)

    if module.scope is not None:
        module.scope.rngs = Streams(module.scope.rngs)


def _check_same(passes: Passes, args: tuple) -> None:
    """Checks that both passes of a module that draws nothing are the same function."""
    both = [
        str(jax.make_jaxpr(lambda *args, call=call: call(*args)[0])(*args))
        for call in (passes.training, passes.predicting)
    ]
    if both[0] != both[1]:
        raise InputError(
            "the module draws nothing in training, and predicts by another function "
            "with the arguments of predicting; leave predicting out"
        )


@contextmanager
def _noting(note: Callable[[Any], None]) -> Iterator[None]:
    """Calls `note(module)` before each call of a module."""
    import flax.linen as nn

    def call(method: Callable, args: tuple, settings: dict, context: Any) -> Any:
        note(context.module)
        return method(*args, **settings)

    with nn.intercept_methods(call):
        yield


def _note_class(module: Any, classes: dict[tuple[str, ...], str]) -> None:
    classes[module.path] = type(module).__name__


def _layer(classes: Mapping[tuple[str, ...], str], path: tuple) -> str:
    """The layer of a variable, whose path starts with its collection."""
    place = tuple(str(part.key) for part in path[1:-1])
    kind = classes.get(place, "its module")
    return f"layer {'/'.join(place)} ({kind})" if place else f"the module ({kind})"
