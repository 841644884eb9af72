"""Policies whose memory is the last steps of a trial, to which they attend."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from metajax.models.causal import Causal, causal_transformer
from metajax.models.causal_snail import causal_snail
from metajax.models.snail import SIZES
from metajax.ops.precision import dtype_of
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
from metajax.types import Array, Params, PyTree


def transformer_policy(
    observation_size: int,
    head: Head,
    length: int,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
) -> Policy:
    """A causal transformer over the steps of a trial, with a value beside the action.

      (action, value) = V h_t + v,   h = transformer(x_1, ..., x_t)

    x_t is the observation, the last action, the last reward and whether an episode
    ended. Keys and values of the last steps are the memory, so a step costs one token.

    Args:
      observation_size: features of an observation; `Environment.observation_size`.
      head: `categorical` or `gaussian`.
      length: how many steps each block attends to, this one and those before it. A
        trial may be longer; what is further back is forgotten.
      width: the number of features of h.
      depth: the number of blocks.
      heads: the number of heads of attention.

    Returns:
      A `Policy`.

    Raises:
      InputError: see `metajax.models.causal.causal_transformer`.

    >>> import metajax as mj
    >>> bandit, head = mj.rl.bernoulli_bandit(5), mj.rl.categorical(5)
    >>> policy = transformer_policy(bandit.observation_size, head, length=10)
    >>> learner = mj.rl2(bandit, policy, episodes=10)

    Source: Melo, "Transformers are Meta-Reinforcement Learners", ICML 2022.
    """
    features = feature_count(observation_size, head.actions)
    return causal_policy(
        causal_transformer(features, length, width=width, depth=depth, heads=heads),
        head,
    )


def snail_policy(
    observation_size: int,
    head: Head,
    length: int,
    *,
    filters: int = 32,
    attention: Sequence[tuple[int, int]] = SIZES[:2],
) -> Policy:
    """SNAIL over the steps of a trial; see `transformer_policy`.

    Args:
      observation_size: features of an observation; `Environment.observation_size`.
      head: `categorical` or `gaussian`.
      length: how many steps each block reaches back over, with this one. A trial may be
        longer; what is further back is forgotten.
      filters: the number of features of each convolution.
      attention: the numbers of features of the keys and of the values, of each block of
        attention.

    Returns:
      A `Policy`.

    Raises:
      InputError: for a number below 1, or if `attention` is not of pairs.

    >>> import metajax as mj
    >>> mdp, head = mj.rl.tabular_mdp(), mj.rl.categorical(5)
    >>> policy = snail_policy(mdp.observation_size, head, length=100)

    Source: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018, section
    5.2.
    """
    features = feature_count(observation_size, head.actions)
    network = causal_snail(features, length, filters=filters, attention=attention)
    return causal_policy(network, head)


def causal_policy(network: Causal, head: Head) -> Policy:
    """A policy on a causal network over the steps of a trial.

    Args:
      network: of tokens of `feature_count` features.
      head: the distribution of actions.

    Returns:
      A `Policy` whose memory is the network's.
    """

    def init(key: Array) -> Params:
        keys = jax.random.split(key, 4)
        own = {"network": network.init(keys[0])}
        return own | init_outputs(keys[1:], network.width, head)

    def start(params: Params) -> PyTree:
        return network.start(params["network"])

    def features(params: Params, seen: Seen) -> Array:
        return features_of(seen, head.actions).astype(dtype_of(params["network"]))

    def read(params: Params, memory: PyTree, seen: Seen) -> tuple[Outputs, PyTree]:
        """Reads several steps at once."""
        x = jax.vmap(partial(features, params))(seen)
        hidden, memory = network.apply(params["network"], memory, x)
        return jax.vmap(partial(outputs_of, head, params))(hidden), memory

    def apply(params: Params, memory: PyTree, seen: Seen) -> tuple[Outputs, PyTree]:
        outputs, memory = read(params, memory, jax.tree.map(lambda x: x[None], seen))
        return jax.tree.map(lambda x: x[0], outputs), memory

    def unroll(params: Params, memory: PyTree, seen: Seen, alive: Array) -> Outputs:
        # Steps that are not remembered come last, where no other step sees them.
        order = jnp.argsort(~alive, stable=True)
        outputs, _ = read(params, memory, jax.tree.map(lambda x: x[order], seen))
        back = jnp.argsort(order)
        return jax.tree.map(lambda x: x[back], outputs)

    return Policy(init, start, apply, unroll, head)
