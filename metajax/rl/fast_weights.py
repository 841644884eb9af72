"""A policy whose memory is a matrix, written and read by keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers

from metajax.checks import check_count
from metajax.rl.heads import Head
from metajax.rl.policies import Outputs, Policy, Seen, feature_count, features_of
from metajax.types import Array, Params

START_SCALE = 0.01  # of the policy's last layer: it begins nearly uniform


def fast_weights(
    observation_size: int,
    head: Head,
    units: int = 64,
    *,
    heads: int = 4,
    size: int = 16,
) -> Policy:
    """Linear attention over the steps of a trial, with a value beside the action.

      h_t = relu(W (x_t, x_{t-1}) + b),   q, k ≥ 0, v linear in h
      M_t = M_{t-1} + v_t k_tᵀ,   z_t = z_{t-1} + k_t
      w_t = z_t · q_t,   y_t = M_t q_t / (1 + w_t)
      (action, value) = net(h_t, y_t, log(1 + w_t))

    for each of some heads. To remember what was paid for an action in a state takes one
    write, and to look it up one read, where a recurrent network must learn to. Training
    does all steps of a trial at once.

    Args:
      observation_size: features of an observation; `Environment.observation_size`.
      head: `categorical` or `gaussian`.
      units: the width of h, and of the last hidden layer.
      heads: how many matrices there are.
      size: the numbers of a key, and of a value.

    Returns:
      A `Policy`.

    Raises:
      InputError: for a number below 1.

    >>> import metajax as mj
    >>> mdp = mj.rl.tabular_mdp()
    >>> policy = fast_weights(mdp.observation_size, mj.rl.head_for(mdp))
    >>> policy.start(policy.init(jax.random.key(0))).matrix.shape
    (4, 16, 16)

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020; Schlag et al.,
    "Linear Transformers Are Secretly Fast Weight Programmers", ICML 2021.
    """
    for name, number in {"units": units, "heads": heads, "size": size}.items():
        check_count(name, number, least=1)
    inputs = feature_count(observation_size, head.actions)
    net = _FastWeights(inputs, head, units, (heads, size))
    return Policy(net.init, net.start, net.apply, net.unroll, head)


class Written(NamedTuple):
    """What is remembered.

    Attributes:
      matrix: M, `[heads, size, size]`.
      total: z, `[heads, size]`.
      last: the features of the last step.
    """

    matrix: Array
    total: Array
    last: Array


class _FastWeights(NamedTuple):
    """The functions of the policy, and what they close over."""

    inputs: int
    head: Head
    units: int
    shape: tuple[int, int]

    def init(self, key: Array) -> Params:
        keys, dense = jax.random.split(key, 6), initializers.he_normal()
        read = self.shape[0] * (self.shape[1] + 1)
        projected = 3 * self.shape[0] * self.shape[1]

        def layer(key: Array, inputs: int, outputs: int, scale: float = 1.0) -> Params:
            kernel = scale * dense(key, (inputs, outputs))
            return {"kernel": kernel, "bias": jnp.zeros(outputs)}

        return {
            "inputs": layer(keys[0], 2 * self.inputs, self.units),
            "attention": layer(keys[1], self.units, projected),
            "hidden": layer(keys[2], self.units + read, self.units),
            "action": layer(keys[3], self.units, self.head.inputs, START_SCALE),
            "value": layer(keys[4], self.units, 1),
            "head": self.head.init(keys[5]),
        }

    def start(self, params: Params) -> Written:
        (heads, size), dtype = self.shape, params["inputs"]["bias"].dtype
        return Written(
            jnp.zeros((heads, size, size), dtype),
            jnp.zeros((heads, size), dtype),
            jnp.zeros(self.inputs, dtype),
        )

    def features(self, params: Params, seen: Seen) -> Array:
        x = features_of(seen, self.head.actions)
        return x.astype(params["inputs"]["bias"].dtype)

    def project(self, params: Params, x: Array, last: Array) -> tuple[Array, ...]:
        """h, and q, k, v of each head."""
        h = jax.nn.relu(_affine(params["inputs"], jnp.concatenate([x, last])))
        q, k, v = _affine(params["attention"], h).reshape(3, *self.shape)
        return h, jax.nn.softplus(q), jax.nn.softplus(k), v

    def outputs(self, params: Params, h: Array, read: Array, weight: Array) -> Outputs:
        parts = h, (read / (1 + weight)[:, None]).ravel(), jnp.log1p(weight)
        hidden = jax.nn.relu(_affine(params["hidden"], jnp.concatenate(parts)))
        action = self.head.apply(params["head"], _affine(params["action"], hidden))
        return Outputs(action, _affine(params["value"], hidden)[0])

    def apply(self, params: Params, memory: Written, seen: Seen):
        x = self.features(params, seen)
        h, q, k, v = self.project(params, x, memory.last)
        matrix = memory.matrix + v[:, :, None] * k[:, None, :]
        total = memory.total + k
        read, weight = jnp.einsum("hvk,hk->hv", matrix, q), jnp.sum(total * q, -1)
        return self.outputs(params, h, read, weight), Written(matrix, total, x)

    def unroll(
        self, params: Params, memory: Written, seen: Seen, alive: Array
    ) -> Outputs:
        x = jax.vmap(lambda one: self.features(params, one))(seen)
        last = _last_alive(jnp.concatenate([memory.last[None], x]), alive)
        h, q, k, v = jax.vmap(lambda *own: self.project(params, *own))(x, last)
        weights = jnp.einsum("thk,shk->hts", q, k)
        counts = jnp.tril(jnp.broadcast_to(alive, (len(alive), len(alive))))
        weights = jnp.where(counts, weights, 0)
        read = jnp.einsum("hts,shv->thv", weights, v)
        read += jnp.einsum("hvk,thk->thv", memory.matrix, q)
        weight = jnp.sum(weights, -1).T + jnp.einsum("hk,thk->th", memory.total, q)
        return jax.vmap(lambda *own: self.outputs(params, *own))(h, read, weight)


def _affine(layer: Params, x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"]


def _last_alive(rows: Array, alive: Array) -> Array:
    """Of each step, the row of the last one before it that was alive; the first else.

    Row t + 1 is that of step t.
    """
    numbers = jnp.where(alive, jnp.arange(1, len(alive) + 1), 0)
    before = jax.lax.cummax(numbers)
    return rows[jnp.concatenate([jnp.zeros_like(before[:1]), before[:-1]])]
