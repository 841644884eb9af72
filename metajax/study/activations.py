"""The named values inside a network."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from metajax.types import Array, PyTree

Activations = Callable[[PyTree, PyTree], Mapping[str, Array]]
NAME = "name"  # the primitive of `jax.ad_checkpoint.checkpoint_name`


def activations(apply: Callable[[PyTree, PyTree], PyTree]) -> Activations:
    """The values that a network named with `jax.ad_checkpoint.checkpoint_name`.

    `metajax.conv4` and `metajax.mlp` name what comes out of each block, `block0` and so
    on; another network does so by `x = checkpoint_name(x, "block0")`, which costs
    nothing. Names inside `jax.checkpoint` are not seen.

    Args:
      apply: `apply(params, inputs) -> outputs`, such as a learner's `predict`.

    Returns:
      `named(params, inputs) -> {name: value}`, in the order of computation, `outputs`
      last. A name that comes again is `block0 (2)`, as where a network has networks.

    >>> import metajax as mj
    >>> model = mj.mlp()
    >>> params = model.init(jax.random.key(0))
    >>> result = activations(model.apply)(params, jax.numpy.zeros((7, 1)))
    >>> {name: value.shape for name, value in result.items()}
    {'block0': (7, 40), 'block1': (7, 40), 'outputs': (7, 1)}
    """

    def named(params: PyTree, inputs: PyTree) -> Mapping[str, Array]:
        with jax.disable_jit():  # what is jitted inside is then traced as part of it
            closed = jax.make_jaxpr(apply)(params, inputs)
        jaxpr, places = closed.jaxpr, {}
        for equation in jaxpr.eqns:
            if equation.primitive.name == NAME:
                _keep(places, equation.params["name"], equation.outvars[0])
        _keep(places, "outputs", jaxpr.outvars[0])
        wanted = ClosedJaxpr(
            jaxpr.replace(outvars=list(places.values())), closed.consts
        )
        values = jaxpr_as_fun(wanted)(*jax.tree.leaves((params, inputs)))
        return dict(zip(places, values))

    return named


def _keep(result: dict[str, Any], name: str, variable: Any) -> None:
    place, count = name, 1
    while place in result:
        count += 1
        place = f"{name} ({count})"
    result[place] = variable
