"""Images of known classes as functions of coordinates."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from metajax.data.drawing import Shape, draw
from metajax.data.images import ImageStore
from metajax.data.sampling import StagedSampler
from metajax.data.sets.fields import check_pixels, split_pixels
from metajax.data.single import single_images
from metajax.types import Array, Batch, Episode, LabelledValues


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LabelledFields(StagedSampler):
    """The sampler that `labelled_fields` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      images: `uint8[classes, per_class, height, width, channels]`, on the device.
      counts: `int32[classes]`.
      shape: of what is drawn: one image.
      shots: support pixels; None for all.
      queries: query pixels; None for all that there are.
    """

    images: Array
    counts: Array
    shape: Shape = field(metadata={"static": True})
    shots: int | None = field(metadata={"static": True})
    queries: int | None = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Draws an image, and its pixels."""
        image_key, pixel_key = jax.random.split(key)
        drawn = draw(image_key, self.counts, self.shape)
        label, place = drawn.classes[0], drawn.images[0, 0]
        image = self.images[label, place].astype(jnp.float32) / 255.0
        support, query = split_pixels(
            pixel_key, image, shots=self.shots, queries=self.queries
        )
        number = label * self.shape.per_class + place
        labels, numbers = (
            jnp.full(len(query.targets), x, jnp.int32) for x in (label, number)
        )
        targets = LabelledValues(query.targets, labels, numbers)
        return Episode(support, Batch(query.inputs, targets))


def labelled_fields(
    store: ImageStore, shots: int | None = None, queries: int | None = None
) -> LabelledFields:
    """Classification of images as functions of coordinates: each task is one image.

    The support set is that of `metajax.data.fields`; the query set has the label of the
    image, and its number in the store, beside each value. Labels are the places of
    classes in the store, the same in all tasks: so give training and test stores of the
    same classes, and other images. Tasks draw images with replacement: judge by
    `metajax.metrics.signal_accuracy`, whose interval is that of the images.

    Args:
      store: the images; they are put on the default device once.
      shots: support pixels a task; None for all.
      queries: query pixels a task; None for all that there are.

    Returns:
      A sampler, for `metajax.mwt`.

    Raises:
      InputError: see `metajax.data.fields`.

    >>> import numpy as np
    >>> pictures = np.zeros((6, 20, 28, 28, 1), np.uint8)
    >>> store = ImageStore(pictures, np.full(6, 20), tuple("abcdef"))
    >>> support, query = labelled_fields(store)(jax.random.key(0), 4)
    >>> support.targets.shape, query.targets.values.shape, query.targets.labels.shape
    ((4, 784, 1), (4, 784, 1), (4, 784))
    """
    drawn = single_images(store)
    _, _, height, width, _ = drawn.images.shape
    check_pixels(height, width, shots, queries)
    return LabelledFields(drawn.images, drawn.counts, drawn.shape, shots, queries)
