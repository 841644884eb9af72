"""What `config.json` says of a network, in the form of timm's models on a hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metajax.errors import InputError

CONFIG = "config.json"
EXAMPLE = (
    '{"architecture": "resnet50", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], '
    '"std": [0.229, 0.224, 0.225], "input_size": [3, 224, 224], "crop_pct": 0.95, '
    '"interpolation": "bicubic"}}'
)
# Arguments whose effect the tensors show, or that have none on features.
SHOWN = frozenset(
    "img_size patch_size in_chans num_classes embed_dim depth depths dims layers "
    "mlp_ratio qkv_bias qk_norm proj_bias init_values ls_init_value class_token "
    "no_embed_class reg_tokens pre_norm fc_norm use_grn conv_mlp global_pool "
    "dynamic_img_size drop_rate drop_path_rate".split()
)
USED = frozenset(("num_heads", "act_layer"))


class Preprocessing(NamedTuple):
    """How pictures were prepared in pre-training.

    Attributes:
      mean: of each channel of pixels in [0, 1]; the network subtracts it itself.
      std: what the network divides by after that.
      size: (height, width) of the pictures.
      crop: the share of a resized picture's side that is kept, about its centre.
      interpolation: how pictures are resized: "bicubic", "bilinear", ...
      crop_mode: "center", or "squash" if pictures lose their proportions.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    crop: float
    interpolation: str
    crop_mode: str = "center"


class Config(NamedTuple):
    """What a file's tensors do not show.

    Attributes:
      architecture: timm's name of the network, without the name of its weights.
      preprocessing: of its pictures.
      pool: how features are pooled, "token", "avg" or "map"; "" if it is not said.
      arguments: further arguments of timm's, "num_heads" and "act_layer" among them.
    """

    architecture: str
    preprocessing: Preprocessing
    pool: str
    arguments: Mapping[str, Any]

    @property
    def channels(self) -> int:
        """The number of channels of a picture."""
        return len(self.preprocessing.mean)


def read_config(path: Path) -> Mapping[str, Any]:
    """The JSON beside a file of tensors.

    Raises:
      InputError: if there is none.
    """
    file = path.parent / CONFIG
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}), and without it nobody knows "
            f"the pixels' mean or the network's name; take it from where {path.name} "
            f"came from, or write it: {EXAMPLE}"
        ) from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); expected {EXAMPLE}") from error


def config_of(name: str, values: Mapping[str, Any]) -> Config:
    """A `Config` of the values of a `config.json`, checked.

    Args:
      name: where the values come from, for errors.
      values: as timm writes them. The settings of pictures may stand in
        "pretrained_cfg", or beside the architecture, as in older files.

    Raises:
      InputError: if something is missing, or has another form.

    >>> config_of("config.json", json.loads(EXAMPLE)).preprocessing.size
    (224, 224)
    """
    try:
        pictures = values.get("pretrained_cfg", values)
        size = pictures["input_size"]
        preprocessing = Preprocessing(
            tuple(map(float, pictures["mean"])),
            tuple(map(float, pictures["std"])),
            (int(size[1]), int(size[2])),
            float(pictures.get("crop_pct", 1.0)),
            str(pictures.get("interpolation", "bicubic")),
            str(pictures.get("crop_mode", "center")),
        )
        architecture = str(values["architecture"]).partition(".")[0]
        arguments = dict(values.get("model_args") or {})
        pool = str(values.get("global_pool") or arguments.get("global_pool") or "")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{name} lacks {error}, or has it in another form; expected {EXAMPLE}"
        ) from error
    _check(name, preprocessing, size[0])
    unknown = sorted(arguments.keys() - SHOWN - USED)
    if unknown:
        raise InputError(
            f"{name}: metajax does not know the argument {unknown[0]} of {architecture}"
            f"; known are {', '.join(sorted(SHOWN | USED))}"
        )
    return Config(architecture, preprocessing, pool, arguments)


def _check(name: str, pictures: Preprocessing, channels: int) -> None:
    positive = min((*pictures.std, *pictures.size, pictures.crop)) > 0
    if not positive or {len(pictures.mean), len(pictures.std)} != {channels}:
        raise InputError(
            f"{name} has input_size {[channels, *pictures.size]}, mean "
            f"{list(pictures.mean)}, std {list(pictures.std)} and crop_pct "
            f"{pictures.crop}; expected positive numbers, and a mean and a std for "
            "each channel"
        )
