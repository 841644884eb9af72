"""Policies with a memory."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers

from metajax.checks import check_count
from metajax.rl.heads import Head
from metajax.rl.policies import (
    Outputs,
    Policy,
    Seen,
    feature_count,
    features_of,
    init_outputs,
    outputs_of,
)
from metajax.types import Array, Params

KEEP = 1.0  # the bias of z: memories last


def gru(observation_size: int, head: Head, units: int = 64) -> Policy:
    """A gated recurrent unit over the steps of a trial, with a value beside the action.

      z, q = σ(W x_t + U h_{t-1} + b),   c = tanh(W' x_t + q ⊙ U' h_{t-1} + b')
      h_t = z ⊙ h_{t-1} + (1 - z) ⊙ c,   (action, value) = V h_t + v

    x_t is the observation, the last action, the last reward and whether an episode
    ended. U begins orthogonal, and the action's part of V near 0.

    Args:
      observation_size: features of an observation; `Environment.observation_size`.
      head: `categorical` or `gaussian`.
      units: the width of h.

    Returns:
      A `Policy`.

    Raises:
      InputError: for a number below 1.

    >>> import metajax as mj
    >>> bandit = mj.rl.bernoulli_bandit(5)
    >>> policy = gru(bandit.observation_size, mj.rl.categorical(bandit.actions))
    >>> policy.start(policy.init(jax.random.key(0))).shape
    (64,)

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
    Statistical Machine Translation", 2014; Duan et al., "RL²", 2016, section 2.3.
    """
    check_count("units", units, least=1)
    cell = _GRU(feature_count(observation_size, head.actions), head, units)
    return Policy(cell.init, cell.start, cell.apply, cell.unroll, head)


class _GRU(NamedTuple):
    """The functions of the policy, and what they close over."""

    inputs: int
    head: Head
    units: int

    def init(self, key: Array) -> Params:
        keys, units = jax.random.split(key, 5), self.units
        square = initializers.orthogonal()
        recurrent = [square(k, (units, units)) for k in jax.random.split(keys[1], 3)]
        return {
            "inputs": initializers.lecun_normal()(keys[0], (self.inputs, 3 * units)),
            "recurrent": jnp.concatenate(recurrent, 1),
            "bias": jnp.zeros(3 * units).at[:units].set(KEEP),
            **init_outputs(keys[2:], units, self.head),
        }

    def start(self, params: Params) -> Array:
        return jnp.zeros(self.units, params["bias"].dtype)

    def drive(self, params: Params, seen: Seen) -> Array:
        """What a step puts in, before the memory is looked at."""
        x = features_of(seen, self.head.actions).astype(params["bias"].dtype)
        return x @ params["inputs"] + params["bias"]

    def advance(self, params: Params, memory: Array, driven: Array) -> Array:
        """The next memory."""
        own, units = memory @ params["recurrent"], self.units
        gates = jax.nn.sigmoid((driven + own)[: 2 * units])
        keep, use = gates[:units], gates[units:]
        fresh = jnp.tanh(driven[2 * units :] + use * own[2 * units :])
        return keep * memory + (1 - keep) * fresh

    def apply(self, params: Params, memory: Array, seen: Seen) -> tuple[Outputs, Array]:
        memory = self.advance(params, memory, self.drive(params, seen))
        return outputs_of(self.head, params, memory), memory

    def unroll(
        self, params: Params, memory: Array, seen: Seen, alive: Array
    ) -> Outputs:
        def step(memory: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            driven, alive = now
            after = self.advance(params, memory, driven)
            memory = jnp.where(alive, after, memory)
            return memory, memory

        # Inputs and outputs of all steps at once: only the memory waits.
        driven = jax.vmap(partial(self.drive, params))(seen)
        _, memories = jax.lax.scan(step, memory, (driven, alive))
        return jax.vmap(partial(outputs_of, self.head, params))(memories)
