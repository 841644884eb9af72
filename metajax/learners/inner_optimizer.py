"""Meta-learned inner optimizers, whose own parameters are meta-parameters."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.types import Array, Params, PyTree


class InnerOptimizer(NamedTuple):
    """An optax optimizer with parameters to learn.

    Attributes:
      init: `init(key, params) -> rule`, the parameters to learn: any pytree.
      build: `build(rule) -> optimizer`.
    """

    init: Callable[[Array, Params], PyTree]
    build: Callable[[PyTree], optax.GradientTransformation]


def fixed(optimizer: optax.GradientTransformation) -> InnerOptimizer:
    """An optimizer with nothing to learn.

    Args:
      optimizer: the optimizer.

    Returns:
      An `InnerOptimizer`.
    """
    return InnerOptimizer(lambda key, params: (), lambda rule: optimizer)


def parameter_rates(rate: float) -> InnerOptimizer:
    """Gradient descent with a learnt rate for each parameter, u = -α ∘ g.

    Args:
      rate: where every rate starts.

    Returns:
      An `InnerOptimizer` whose rule is α, of the structure of the parameters.

    Raises:
      InputError: if `rate` is not finite.

    Source: Li et al., "Meta-SGD", 2017.
    """
    _check_rate(rate)

    def init(key: Array, params: Params) -> PyTree:
        return jax.tree.map(lambda x: jnp.full_like(x, rate), params)

    def build(rates: PyTree) -> optax.GradientTransformation:
        return optax.stateless(
            lambda grads, _: jax.tree.map(lambda a, g: -a * g, rates, grads)
        )

    return InnerOptimizer(init, build)


def step_rates(rate: float, steps: int) -> InnerOptimizer:
    """Gradient descent with a learnt rate for each array and step, u_k = -α_k g.

    Steps after the last of `steps` have its rate.

    Args:
      rate: where every rate starts.
      steps: the number of steps with their own rates, at least 1.

    Returns:
      An `InnerOptimizer` whose rule has an α of shape `[steps]` for each array.

    Raises:
      InputError: if `rate` is not finite, or `steps` is below 1.

    Source: Antoniou et al., "How to Train Your MAML", ICLR 2019, section 4 (LSLR).
    """
    _check_rate(rate)
    check_count("steps", steps, least=1)

    def init(key: Array, params: Params) -> PyTree:
        return jax.tree.map(lambda x: jnp.full((steps,), rate, x.dtype), params)

    def build(rates: PyTree) -> optax.GradientTransformation:
        def start(params: Params) -> Array:
            return jnp.array(0)

        def update(updates: Params, state: Any, params: Params | None = None):
            def descend(a: Array, g: Array) -> Array:
                return -a[jnp.minimum(state, len(a) - 1)] * g

            return jax.tree.map(descend, rates, updates), state + 1

        return optax.GradientTransformation(start, update)

    return InnerOptimizer(init, build)


def curvature(rate: float) -> InnerOptimizer:
    """Gradient descent through a learnt matrix along each axis of each array.

      u = -α G ×₁ M_f ×₂ M_i ×₃ M_o

    for a kernel G of window positions f, inputs i and outputs o; a matrix has the last
    two axes, a vector the last one. Each M starts as an identity.

    Args:
      rate: α, which is constant.

    Returns:
      An `InnerOptimizer` whose rule has a list of matrices M for each array.

    Raises:
      InputError: if `rate` is not finite.

    Source: Park & Oliva, "Meta-Curvature", NeurIPS 2019.
    """
    _check_rate(rate)

    def modes(shape: tuple[int, ...]) -> tuple[int, ...]:
        *window, inputs, outputs = (1, 1, *shape)
        return math.prod(window), inputs, outputs

    def init(key: Array, params: Params) -> PyTree:
        return jax.tree.map(
            lambda x: [jnp.eye(n, dtype=x.dtype) for n in modes(x.shape)], params
        )

    def build(matrices: PyTree) -> optax.GradientTransformation:
        def descend(g: Array, along: list[Array]) -> Array:
            m = g.reshape(modes(g.shape))
            m = jnp.einsum("fio,af,bi,co->abc", m, *along, precision="highest")
            return -rate * m.reshape(g.shape)

        return optax.stateless(lambda grads, _: jax.tree.map(descend, grads, matrices))

    return InnerOptimizer(init, build)


def check_inner(inner: InnerOptimizer) -> None:
    """Checks that `inner` is an `InnerOptimizer`.

    Raises:
      InputError: if it is something else, such as an optimizer of optax.
    """
    if not isinstance(inner, InnerOptimizer):
        raise InputError(
            f"inner must be a metajax.learners.InnerOptimizer, got "
            f"{type(inner).__name__}; metajax.learners.fixed(optimizer) makes one from "
            "an optimizer of optax"
        )


def _check_rate(rate: float) -> None:
    if not math.isfinite(rate):
        raise InputError(f"rate must be a finite number, got {rate!r}")
