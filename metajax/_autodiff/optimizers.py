"""The arguments of an optimizer's update, and which optimizers are refused."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._autodiff.finite import finite, obstacle
from metajax.errors import InputError
from metajax.types import Array, Params

# Keywords of optax, tried in this order if an update accepts any: `chain` passes each
# to all its parts, some of which refuse unknown ones.
KEYWORDS = (
    ("value", "grad", "value_fn", "grad_fn", "obj_fn"),
    ("value", "grad", "value_fn"),
    ("grad_fn",),
    (),
)


class Offers(NamedTuple):
    """The arguments that an update may take beside gradient, state and parameters.

    Attributes:
      loss: the shape and dtype of the loss.
      value: computes the loss at the parameters; it is called only if it is used.
      functions: functions of the parameters, by their keyword in optax.
    """

    loss: jax.ShapeDtypeStruct
    value: Callable[[], Array]
    functions: dict[str, Callable[..., Any]]


def served(
    optimizer: optax.GradientTransformation,
) -> Callable[[Params, Any, Params, Offers], tuple[Params, Any]]:
    """`optimizer.update` with the keywords that it takes and with finite derivatives.

    Args:
      optimizer: any optimizer of optax.

    Returns:
      `update(grads, state, params, offers) -> (updates, state)`.

    Raises:
      InputError: when `update` is traced, if the optimizer needs other arguments or
        changes the form of parameters or state; from the derivative, if it has none.
    """

    def update(grads: Params, state: Any, params: Params, offers: Offers):
        def call(grads: Params, state: Any, params: Params, value: Array):
            keywords = {"value": value, "grad": grads, **offers.functions}
            return call_update(optimizer, (grads, state, params), keywords)

        trace = jax.make_jaxpr(call, return_shape=True)
        closed, shape = trace(grads, state, params, offers.loss)
        _check_form(optimizer, (params, state), shape)
        is_used = _is_used(closed.jaxpr, closed.jaxpr.invars[-1])
        value = offers.value() if is_used else 0
        run = finite(closed)
        if why := obstacle(closed):
            run = _not_differentiable(run, _refusal(optimizer, why))
        leaves = run(*jax.tree.leaves((grads, state, params)), value)
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return update


def _not_differentiable(run: Callable[..., Any], error: InputError) -> Callable:
    """A function that raises an error when it is differentiated."""
    function = jax.custom_jvp(run)

    @function.defjvp
    def refuse(primals: tuple, tangents: tuple):
        raise error

    return function


def _is_used(jaxpr: Any, x: Any) -> bool:
    reads = [jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)]
    return any(x is y for read in reads for y in read)


def call_update(
    optimizer: optax.GradientTransformation, args: tuple, keywords: Mapping[str, Any]
) -> tuple[Params, Any]:
    """Calls `optimizer.update` with `args` and the keywords that it accepts.

    Args:
      optimizer: any optimizer of optax.
      args: gradient, state and parameters.
      keywords: further arguments by their keywords.

    Returns:
      The updates and the new state.

    Raises:
      InputError: if the optimizer raises an error with any of `KEYWORDS`.
    """
    first = None
    for names in _attempts(optimizer, set(keywords)):
        try:
            return optimizer.update(*args, **{name: keywords[name] for name in names})
        except InputError:
            raise
        except TypeError as error:  # Python's own error for an unknown keyword
            first = first or error
        except Exception as error:  # it is not our code
            first = error
            break
    raise _refusal(
        optimizer,
        f"its update raises {type(first).__name__}: {' '.join(str(first).split())}; it "
        f"can take only the gradient, the parameters, {', '.join(keywords)}",
    ) from first


def _attempts(
    optimizer: optax.GradientTransformation, offered: set[str]
) -> list[tuple[str, ...]]:
    """Sets of keywords to try: those that it names, or `KEYWORDS` if it takes any."""
    parameters = inspect.signature(optimizer.update).parameters
    plain = isinstance(optimizer, optax.GradientTransformation) and not isinstance(
        optimizer, optax.GradientTransformationExtraArgs
    )
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if plain or not any_keyword:
        return [
            tuple(name for name in KEYWORDS[0] if name in offered & set(parameters))
        ]
    tries = [tuple(n for n in names if n in offered) for names in KEYWORDS]
    return list(dict.fromkeys(tries))


def _check_form(optimizer: optax.GradientTransformation, old: Any, new: Any) -> None:
    """Checks that a scan can carry what an optimizer returns."""
    for name, before, after in zip(("parameters", "state"), old, new):
        if jax.tree.structure(before) != jax.tree.structure(after):
            raise _refusal(optimizer, f"it changes the structure of its {name}")
        leaves = list(zip(*map(jax.tree.leaves, (before, after))))
        if any(jnp.shape(x) != y.shape for x, y in leaves):
            raise _refusal(optimizer, f"it changes a shape of its {name}")
    for x, y in leaves:  # the state's; updates are cast to the parameters' dtypes
        if x.dtype != y.dtype and not jax.typeof(x).weak_type:
            raise _refusal(optimizer, f"it changes {x.dtype} in its state to {y.dtype}")


def _refusal(optimizer: optax.GradientTransformation, why: str) -> InputError:
    named = ", ".join(dict.fromkeys(_names(optimizer.update, set())))
    return InputError(f"optimizer ({named}) cannot be used: {why}")


def _names(x: Any, seen: set[int]) -> Iterator[str]:
    """The factories that made a transformation, the outermost first."""
    if id(x) in seen:
        return
    seen.add(id(x))
    inside = x if isinstance(x, (tuple, list)) else ()
    if isinstance(x, dict):
        inside = x.values()
    elif inspect.ismethod(x):
        inside = (x.__func__, *vars(x.__self__).values())
    elif inspect.isfunction(x):
        if "." in x.__qualname__:  # a factory or a class made it
            yield x.__qualname__.split(".")[0]
        inside = inspect.getclosurevars(x).nonlocals.values()
    for y in inside:
        yield from _names(y, seen)
