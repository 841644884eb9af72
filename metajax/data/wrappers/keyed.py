"""Episodes with keys, of which networks with dropout draw their masks."""

from dataclasses import dataclass

import jax

from metajax._pytrees.keyed import OF_INPUTS, with_keys
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.staging import staged
from metajax.types import Array, Episode, PyTree, Sampler


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class WithKeys(SamplerWrapper):
    """The sampler that `keyed` makes: `episodes(key, tasks) -> Episode`."""

    episodes: StagedSampler

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, Array]:
        """Draws tasks, and a key for each."""
        own = jax.random.split(jax.random.fold_in(key, OF_INPUTS), tasks)
        return self.episodes.draw(key, tasks), own

    def make(self, fetched: tuple[PyTree, Array]) -> Episode:
        """Makes the episodes of the other sampler, and gives their inputs keys."""
        tasks, keys = fetched
        return jax.vmap(_keyed)(keys, self.episodes.make(tasks))


def keyed(episodes: Sampler) -> WithKeys:
    """The same episodes, whose inputs are `Keyed`: each example has a key of its own.

    Networks that draw random numbers in training, as dropout does, need them, in
    training and where they adapt to test tasks. They follow from the sampler's key, so
    that each meta-step and each task has its own, and a resumed run the same.

    Args:
      episodes: any sampler; the last of its wrappers, so `keyed(augmented(...))`.

    Returns:
      A sampler.

    >>> from metajax.data import sinusoid
    >>> episode = keyed(sinusoid(5, 10))(jax.random.key(0), 4)
    >>> episode.support.inputs.keys.shape, episode.query.inputs.keys.shape
    ((4, 5), (4, 10))
    """
    return WithKeys(staged(episodes))


def _keyed(key: Array, episode: Episode) -> Episode:
    keys = jax.random.split(key, len(episode))
    return Episode(
        *(
            batch._replace(inputs=with_keys(batch.inputs, own))
            for batch, own in zip(episode, keys)
        )
    )
