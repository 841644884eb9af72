"""Functions without what they close over, for rules of differentiation of our own."""

from collections.abc import Callable

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from metajax._autodiff.rules import unknown_rule
from metajax.types import Array, Params


def traced_inputs(
    fun: Callable[..., Array], params: Params, args: tuple
) -> tuple[Callable[[Params, list], Array], list, str | None]:
    """`fun(params, *args)` as a function of the parameters and of all that is traced.

    As `jax.closure_convert`, which keeps all it has ever traced in a cache of thousands
    that nothing frees, not even the end of `fun`, and takes up floats alone.

    Args:
      fun: the function, which may close over anything.
      params: its first argument.
      args: the others.

    Returns:
      `closed(params, inputs)`; those inputs, the values of an outer
      transformation in `args` and in what `fun` closes over, of any dtype; and an
      operation whose derivative is not known, if there is one.
    """
    leaves, treedef = jax.tree.flatten(args)
    own = [x for x in leaves if isinstance(x, Tracer)]

    def of_own(params: Params, own: list) -> Array:
        now = iter(own)
        # What has a value keeps it, for a loss that looks at its labels.
        merged = [next(now) if isinstance(x, Tracer) else x for x in leaves]
        return fun(params, *jax.tree.unflatten(treedef, merged))

    traced, shape = jax.make_jaxpr(of_own, return_shape=True)(params, own)
    if getattr(shape, "shape", None) != ():
        raise TypeError(
            f"the gradient is of a scalar, got a function that returns {shape}"
        )
    free = [isinstance(x, Tracer) for x in traced.consts]

    def closed(params: Params, inputs: list) -> Array:
        lifted = iter(inputs[len(own) :])
        consts = [next(lifted) if f else x for f, x in zip(free, traced.consts)]
        run = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))
        return run(*jax.tree.leaves(params), *inputs[: len(own)])[0]

    lifted = [x for f, x in zip(free, traced.consts) if f]
    return closed, [*own, *lifted], unknown_rule(traced.jaxpr)
