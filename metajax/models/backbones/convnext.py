"""ConvNeXt and its second version, as timm has them."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.models.attention import layer_norm
from metajax.models.backbones.config import Config
from metajax.models.backbones.family import Family, Network
from metajax.models.backbones.layers import (
    affine,
    convolve,
    embed_patches,
)
from metajax.models.backbones.weights import Weights
from metajax.ops.precision import wider
from metajax.types import Array, Params

gelu = partial(jax.nn.gelu, approximate=False)


def _build(weights: Weights, config: Config) -> Network:
    eps = 1e-5 if "xxlarge" in config.architecture else 1e-6
    width, _, window, _ = weights.shape("stem.0.weight", 4)
    weights.convolution("stem.0", window, config.channels, width)
    weights.norm("stem.1", width)
    for stage in range(weights.count("stages")):
        name = f"stages.{stage}"
        if stage > 0:
            outputs = weights.shape(f"{name}.downsample.1.weight", 4)[0]
            weights.norm(f"{name}.downsample.0", width)
            weights.convolution(f"{name}.downsample.1", 2, width, outputs)
            width = outputs
        for block in range(weights.count(f"{name}.blocks")):
            _take_block(weights, f"{name}.blocks.{block}", width)
        weights.check_alike(f"{name}.blocks")
    weights.norm("head.norm", width)

    def forward(params: Params, x: Array) -> Array:
        return _forward(eps, params, x)

    return Network(forward, width)


def _take_block(weights: Weights, name: str, width: int) -> None:
    window = weights.shape(f"{name}.conv_dw.weight", 4)[-1]
    weights.convolution(f"{name}.conv_dw", window, 1, width)
    weights.norm(f"{name}.norm", width)
    hidden = 4 * width
    weights.linear(f"{name}.mlp.fc1", width, hidden)
    if f"{name}.mlp.grn.weight" in weights:
        weights.norm(f"{name}.mlp.grn", hidden)
    weights.linear(f"{name}.mlp.fc2", hidden, width)
    if f"{name}.gamma" in weights:
        weights.array(f"{name}.gamma", (width,))


def _forward(eps: float, params: Params, x: Array) -> Array:
    """The normalised means of the last maps."""
    x = layer_norm(params["stem"]["1"], embed_patches(params["stem"]["0"], x), eps)
    for name, stage in sorted(params["stages"].items()):
        if "downsample" in stage:
            down = stage["downsample"]
            x = embed_patches(down["1"], layer_norm(down["0"], x, eps))
        for block in range(len(stage["blocks"])):
            x = _block(eps, stage["blocks"][str(block)], x)
        x = checkpoint_name(x, f"stage{name}")
    return layer_norm(params["head"]["norm"], jnp.mean(x, (1, 2)), eps)


def _block(eps: float, weights: Params, x: Array) -> Array:
    """A depthwise convolution and an MLP of each place."""
    y = layer_norm(weights["norm"], convolve(weights["conv_dw"], x), eps)
    y = gelu(affine(weights["mlp"]["fc1"], y))
    if "grn" in weights["mlp"]:
        y = global_response_norm(weights["mlp"]["grn"], y)
    y = affine(weights["mlp"]["fc2"], y)
    if "gamma" in weights:
        y = y * weights["gamma"].reshape(1, 1, 1, -1)
    return x + y


def global_response_norm(weights: Params, x: Array) -> Array:
    """Scales each channel by its share of the response.

      y = x + γ x g / mean g + β,  g_c = |x_c| over places

    Source: Woo et al., "ConvNeXt V2", CVPR 2023, section 3.
    """
    wide = x.astype(wider(x.dtype))
    squares = jnp.sum(wide**2, (1, 2), keepdims=True)
    # The square root has no derivative at zero, where a channel is silent.
    silent = squares == 0
    size = jnp.where(silent, 0, jnp.sqrt(jnp.where(silent, 1, squares)))
    share = size / (jnp.mean(size, -1, keepdims=True) + 1e-6)
    scale, offset = (weights[k].reshape(1, 1, 1, -1) for k in ("scale", "offset"))
    return x + scale * (wide * share).astype(x.dtype) + offset


CONVNEXT = Family(
    "ConvNeXt",
    "stages.0.blocks.0.conv_dw.weight",
    r"convnext(v2)?_(?!.*(ols|rms|hnf)).*",
    ("head.fc.",),
    _build,
)
