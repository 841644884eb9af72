"""Task augmentation: a sampler whose episodes are changed after they are drawn."""

from dataclasses import dataclass, field
from typing import Protocol

import jax

from metajax._pytrees.keyed import check_unkeyed
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.staging import staged
from metajax.types import Array, Episode, PyTree, Sampler


class Transform(Protocol):
    """`transform(key, episode) -> episode`, of ONE task."""

    def __call__(self, key: Array, episode: Episode, /) -> Episode:
        """The changed episode."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Augmented(SamplerWrapper):
    """The sampler that `augmented` makes: `episodes(key, tasks) -> Episode`."""

    episodes: StagedSampler
    transforms: tuple[Transform, ...] = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, Array]:
        """Draws tasks, and a key to change each."""
        draw_key, change_key = jax.random.split(key)
        keys = jax.random.split(change_key, tasks)
        return self.episodes.draw(draw_key, tasks), keys

    def make(self, fetched: tuple[PyTree, Array]) -> Episode:
        """Makes the episodes of the other sampler, and changes them."""
        tasks, keys = fetched
        return jax.vmap(self._change)(keys, self.episodes.make(tasks))

    def _change(self, key: Array, episode: Episode) -> Episode:
        check_unkeyed("augmented", episode)
        keys = jax.random.split(key, len(self.transforms))
        for key, transform in zip(keys, self.transforms):
            episode = transform(key, episode)
        return episode


def augmented(episodes: Sampler, *transforms: Transform) -> Augmented:
    """A sampler whose episodes go through the transforms, in their order.

    The same key and number of tasks give the same meta-batch. Augment the training
    episodes only; transforms that make probabilities of the labels (`mixup`, `metamix`)
    come last.

    Args:
      episodes: any sampler.
      transforms: each a `transform(key, episode) -> episode` of one task:
        `turn_classes`, `flip_classes`, `jitter(...)`, `shuffle_labels(...)`,
        `mixup(...)`, `metamix(...)`, or yours.

    Returns:
      A sampler.

    Raises:
      InputError: when it is called, if the episodes are `keyed` already.

    >>> from metajax.data import glyphs, jitter, turn_classes
    >>> episodes = augmented(glyphs(5, 1, 5), turn_classes, jitter(shift=0.1))
    >>> episodes(jax.random.key(0), 2).support.inputs.shape
    (2, 5, 28, 28, 1)
    """
    return Augmented(staged(episodes), transforms)
