"""The head of a detector of centres."""

from functools import partial

import jax
import jax.numpy as jnp

from metajax.detection import CentreMaps
from metajax.models.convolution import convolution
from metajax.models.initialise import init_named
from metajax.types import Array, Model, Params, PyTree

RARE = -2.19  # log(0.1 / 0.9): most places are no centre


def centre_head(
    channels: int,
    ways: int,
    filters: int = 64,
    *,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Where the centres of objects are, and how large the objects.

      z = max(0, k * x + b),   heat, size, offset = 1x1 convolutions of z

    k is 3x3. CenterNet has one such layer for each of the three; here they share it.
    The heat starts near a probability of 0.1.

    Args:
      channels: the number of features of each place.
      ways: the number of classes.
      filters: the number of channels of z.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps features `[n, rows, columns, channels]`, such as
      those of `metajax.models.feature_pyramid`, to `metajax.detection.CentreMaps` of
      the same rows and columns.

    Raises:
      InputError: for a number below 1, or when it is applied to other inputs.

    A detector of images of 32 x 32 pixels, in cells of 4 x 4:

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, 8, image_shape=(32, 32, 3), halvings=2).parts
    >>> detector = mj.headed(body, centre_head(8, ways=3))
    >>> params = detector.init(jax.random.key(0))
    >>> detector.apply(params, jnp.zeros((2, 32, 32, 3))).heat.shape
    (2, 8, 8, 3)

    Source: Zhou et al., "Objects as Points" (CenterNet), 2019, section 3.
    """
    layers = {
        "hidden": convolution(3, channels, filters, dtype=dtype),
        "heat": convolution(1, filters, ways, bias=RARE, dtype=dtype),
        "size": convolution(1, filters, 2, dtype=dtype),
        "offset": convolution(1, filters, 2, dtype=dtype),
    }

    def apply(params: Params, features: PyTree) -> CentreMaps:
        def layer(name: str, x: PyTree) -> Array:
            return layers[name].apply(params[name], x)

        z = jax.nn.relu(layer("hidden", features))
        return CentreMaps(*(layer(name, z) for name in CentreMaps._fields))

    return Model(partial(init_named, layers), apply)
