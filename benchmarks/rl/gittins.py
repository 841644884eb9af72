"""Gittins indices of Bernoulli arms with a finite horizon.

Duan et al. (2016) took discounted indices and chose the best of three approximations.
Here nothing is discounted, as nothing is in the score: the index of an arm is what a
pull of it is worth over the pulls that remain. With a known second arm it is optimal
(Bradt, Johnson and Karlin, 1956); with several unknown arms it is nearly so.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from benchmarks.rl.bandits import Strategy, posterior_mean
from metajax.types import Array

CHARGES = 257  # at which an arm is valued; between two, the value is taken as linear


def gittins(pulls: int) -> Strategy:
    """The arm of the largest index; the first of several.

    Args:
      pulls: of a task.
    """
    return Partial(_largest, index_table(pulls))


def _largest(table, successes, failures, pull, key):
    return jnp.argmax(table[pull, successes, failures])


@cache
def index_table(pulls: int) -> Array:
    """The index of every count of successes and failures at every pull.

    The largest charge λ a pull at which an arm is still worth pulling, for whoever may
    stop at any time within the n pulls that remain:

      Q_n(s, f) = p - λ + p V_{n-1}(s + 1, f) + (1 - p) V_{n-1}(s, f + 1)
      V_n = max(0, Q_n),   V_0 = 0,   p = (s + 1)/(s + f + 2)
      index_n(s, f) = the root of Q_n in λ

    Args:
      pulls: N, of a task; memory grows as N³.

    Returns:
      `float32[pulls, pulls, pulls]` by the pull (n = N - pull remain), successes and
      failures; only counts with s + f <= pull are meaningful.

    >>> print(f"{index_table(2)[0, 0, 0]:.4f}")  # (p + p²') / (1 + p) of p = 1/2
    0.5556

    Source: Kaufmann, "On Bayesian Index Policies for Sequential Resource Allocation",
    Annals of Statistics, 2018.
    """
    return _index_table(pulls)


@partial(jax.jit, static_argnames="pulls")
def _index_table(pulls):
    charges = jnp.linspace(0.0, 1.0, CHARGES)
    chance = posterior_mean(*jnp.indices((pulls, pulls)))

    def one_more(values, _):
        won = jnp.pad(values, ((0, 0), (0, 1), (0, 0)))[:, 1:]
        lost = jnp.pad(values, ((0, 0), (0, 0), (0, 1)))[:, :, 1:]
        value = chance[None] * (1 + won) + (1 - chance)[None] * lost
        value -= charges[:, None, None]
        return jnp.maximum(value, 0), _root(charges, value)

    start = jnp.zeros((CHARGES, pulls, pulls))
    return jnp.flip(jax.lax.scan(one_more, start, length=pulls)[1], axis=0)


def _root(charges: Array, values: Array) -> Array:
    """Where values that fall along the first axis cross 0."""
    after = jnp.sum(values > 0, axis=0, keepdims=True)  # > 0 at a charge of 0, < 0 at 1
    above, below = (jnp.take_along_axis(values, i, 0)[0] for i in (after - 1, after))
    step = charges[1] - charges[0]
    return charges[after[0] - 1] + step * above / (above - below)
