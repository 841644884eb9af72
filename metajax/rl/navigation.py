"""A point that must find its goal in the plane."""

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.rl.environment import Environment, Transition
from metajax.types import Array


def navigation(
    horizon: int = 100, *, scale: float = 0.1, reach: float = 0.1
) -> Environment:
    """2D navigation: the way to a goal that is not seen, but for the reward.

      x' = x + clip(scale · a, -reach, reach),   r = -‖x' - goal‖,   goal ~ U[-½, ½]²

    An episode begins at the origin and ends within 0.01 of the goal in both axes.

    Args:
      horizon: the most steps of an episode.
      scale: how far an action of 1 moves. MAML's authors scale actions by 0.1; the
        PyTorch port takes them as they are, `scale=1`.
      reach: the farthest move in each axis.

    Returns:
      An `Environment` whose task is the goal, `float32[2]`.

    Raises:
      InputError: for a horizon below 1, or a number that is not positive.

    >>> navigation().sample(jax.random.key(0)).shape
    (2,)

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.3.1.
    """
    check_count("horizon", horizon, least=1)
    check_positive("scale", scale)
    check_positive("reach", reach)

    def sample(key: Array) -> Array:
        return jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5)

    def reset(task: Array, key: Array) -> tuple[Array, Array]:
        return jnp.zeros(2), jnp.zeros(2)

    def step(task: Array, state: Array, action: Array, key: Array) -> Transition:
        position = state + jnp.clip(scale * action, -reach, reach)
        away = position - task
        done = jnp.all(jnp.abs(away) < 0.01)
        return Transition(position, position, -jnp.linalg.norm(away), done)

    return Environment(sample, reset, step, horizon, (2,))
