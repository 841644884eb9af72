"""A run's network that begins as a pre-trained one of a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from metajax._files.safetensors import read_safetensors
from metajax.errors import InputError
from metajax.experiments.network import Network, Shape
from metajax.experiments.published import (
    Published,
    holds_run,
    is_published,
    read_published,
    stamps,
)
from metajax.models import Backbone, backbone_digest, dense, headed
from metajax.models.backbones.config import config_of, read_config
from metajax.models.backbones.loading import backbone_of, files_of
from metajax.types import Model

TENSORS, TEXT = "network/", "network.json"  # in a published file


@dataclass(frozen=True)
class BackboneModel(Network):
    """A pre-trained network of a file, and a linear head of zeros."""

    name = "backbone"
    images = True
    file: str | None = field(default=None, compare=False)
    """Pre-trained network: a safetensors file with timm's parameter names and its
    config.json beside it, or their folder. The file stays where it is, and is refused
    if it has changed."""
    digest: Annotated[str | None, tyro.conf.Suppress] = None
    """Digest of the file, which the configuration keeps."""

    def __post_init__(self) -> None:
        if self.file is None:
            return
        path = Path(self.file).resolve()
        digest = _digest(path, *map(stamps, files_of(path)))
        if self.digest is None and _published(path) is not None:
            raise InputError(
                f"{path} is a published run, whose network was trained further; begin "
                f"with it by --config {path} --from {path}"
            )
        if self.digest not in (None, digest):
            raise InputError(
                f"{path} is another backbone than that of this configuration, or its "
                "config.json was changed; put the one back that it was"
            )
        object.__setattr__(self, "file", str(path))
        object.__setattr__(self, "digest", digest)

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of images."""
        if self.file is None:
            raise InputError("--model backbone needs --model.file FILE, or a folder")
        backbone = _backbone(self.file, self.digest)
        images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        try:
            jax.eval_shape(backbone.model.apply, backbone.params, images)
        except InputError as error:
            raise InputError(
                f"pictures of these data do not fit {self.file}: {error}"
            ) from error
        zeros = jax.nn.initializers.zeros
        head = dense(backbone.features, outputs, initializer=zeros)
        return headed(backbone.model, head)

    def contents(self) -> tuple[Mapping[str, str], Mapping[str, np.ndarray]]:
        """The file's tensors and its config.json."""
        if self.file is None:
            return super().contents()
        tensors, values = _read(Path(self.file))
        text = json.dumps({"digest": self.digest, "config": values})
        return {TEXT: text}, {TENSORS + name: array for name, array in tensors.items()}

    def within(self, path: Path | None) -> Self:
        """The same network, in a published file."""
        return replace(self, file=None if path is None else str(path))


def _read(path: Path) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """The tensors of a network, and its config.json."""
    published = _published(path)
    if published is None:
        path, _ = files_of(path)
        return read_safetensors(path), read_config(path)
    arrays = published.arrays.items()
    tensors = {
        name.removeprefix(TENSORS): array
        for name, array in arrays
        if name.startswith(TENSORS)
    }
    return tensors, json.loads(published.texts[TEXT])["config"]


def _published(path: Path) -> Published | None:
    """The published run that a file is; None if it is another file."""
    if not is_published(path) or not holds_run(path):
        return None
    published = read_published(path)
    if TEXT not in published.texts:
        raise InputError(
            f"{path} is a published run without a network of --model backbone; give "
            "a .safetensors with its config.json beside it"
        )
    return published


@lru_cache(maxsize=4)
def _digest(path: Path, *when: tuple[int, ...]) -> str:
    published = _published(path)
    if published is None:
        return backbone_digest(path)
    return json.loads(published.texts[TEXT])["digest"]


@lru_cache(maxsize=1)
def _backbone(path: str, digest: str) -> Backbone:
    tensors, values = _read(Path(path))
    settings = config_of(str(files_of(path)[1]), values)
    return backbone_of(Path(path), tensors, settings)
