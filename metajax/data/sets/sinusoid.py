"""Sinusoid regression, the family of the MAML paper."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.sampling import StagedSampler
from metajax.types import Array, Batch, Episode

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, jnp.pi)
DOMAIN = (-5.0, 5.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sinusoid(StagedSampler):
    """The sampler that `sinusoid` makes: `episodes(key, tasks) -> Episode`.

    Inputs and targets are `float32[tasks, n, 1]`.
    """

    shots: int = field(metadata={"static": True})
    queries: int = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        keys = jax.random.split(key, 3)
        amplitude = jax.random.uniform(
            keys[0], minval=AMPLITUDE[0], maxval=AMPLITUDE[1]
        )
        phase = jax.random.uniform(keys[1], minval=PHASE[0], maxval=PHASE[1])
        shape = (self.shots + self.queries, 1)
        x = jax.random.uniform(keys[2], shape, minval=DOMAIN[0], maxval=DOMAIN[1])
        y = amplitude * jnp.sin(x - phase)
        n = self.shots
        return Episode(Batch(x[:n], y[:n]), Batch(x[n:], y[n:]))


def sinusoid(shots: int = 10, queries: int = 10) -> Sinusoid:
    """Regression to sine waves of random amplitude and phase.

      y = A sin(x - φ),  A ~ U[0.1, 5.0],  φ ~ U[0, π],  x ~ U[-5, 5]

    Args:
      shots: support points a task.
      queries: query points a task.

    Returns:
      A sampler; the family is endless, so training and test need only other keys.

    Raises:
      InputError: for a number below 1.

    >>> episodes = sinusoid(shots=5)(jax.random.key(0), 3)
    >>> episodes.support.inputs.shape
    (3, 5, 1)

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
    """
    check_count("shots", shots, least=1)
    check_count("queries", queries, least=1)
    return Sinusoid(shots, queries)
