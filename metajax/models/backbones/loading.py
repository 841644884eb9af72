"""Networks with pre-trained weights, from a file."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax._files.safetensors import read_safetensors
from metajax.errors import InputError
from metajax.models.backbones.config import (
    CONFIG,
    Config,
    Preprocessing,
    config_of,
    read_config,
)
from metajax.models.backbones.convnext import CONVNEXT
from metajax.models.backbones.efficientnet import EFFICIENTNET
from metajax.models.backbones.family import Family, Network
from metajax.models.backbones.resnet import RESNET
from metajax.models.backbones.vision_transformer import VISION_TRANSFORMER
from metajax.models.backbones.weights import Weights
from metajax.models.precision import exact_by_default
from metajax.types import Array, Model, Params, PyTree, unpadded

FILE = "model.safetensors"
FAMILIES = RESNET, VISION_TRANSFORMER, CONVNEXT, EFFICIENTNET


class Backbone(NamedTuple):
    """A network with pre-trained weights.

    Attributes:
      model: maps pictures `float[n, height, width, channels]` of pixels in [0, 1] to
        features `float[n, features]`; its `init` returns `params` for any key.
      params: nested by the dots of timm's names; kernels as `metajax.ops` takes them,
        norms with a "scale" and an "offset", running statistics as
        `metajax.Constant`s.
      preprocessing: how pictures were prepared in pre-training. The model subtracts the
        mean and divides by the standard deviation itself.
      features: the number of features of a picture.
    """

    model: Model
    params: Params
    preprocessing: Preprocessing
    features: int


def load_backbone(
    path: str | Path,
    config: Mapping[str, Any] | None = None,
    *,
    dtype: jnp.dtype | type = jnp.float32,
) -> Backbone:
    """Reads a network and its weights as timm saves them: no code of the file is run.

    The features are those of timm's `num_classes=0`: pooled, before the classifier,
    which is left out. Batch norm uses the running statistics of pre-training. Pictures
    may have any size that the network's patches divide; positions are interpolated.

    Args:
      path: a file of safetensors, or the folder of its "model.safetensors", with a
        `config.json` beside it that names the architecture and the pictures' mean and
        standard deviation, as models lie on a hub. Known are ResNet (ResNeXt, wide;
        torchvision's too), vision transformers (DeiT, AugReg, DINO, DINOv2, CLIP's and
        SigLIP's towers of images), ConvNeXt and EfficientNet-Lite.
      config: what `config.json` would say, if there is none.
      dtype: the type of the parameters.

    Returns:
      A `Backbone`.

    Raises:
      InputError: if the file cannot be read, is cut short or a pickle, if nothing says
        what the network is, or if tensors are missing, have other shapes or are of
        another network.

    >>> import metajax as mj
    >>> def learner(file):
    ...     backbone = load_backbone(file)
    ...     return mj.prototypical(backbone.model, ways=5)

    Source: Wightman, "PyTorch Image Models" (timm), 2019, for names and functions.
    """
    path, beside = files_of(path)
    tensors = read_safetensors(path)
    if config is None:
        settings = config_of(str(beside), read_config(path))
    else:
        settings = config_of("config", config)
    return backbone_of(path, tensors, settings, dtype)


def backbone_of(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    settings: Config,
    dtype: jnp.dtype | type = jnp.float32,
) -> Backbone:
    """A network of tensors that were read.

    Args:
      path: where they were, for errors.
      tensors: by timm's names.
      settings: what they do not show.
      dtype: the type of the parameters.

    Raises:
      InputError: see `load_backbone`.
    """
    family = _family(path, tensors)
    if not re.fullmatch(family.architectures, settings.architecture):
        raise InputError(
            f"{path} has the tensors of a {family.name}, and its config.json the name "
            f'"{settings.architecture}", of which metajax does not know what it '
            f"computes; expected a name such as {family.architectures}"
        )
    weights = Weights(path, tensors, dtype)
    network = family.build(weights, settings)
    params = weights.params(family.head)
    model = _model(network, params, settings.preprocessing)
    return Backbone(model, params, settings.preprocessing, network.features)


def files_of(path: str | Path) -> tuple[Path, Path]:
    """The files of a backbone: its tensors, and the config.json beside them.

    Args:
      path: of the tensors, or of their folder.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    return path, path.parent / CONFIG


def backbone_digest(path: str | Path) -> str:
    """What tells one backbone from another: a digest of both its files.

    Args:
      path: see `load_backbone`.

    Raises:
      InputError: if a file cannot be read.
    """
    hashed = hashlib.sha256()
    try:
        for each in files_of(path):
            with each.open("rb") as file:
                hashed.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); give the path of a "
            "backbone: a .safetensors with its config.json beside it"
        ) from error
    return hashed.hexdigest()


def _family(path: Path, tensors: Mapping[str, np.ndarray]) -> Family:
    for family in FAMILIES:
        if family.mark in tensors:
            return family
    marks = ", ".join(f"{family.mark} ({family.name})" for family in FAMILIES)
    first = ", ".join(list(tensors)[:3]) or "nothing"
    raise InputError(
        f"{path} has {first}, ..., expected timm's names, with one of {marks}; save "
        "timm's model, or rename its tensors"
    )


def _model(network: Network, params: Params, pictures: Preprocessing) -> Model:
    mean, std = (jnp.asarray(x, jnp.float32) for x in (pictures.mean, pictures.std))

    def apply(params: Params, inputs: PyTree) -> Array:
        x = jnp.asarray(unpadded(inputs)[0])
        _check_pictures(x, len(pictures.mean), network.multiple)
        centre, spread = (a.astype(x.dtype).reshape(1, 1, 1, -1) for a in (mean, std))
        return network.forward(params, (x - centre) / spread)

    return exact_by_default(Model(lambda key: params, apply))


def _check_pictures(x: Array, channels: int, multiple: int) -> None:
    shape = x.shape
    fits = len(shape) == 4 and shape[3] == channels
    sides = shape[1:3] if fits else (0,)
    whole = min(sides) > 0 and all(side % multiple == 0 for side in sides)
    if not whole or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            "this backbone takes pictures float[n, height, width, "
            f"{channels}] of pixels in [0, 1], with sides that are multiples of "
            f"{multiple}, got {x.dtype}{list(shape)}; give it pictures of that form"
        )
