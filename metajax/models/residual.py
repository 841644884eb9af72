"""The residual blocks of ResNet-12."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.models.norms import Norm, NormName, Settle, norm_of, normed_model
from metajax.ops import conv2d, max_pool
from metajax.types import Array, Model, Params, PyTree, unpadded

CONVOLUTIONS = 3
SLOPE = 0.1


def residual_blocks(
    channels: Sequence[int],
    check: Callable[[Array], None],
    read: Callable[[list[Array]], PyTree],
    *,
    norm: NormName,
    dtype: jnp.dtype | type,
) -> Model:
    """Residual blocks of three convolutions, each of which halves its maps.

      f(x) = norm(k₃ * σ(norm(k₂ * σ(norm(k₁ * x)))))
      x ← maxpool(σ(f(x) + norm(k₀ * x)))

    Args:
      channels: of the images, and of the maps of each block.
      check: refuses images that the blocks cannot take.
      read: what is returned, of the maps of all blocks, the finest first.
      norm: what batch norm normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, height, width, channels]` to what `read` gives.

    Raises:
      InputError: for an unknown `norm`.

    >>> model = residual_blocks((3, 4, 8), id, len, norm="task", dtype=jnp.float32)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((1, 8, 8, 3)))
    2
    """
    batch_norm = norm_of(norm)

    def run(params: Params, inputs: PyTree, settle: Settle) -> tuple[PyTree, Params]:
        x, present = unpadded(inputs)
        check(x)

        def layer(weights: Params, x: Array) -> tuple[Array, Params]:
            x = conv2d(x, weights["kernel"])
            weights = settle(weights, x, present)
            return batch_norm.apply(weights, x, present), weights

        maps, settled = [], []
        for index, weights in enumerate(params):
            x, weights = _block(layer, weights, x)
            x = checkpoint_name(x, f"block{index}")
            maps.append(x)
            settled.append(weights)
        return read(maps), settled

    return normed_model(batch_norm, partial(_init, batch_norm, channels, dtype), run)


def _block(
    layer: Callable[[Params, Array], tuple[Array, Params]], weights: Params, x: Array
) -> tuple[Array, Params]:
    """maxpool(σ(f(x) + norm(k₀ * x))), and the settled weights."""
    shortcut, settled_shortcut = layer(weights["shortcut"], x)
    first, *others = weights["convolutions"]
    x, settled = layer(first, x)
    convolutions = [settled]
    for convolution in others:
        x, settled = layer(convolution, jax.nn.leaky_relu(x, SLOPE))
        convolutions.append(settled)
    # σ after pooling is the same function with a quarter of the work.
    x = jax.nn.leaky_relu(max_pool(x + shortcut), SLOPE)
    return x, {"convolutions": convolutions, "shortcut": settled_shortcut}


def _init(
    norm: Norm, channels: Sequence[int], dtype: jnp.dtype | type, key: Array
) -> Params:
    draw = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")

    def layer(key: Array, side: int, inputs: int, outputs: int) -> Params:
        kernel = draw(key, (side, side, inputs, outputs), dtype)
        return {"kernel": kernel, **norm.init(outputs, dtype)}

    def block(key: Array, inputs: int, outputs: int) -> Params:
        first, *keys, last = jax.random.split(key, CONVOLUTIONS + 1)
        others = [layer(k, 3, outputs, outputs) for k in keys]
        return {
            "convolutions": [layer(first, 3, inputs, outputs), *others],
            "shortcut": layer(last, 1, inputs, outputs),
        }

    keys = jax.random.split(key, len(channels) - 1)
    return [block(k, *sizes) for k, sizes in zip(keys, pairwise(channels))]
