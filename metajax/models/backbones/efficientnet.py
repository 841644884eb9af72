"""EfficientNet-Lite, as timm has it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.models.backbones.config import Config
from metajax.models.backbones.family import Family, Network
from metajax.models.backbones.layers import batch_norm, convolve
from metajax.models.backbones.weights import Weights
from metajax.types import Array, Params

STRIDES = 1, 2, 2, 2, 1, 2, 1  # of each stage's first block


class Form(NamedTuple):
    """What the weights from TensorFlow have otherwise than those from PyTorch."""

    padding: str | None
    eps: float


def _build(weights: Weights, config: Config) -> Network:
    theirs = config.architecture.startswith("tf_")
    form = Form("SAME", 1e-3) if theirs else Form(None, 1e-5)
    width, _, window, _ = weights.shape("conv_stem.weight", 4)
    weights.convolution("conv_stem", window, config.channels, width)
    weights.batch_norm("bn1", width)
    for stage in range(len(STRIDES)):
        for block in range(weights.count(f"blocks.{stage}")):
            width = _take_block(weights, f"blocks.{stage}.{block}", width)
    features = weights.shape("conv_head.weight", 4)[0]
    weights.convolution("conv_head", 1, width, features)
    weights.batch_norm("bn2", features)

    def forward(params: Params, x: Array) -> Array:
        return _forward(form, params, x)

    return Network(forward, features)


def _take_block(weights: Weights, name: str, inputs: int) -> int:
    """Takes a block's tensors, and returns the number of its outputs."""
    for number, layer in enumerate(_layers(f"{name}.conv_pwl.weight" in weights), 1):
        outputs, _, window, _ = weights.shape(f"{name}.{layer}.weight", 4)
        channels = 1 if layer == "conv_dw" else inputs
        weights.convolution(f"{name}.{layer}", window, channels, outputs)
        weights.batch_norm(f"{name}.bn{number}", outputs)
        inputs = outputs
    return inputs


def _layers(inverted: bool) -> tuple[str, ...]:
    """The convolutions of a block, in their order."""
    return ("conv_pw", "conv_dw", "conv_pwl") if inverted else ("conv_dw", "conv_pw")


def _forward(form: Form, params: Params, x: Array) -> Array:
    """The means of the last maps."""
    x = convolve(params["conv_stem"], x, 2, form.padding)
    x = jax.nn.relu6(batch_norm(params["bn1"], x, form.eps))
    for stage, first in enumerate(STRIDES):
        blocks = params["blocks"][str(stage)]
        for block in range(len(blocks)):
            x = _block(form, blocks[str(block)], x, 1 if block else first)
        x = checkpoint_name(x, f"stage{stage}")
    x = batch_norm(params["bn2"], convolve(params["conv_head"], x), form.eps)
    return jnp.mean(jax.nn.relu6(x), (1, 2))


def _block(form: Form, weights: Params, x: Array, stride: int) -> Array:
    """A depthwise convolution between 1x1 ones, and a shortcut where sizes agree."""
    y, layers = x, _layers("conv_pwl" in weights)
    for number, layer in enumerate(layers, 1):
        y = convolve(
            weights[layer], y, stride if layer == "conv_dw" else 1, form.padding
        )
        y = batch_norm(weights[f"bn{number}"], y, form.eps)
        y = y if layer == layers[-1] else jax.nn.relu6(y)
    return x + y if x.shape == y.shape and stride == 1 else y


EFFICIENTNET = Family(
    "EfficientNet-Lite",
    "conv_stem.weight",
    r"(tf_)?efficientnet_lite\d",
    ("classifier.",),
    _build,
)
