"""Functions without closed-over tracers, for our own differentiation rules."""

from collections.abc import Callable

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from metajax._autodiff.rules import unknown_rule
from metajax.types import Array, Params


def traced_inputs(
    fun: Callable[..., Array], params: Params, args: tuple
) -> tuple[Callable[[Params, list], Array], list, str | None]:
    """`fun(params, *args)` as a function of the parameters and of all other tracers.

    `jax.closure_convert` is similar, but it only converts floats and keeps thousands of
    traced functions in a cache that is never freed.

    Args:
      fun: the function, which may close over anything.
      params: its first argument.
      args: its other arguments.

    Returns:
      `closed(params, inputs)`; its inputs, the tracers of any dtype in `args` and in
      what `fun` closes over; and an operation whose derivative is unknown, or None.
    """
    leaves, treedef = jax.tree.flatten(args)
    own = [x for x in leaves if isinstance(x, Tracer)]

    def call(params: Params, own: list) -> Array:
        tracers = iter(own)
        # Concrete values stay so, for a loss that checks its labels.
        merged = [next(tracers) if isinstance(x, Tracer) else x for x in leaves]
        return fun(params, *jax.tree.unflatten(treedef, merged))

    traced, shape = jax.make_jaxpr(call, return_shape=True)(params, own)
    if getattr(shape, "shape", None) != ():
        raise TypeError(
            f"the gradient needs a scalar function, got one that returns {shape}"
        )
    free = [isinstance(x, Tracer) for x in traced.consts]

    def closed(params: Params, inputs: list) -> Array:
        lifted = iter(inputs[len(own) :])
        consts = [next(lifted) if f else x for f, x in zip(free, traced.consts)]
        run = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))
        return run(*jax.tree.leaves(params), *inputs[: len(own)])[0]

    lifted = [x for f, x in zip(free, traced.consts) if f]
    return closed, [*own, *lifted], unknown_rule(traced.jaxpr)
