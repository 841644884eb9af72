"""The noun `Policy`, and policies that see one observation at a time."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform

from metajax.rl.heads import Head
from metajax.types import Array, Model, Params, PyTree

START_SCALE = 0.01  # of the policy's last layer: it begins nearly uniform


class Seen(NamedTuple):
    """What an agent knows when it acts: this observation, and what it did before.

    Attributes:
      observation: the observation.
      action: the last action; -1, or zeros, before the first of a trial.
      reward: the last reward; 0 before the first.
      done: `float32[]`, 1 where the last step ended an episode.
    """

    observation: Array
    action: Array
    reward: Array
    done: Array


class Outputs(NamedTuple):
    """What a policy gives for one step.

    Attributes:
      action: the parameters of the distribution of actions, as its head takes them.
      value: the return that it expects, a scalar; 0 of a policy that estimates none.
    """

    action: PyTree
    value: Array


class Policy(NamedTuple):
    """An agent as pure functions of ONE trial.

    Attributes:
      init: `init(key) -> params`.
      start: `start(params) -> memory`, at the beginning of a trial.
      apply: `apply(params, memory, seen) -> (Outputs, memory)`, one step.
      unroll: `unroll(params, memory, seen, alive) -> Outputs`, of a sequence of steps
        from that memory on, with a leading axis of steps: what `apply` gives one by
        one. Where `alive`, `bool[steps]`, is false, a step is not remembered.
      head: the distribution of actions.
    """

    init: Callable[[Array], Params]
    start: Callable[[Params], PyTree]
    apply: Callable[[Params, PyTree, Seen], tuple[Outputs, PyTree]]
    unroll: Callable[[Params, PyTree, Seen, Array], Outputs]
    head: Head


def feedforward(model: Model, head: Head, value: Model | None = None) -> Policy:
    """A policy without memory, of the observation alone.

      a_t ~ head(model(s_t))

    Args:
      model: a network of flattened observations, `[n, features] -> [n, head.inputs]`.
      head: `categorical` or `gaussian`.
      value: a network of the value of an observation, `[n, features] -> [n, 1]`;
        without it, the value is 0.

    Returns:
      A `Policy`, whose parameters are `{"model": ..., "head": ..., "value": ...}`.

    >>> import jax, metajax as mj
    >>> head = mj.rl.categorical(3)
    >>> policy = feedforward(mj.mlp(2, (8,), head.inputs), head)
    >>> params = policy.init(jax.random.key(0))
    """

    def init(key: Array) -> Params:
        keys = jax.random.split(key, 3)
        own = {"model": model.init(keys[0]), "head": head.init(keys[1])}
        return own if value is None else own | {"value": value.init(keys[2])}

    def unroll(params: Params, memory: PyTree, seen: Seen, alive: Array) -> Outputs:
        x = jax.vmap(jnp.ravel)(seen.observation)
        rows = model.apply(params["model"], x)
        action = jax.vmap(head.apply, (None, 0))(params["head"], rows)
        if value is None:
            return Outputs(action, jnp.zeros(len(x), rows.dtype))
        return Outputs(action, value.apply(params["value"], x)[:, 0])

    def apply(params: Params, memory: PyTree, seen: Seen):
        one = jax.tree.map(lambda x: x[None], seen)
        always = jnp.ones(1, bool)
        outputs = unroll(params, memory, one, always)
        return jax.tree.map(lambda x: x[0], outputs), memory

    return Policy(init, lambda params: (), apply, unroll, head)


def features_of(seen: Seen, actions: int | tuple[int, ...]) -> Array:
    """What an agent with a memory is given of a step, as one vector.

      (s_t, a_{t-1}, r_{t-1}, d_{t-1}),   a number of actions as one of so many

    Args:
      seen: of one step.
      actions: as `Environment` has them.
    """
    last = action_features(seen.action, actions)
    parts = seen.observation.ravel(), last, seen.reward[None], seen.done[None]
    return jnp.concatenate(parts)


def action_features(action: Array, actions: int | tuple[int, ...]) -> Array:
    """An action as a vector: one of so many, or its numbers."""
    if isinstance(actions, int):
        return jax.nn.one_hot(action, actions)
    return action.ravel()


def action_size(actions: int | tuple[int, ...]) -> int:
    """How many numbers `action_features` gives."""
    return actions if isinstance(actions, int) else math.prod(actions)


def feature_count(observation_size: int, actions: int | tuple[int, ...]) -> int:
    """How many features `features_of` gives."""
    return observation_size + action_size(actions) + 2


def init_outputs(keys: Array, width: int, head: Head) -> Params:
    """The parameters of `outputs_of`, from three keys."""
    dense = glorot_uniform()
    kernel = dense(keys[0], (width, head.inputs)) * START_SCALE
    return {
        "action": {"kernel": kernel, "bias": jnp.zeros(head.inputs)},
        "value": {"kernel": dense(keys[1], (width, 1)), "bias": jnp.zeros(1)},
        "head": head.init(keys[2]),
    }


def outputs_of(head: Head, params: Params, hidden: Array) -> Outputs:
    """(action, value) = V h + v, of the hidden state of one step."""
    action = head.apply(params["head"], affine(params["action"], hidden))
    return Outputs(action, affine(params["value"], hidden)[0])


def affine(layer: Params, x: Array) -> Array:
    """X W + b, of one step."""
    return x @ layer["kernel"] + layer["bias"]
