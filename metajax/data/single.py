"""Tasks of one image each, for samplers that need no more of a store."""

import jax.numpy as jnp

from metajax.data.drawing import Shape
from metajax.data.images import Images, ImageStore, check_store
from metajax.data.reading import host_device
from metajax.data.records import ImageReader
from metajax.data.streaming import Stream


def single_images(store: ImageStore) -> Images:
    """Episodes of one support image and no queries, from a store on the device.

    Args:
      store: the images; any class of at least one image will do.

    Returns:
      A sampler, whose episodes draw a class uniformly and an image of it.

    Raises:
      InputError: if the store is not as `ImageStore` has it.

    >>> import jax, numpy as np
    >>> store = ImageStore(np.zeros((2, 1, 8, 8, 1), np.uint8), np.full(2, 1), ("", ""))
    >>> single_images(store)(jax.random.key(0), 3).support.inputs.shape
    (3, 1, 8, 8, 1)
    """
    counts = jnp.asarray(store.counts, jnp.int32)
    return Images(jnp.asarray(store.images), counts, _shape(store))


def stream_single_images(store: ImageStore) -> Stream:
    """The same episodes, of images that are read from the host as they are drawn.

    Args:
      store: see `metajax.data.stream_episodes`.

    Returns:
      A sampler.

    Raises:
      InputError: see `single_images`; or if JAX has no CPU beside the accelerator.

    >>> import jax, numpy as np
    >>> store = ImageStore(np.zeros((2, 1, 8, 8, 1), np.uint8), np.full(2, 1), ("", ""))
    >>> stream_single_images(store)(jax.random.key(0), 3).support.inputs.shape
    (3, 1, 8, 8, 1)
    """
    shape, image = _shape(store), tuple(store.images.shape[2:])
    host_device()
    counts = jnp.asarray(store.counts, jnp.int32)
    return Stream(counts, ImageReader(store.images), shape, image, 0)


def _shape(store: ImageStore) -> Shape:
    check_store(store, 1)
    return Shape(1, 1, 0, 1, store.images.shape[1])
