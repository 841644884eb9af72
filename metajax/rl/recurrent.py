"""Policies with a memory."""

import jax
import jax.numpy as jnp
from jax.nn import initializers

from metajax.checks import check_count
from metajax.rl.heads import Head
from metajax.rl.policies import Outputs, Policy, Seen, feature_count, features_of
from metajax.types import Array, Params, PyTree

START_SCALE = 0.01  # of the policy's last layer: it begins nearly uniform
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
    inputs = feature_count(observation_size, head.actions)

    def init(key: Array) -> Params:
        keys = jax.random.split(key, 5)
        dense = initializers.glorot_uniform()
        blocks = jax.random.split(keys[1], 3)
        recurrent = [initializers.orthogonal()(k, (units, units)) for k in blocks]
        out = dense(keys[2], (units, head.inputs)) * START_SCALE
        return {
            "inputs": initializers.lecun_normal()(keys[0], (inputs, 3 * units)),
            "recurrent": jnp.concatenate(recurrent, 1),
            "bias": jnp.zeros(3 * units).at[:units].set(KEEP),
            "action": {"kernel": out, "bias": jnp.zeros(head.inputs)},
            "value": {"kernel": dense(keys[3], (units, 1)), "bias": jnp.zeros(1)},
            "head": head.init(keys[4]),
        }

    def start(params: Params) -> Array:
        return jnp.zeros(units, params["bias"].dtype)

    def advance(params: Params, memory: Array, driven: Array) -> Array:
        own = memory @ params["recurrent"]
        keep, use = jax.nn.sigmoid((driven + own)[: 2 * units].reshape(2, units))
        fresh = jnp.tanh(driven[2 * units :] + use * own[2 * units :])
        return keep * memory + (1 - keep) * fresh

    def drive(params: Params, seen: Seen) -> Array:
        x = features_of(seen, head.actions).astype(params["bias"].dtype)
        return x @ params["inputs"] + params["bias"]

    def outputs(params: Params, memory: Array) -> Outputs:
        out, value = params["action"], params["value"]
        action = head.apply(params["head"], memory @ out["kernel"] + out["bias"])
        return Outputs(action, (memory @ value["kernel"] + value["bias"])[0])

    def apply(params: Params, memory: Array, seen: Seen) -> tuple[Outputs, PyTree]:
        memory = advance(params, memory, drive(params, seen))
        return outputs(params, memory), memory

    def unroll(params: Params, memory: Array, seen: Seen, alive: Array) -> Outputs:
        def step(memory: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            driven, alive = now
            memory = jnp.where(alive, advance(params, memory, driven), memory)
            return memory, memory

        # Inputs and outputs of all steps at once: only the memory waits.
        driven = jax.vmap(lambda one: drive(params, one))(seen)
        _, memories = jax.lax.scan(step, memory, (driven, alive))
        return jax.vmap(lambda one: outputs(params, one))(memories)

    return Policy(init, start, apply, unroll, head)
