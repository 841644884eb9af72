"""ResNet, ResNeXt and wide ResNet, as timm and torchvision have them."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.models.backbones.config import Config
from metajax.models.backbones.family import Family, Network
from metajax.models.backbones.layers import batch_norm, convolve
from metajax.models.backbones.weights import Weights
from metajax.ops.windows import max_window
from metajax.types import Array, Params

LAYERS = "layer1", "layer2", "layer3", "layer4"
normed = partial(batch_norm, eps=1e-5)


def _build(weights: Weights, config: Config) -> Network:
    width, _, window, _ = weights.shape("conv1.weight", 4)
    weights.convolution("conv1", window, config.channels, width)
    weights.batch_norm("bn1", width)
    grouped = config.architecture.startswith("resnext")
    for layer in LAYERS:
        for block in range(weights.count(layer)):
            width = _take_block(weights, f"{layer}.{block}", width, grouped=grouped)
    return Network(_forward, width)


def _take_block(weights: Weights, name: str, inputs: int, *, grouped: bool) -> int:
    """Takes a block's tensors, and returns the number of its outputs."""
    first = inputs
    number = 1
    while f"{name}.conv{number}.weight" in weights:
        outputs, own, window, _ = weights.shape(f"{name}.conv{number}.weight", 4)
        channels = own if grouped and number == 2 else inputs
        weights.convolution(f"{name}.conv{number}", window, channels, outputs)
        weights.batch_norm(f"{name}.bn{number}", outputs)
        inputs, number = outputs, number + 1
    if f"{name}.downsample.0.weight" in weights:
        weights.convolution(f"{name}.downsample.0", 1, first, inputs)
        weights.batch_norm(f"{name}.downsample.1", inputs)
    return inputs


def _forward(params: Params, x: Array) -> Array:
    """The means of the last maps."""
    x = normed(params["bn1"], convolve(params["conv1"], x, 2))
    x = max_window(jax.nn.relu(x), stride=2)
    for layer in LAYERS:
        for block in range(len(params[layer])):
            stride = 2 if layer != LAYERS[0] and block == 0 else 1
            x = _block(params[layer][str(block)], x, stride)
        x = checkpoint_name(x, layer)
    return jnp.mean(x, (1, 2))


def _block(weights: Params, x: Array, stride: int) -> Array:
    """Two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1; the first 3x3 has the stride."""
    numbers = range(1, 1 + sum(name.startswith("conv") for name in weights))
    strided = 1 if len(numbers) == 2 else 2
    shortcut, last = x, numbers[-1]
    for number in numbers:
        x = convolve(weights[f"conv{number}"], x, stride if number == strided else 1)
        x = normed(weights[f"bn{number}"], x)
        x = x if number == last else jax.nn.relu(x)
    if "downsample" in weights:
        down = weights["downsample"]
        shortcut = normed(down["1"], convolve(down["0"], shortcut, stride))
    return jax.nn.relu(x + shortcut)


RESNET = Family(
    "ResNet",
    "layer1.0.conv1.weight",
    r"(tv_)?(wide_)?resnet\d+(_\d)?|resnext\d+_\d+x\d+d",
    ("fc.",),
    _build,
)
