"""A policy whose memory is a table, written and read by what is observed."""

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
    action_features,
    action_size,
    affine,
    feature_count,
    features_of,
    init_outputs,
    outputs_of,
)
from metajax.types import Array, Params

SHARPNESS = 3.0  # of keys at first: most of one is in a few numbers


def fast_weights(
    observation_size: int,
    head: Head,
    units: int = 64,
    *,
    heads: int = 4,
    size: int = 16,
) -> Policy:
    """Linear attention over the steps of a trial, with a value beside the action.

      k(s) = softmax(K (s, 1)),   v_t = V (x_t, r_{t-1} a_{t-1})
      M_t = M_{t-1} + v_t k(s_{t-1})ᵀ,   n_t = n_{t-1} + k(s_{t-1})
      w_t = n_t · k(s_t),   y_t = M_t k(s_t) / (1 + w_t)
      (action, value) = net(x_t, y_t, log(1 + w_t))

    for each of some heads; x_t is what `gru` takes. What was paid for an action is
    written where it was done, and looked up where the agent is now, from the start,
    while a recurrent network must learn to. Training does all steps at once.

    Args:
      observation_size: features of an observation; `Environment.observation_size`.
      head: `categorical` or `gaussian`.
      units: the width of the two hidden layers.
      heads: how many tables there are.
      size: the numbers of a key, and of a value.

    Returns:
      A `Policy`.

    Raises:
      InputError: for a number below 1.

    >>> import metajax as mj
    >>> mdp = mj.rl.tabular_mdp()
    >>> policy = fast_weights(mdp.observation_size, mj.rl.head_for(mdp))
    >>> policy.start(policy.init(jax.random.key(0))).table.shape
    (4, 16, 16)

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020; Schlag et al.,
    "Linear Transformers Are Secretly Fast Weight Programmers", ICML 2021.
    """
    for name, number in {"units": units, "heads": heads, "size": size}.items():
        check_count(name, number, least=1)
    net = _FastWeights(observation_size, head, units, (heads, size))
    return Policy(net.init, net.start, net.apply, net.unroll, head)


class Written(NamedTuple):
    """What is remembered.

    Attributes:
      table: M, `[heads, size, size]`.
      counts: n, `[heads, size]`.
      last: the last observation.
      begun: 1 after the first step of a trial, when there is something to write.
    """

    table: Array
    counts: Array
    last: Array
    begun: Array


class _FastWeights(NamedTuple):
    """The functions of the policy, and what they close over."""

    observed: int
    head: Head
    units: int
    shape: tuple[int, int]

    def init(self, key: Array) -> Params:
        keys, (heads, size) = jax.random.split(key, 7), self.shape
        inputs = feature_count(self.observed, self.head.actions)
        read = heads * (size + 1)
        dense = initializers.he_normal()

        def layer(key: Array, inputs: int, outputs: int) -> Params:
            return {"kernel": dense(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}

        written = inputs + action_size(self.head.actions)
        key_shape = self.observed, heads * size
        kernel = SHARPNESS * jax.random.normal(keys[0], key_shape)
        # With a row for a bias, so that it is never empty.
        return {
            "key": jnp.concatenate([kernel, jnp.zeros((1, heads * size))]),
            "write": layer(keys[1], written, heads * size),
            "hidden": layer(keys[2], inputs + read, self.units),
            "second": layer(keys[3], self.units, self.units),
            **init_outputs(keys[4:], self.units, self.head),
        }

    def start(self, params: Params) -> Written:
        (heads, size), dtype = self.shape, params["key"].dtype
        return Written(
            jnp.zeros((heads, size, size), dtype),
            jnp.zeros((heads, size), dtype),
            jnp.zeros(self.observed, dtype),
            jnp.zeros((), dtype),
        )

    def key(self, params: Params, observation: Array) -> Array:
        """`[heads, size]`, of an observation."""
        x = jnp.concatenate([observation, jnp.ones(1, observation.dtype)])
        return jax.nn.softmax((x @ params["key"]).reshape(self.shape))

    def written(self, params: Params, seen: Seen) -> Array:
        """v, `[heads, size]`: what was done last, and what was paid for it."""
        x, paid = _inputs(params, self.head, seen)
        return affine(params["write"], jnp.concatenate([x, paid])).reshape(self.shape)

    def outputs(self, params: Params, seen: Seen, read: Array, weight: Array):
        x, _ = _inputs(params, self.head, seen)
        parts = x, (read / (1 + weight)[:, None]).ravel(), jnp.log1p(weight)
        hidden = jax.nn.relu(affine(params["hidden"], jnp.concatenate(parts)))
        hidden = jax.nn.relu(affine(params["second"], hidden))
        return outputs_of(self.head, params, hidden)

    def apply(self, params: Params, memory: Written, seen: Seen):
        now = seen.observation.ravel().astype(memory.last.dtype)
        before = memory.begun * self.key(params, memory.last)
        v, q = self.written(params, seen), self.key(params, now)
        table = memory.table + v[:, :, None] * before[:, None, :]
        counts = memory.counts + before
        read, weight = jnp.einsum("hvk,hk->hv", table, q), jnp.sum(counts * q, -1)
        after = Written(table, counts, now, jnp.ones_like(memory.begun))
        return self.outputs(params, seen, read, weight), after

    def unroll(
        self, params: Params, memory: Written, seen: Seen, alive: Array
    ) -> Outputs:
        now = jax.vmap(jnp.ravel)(seen.observation).astype(memory.last.dtype)
        last = _last_alive(jnp.concatenate([memory.last[None], now]), alive)
        ones = jnp.ones(len(now) + 1, now.dtype).at[0].set(memory.begun)
        writes = jnp.where(alive, _last_alive(ones, alive), 0)
        q, k = (jax.vmap(lambda x: self.key(params, x))(x) for x in (now, last))
        k *= writes[:, None, None]
        v = jax.vmap(lambda one: self.written(params, one))(seen)
        weights = jnp.tril(jnp.einsum("thk,shk->hts", q, k))
        read = jnp.einsum("hts,shv->thv", weights, v)
        read += jnp.einsum("hvk,thk->thv", memory.table, q)
        weight = jnp.sum(weights, -1).T + jnp.einsum("hk,thk->th", memory.counts, q)
        return jax.vmap(lambda *own: self.outputs(params, *own))(seen, read, weight)


def _inputs(params: Params, head: Head, seen: Seen) -> tuple[Array, Array]:
    """What is known of a step, and the last action times the last reward."""
    dtype = params["key"].dtype
    paid = seen.reward * action_features(seen.action, head.actions)
    return features_of(seen, head.actions).astype(dtype), paid.astype(dtype)


def _last_alive(rows: Array, alive: Array) -> Array:
    """Of each step, the row of the last one before it that was alive; the first else.

    Row t + 1 is that of step t.
    """
    numbers = jnp.where(alive, jnp.arange(1, len(alive) + 1), 0)
    before = jax.lax.cummax(numbers)
    return rows[jnp.concatenate([jnp.zeros_like(before[:1]), before[:-1]])]
