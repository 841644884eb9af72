"""Distributions of actions, on the outputs of a network."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.ops.masking import expected_log
from metajax.types import Array, Params, PyTree

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


class Head(NamedTuple):
    """A distribution of actions, as pure functions of ONE step.

    Attributes:
      init: `init(key) -> params`, its own parameters.
      apply: `apply(params, outputs) -> distribution`, of a network's `[inputs]`.
      noise: `noise(key) -> noise`, what a random action is made of; it needs no
        distribution, so that of many steps is drawn at once.
      act: `act(distribution, noise) -> action`.
      log_prob: `log_prob(distribution, action) -> scalar`.
      entropy: `entropy(distribution) -> scalar`.
      inputs: how many outputs of a network it takes.
      actions: as `Environment` has them.
    """

    init: Callable[[Array], Params]
    apply: Callable[[Params, Array], PyTree]
    noise: Callable[[Array], PyTree]
    act: Callable[[PyTree, PyTree], Array]
    log_prob: Callable[[PyTree, Array], Array]
    entropy: Callable[[PyTree], Array]
    inputs: int
    actions: int | tuple[int, ...]

    def sample(self, distribution: PyTree, key: Array) -> Array:
        """An action at random."""
        return self.act(distribution, self.noise(key))


def categorical(actions: int) -> Head:
    """One of a number of actions.

      p(a) = softmax(x)_a

    Args:
      actions: how many.

    Returns:
      A `Head` of as many outputs.

    Raises:
      InputError: for a number below 1.

    >>> head = categorical(2)
    >>> print(f"{head.log_prob(jnp.zeros(2), jnp.int32(1)):.4f}")
    -0.6931
    """
    check_count("actions", actions, least=1)

    def log_prob(logits: Array, action: Array) -> Array:
        chosen = jax.nn.one_hot(action, actions, dtype=logits.dtype)
        return expected_log(chosen, logits)

    def entropy(logits: Array) -> Array:
        return -expected_log(jax.nn.softmax(logits), logits)

    def noise(key: Array) -> Array:
        return jax.random.gumbel(key, (actions,))

    def act(logits: Array, noise: Array) -> Array:
        # The largest of logits and Gumbel noise has the probabilities p.
        return jnp.argmax(logits + noise.astype(logits.dtype)).astype(jnp.int32)

    return Head(
        lambda key: (),
        lambda params, outputs: outputs,
        noise,
        act,
        log_prob,
        entropy,
        actions,
        actions,
    )


class Normal(NamedTuple):
    """A diagonal normal distribution.

    Attributes:
      mean: `float[dims]`.
      log_std: `float[dims]`.
    """

    mean: Array
    log_std: Array


def gaussian(
    dims: int, *, std: float = 1.0, least_std: float = 1e-6, dtype: type = jnp.float32
) -> Head:
    """A vector of real numbers; its standard deviation is a parameter of its own.

      a ~ N(x, σ²),   log p(a) = -Σ_d ((a_d - x_d)² / 2σ_d² + log σ_d + ½ log 2π)

    Args:
      dims: the length of an action.
      std: σ at first.
      least_std: σ is at least that.
      dtype: the type of log σ.

    Returns:
      A `Head` of as many outputs as an action has numbers.

    Raises:
      InputError: for a length below 1, or a deviation that is not positive.

    >>> head = gaussian(2)
    >>> normal = head.apply(head.init(jax.random.key(0)), jnp.zeros(2))
    >>> print(f"{head.log_prob(normal, jnp.zeros(2)):.4f}")
    -1.8379

    Source: Duan et al., "Benchmarking Deep Reinforcement Learning for Continuous
    Control", ICML 2016, whose policy MAML's has been.
    """
    check_count("dims", dims, least=1)
    check_positive("std", std)
    check_positive("least_std", least_std)

    def init(key: Array) -> Params:
        return {"log_std": jnp.full(dims, math.log(std), dtype)}

    def apply(params: Params, outputs: Array) -> Normal:
        return Normal(outputs, jnp.maximum(params["log_std"], math.log(least_std)))

    def noise(key: Array) -> Array:
        return jax.random.normal(key, (dims,))

    def act(normal: Normal, noise: Array) -> Array:
        return normal.mean + jnp.exp(normal.log_std) * noise.astype(normal.mean.dtype)

    def log_prob(normal: Normal, action: Array) -> Array:
        z = (action - normal.mean) * jnp.exp(-normal.log_std)
        return -jnp.sum(0.5 * z**2 + normal.log_std + HALF_LOG_2_PI)

    def entropy(normal: Normal) -> Array:
        return jnp.sum(normal.log_std + 0.5 + HALF_LOG_2_PI)

    return Head(init, apply, noise, act, log_prob, entropy, dims, (dims,))
