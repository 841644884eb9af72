"""All classes of a store at once, for pre-training."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.images import ImageStore, check_store, rotate
from metajax.data.sampling import StagedSampler
from metajax.types import Array, Batch, Episode


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class JointBatches(StagedSampler):
    """The sampler that `joint_batches` makes: `episodes(key, tasks) -> Episode`."""

    images: Array
    counts: Array
    examples: int = field(metadata={"static": True})
    rotations: int = field(metadata={"static": True})

    @property
    def classes(self) -> int:
        """How many there are, each rotation counted."""
        return self.images.shape[0] * self.rotations

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        class_key, image_key = jax.random.split(key)
        labels = jax.random.randint(class_key, (self.examples,), 0, self.classes)
        stored, turns = labels % len(self.images), labels // len(self.images)
        place = jax.random.randint(image_key, labels.shape, 0, self.counts[stored])
        images = self.images[stored, place]
        if self.rotations > 1:
            images = rotate(images, turns[:, None, None, None])
        batch = Batch(images.astype(jnp.float32) / 255.0, labels)
        return Episode(batch, batch)


def joint_batches(
    store: ImageStore, examples: int = 64, *, rotations: int = 1
) -> JointBatches:
    """Batches of all classes of a store, each class with a label of its own.

    Each is support and query set at once; with `metajax.maml` of 0 inner steps,
    `metajax.fit` trains a plain classifier on them, whose body is a backbone for
    `metajax.mtl`.

    Args:
      store: the images; they are put on the default device once.
      examples: images a batch, drawn with replacement.
      rotations: see `image_episodes`.

    Returns:
      A sampler, whose `classes` is how many outputs its labels need.

    Raises:
      InputError: if `examples` is below 1, or for rotations as in `image_episodes`.

    >>> import numpy as np
    >>> store = ImageStore(
    ...     np.zeros((6, 20, 28, 28, 1), np.uint8), np.full(6, 20), tuple("abcdef")
    ... )
    >>> batches = joint_batches(store, rotations=4)
    >>> batches.classes, batches(jax.random.key(0), 1).query.inputs.shape
    (24, (1, 64, 28, 28, 1))
    """
    check_count("examples", examples, least=1)
    check_store(store, rotations)
    images, counts = jnp.asarray(store.images), jnp.asarray(store.counts, jnp.int32)
    return JointBatches(images, counts, examples, rotations)
