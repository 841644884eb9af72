"""A run's network that begins as a pre-trained one of a file."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro

from metajax.errors import InputError
from metajax.experiments.network import Network, Shape
from metajax.models import Backbone, backbone_digest, dense, headed, load_backbone
from metajax.models.backbones.loading import files_of
from metajax.types import Model


@dataclass(frozen=True)
class BackboneModel(Network):
    """A pre-trained network of a file, and a linear head of zeros."""

    name = "backbone"
    images = True
    in_a_file = True
    file: str | None = field(default=None, compare=False)
    """Pre-trained network: safetensors by timm's names, with its config.json beside it;
    or their folder. It stays where it is, and one that was changed is refused."""
    digest: Annotated[str | None, tyro.conf.Suppress] = None
    """What tells its file from another; the configuration keeps it."""

    def __post_init__(self) -> None:
        if self.file is None:
            return
        path = Path(self.file).resolve()
        digest = _digest(path, *(_stamp(each) for each in files_of(path)))
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


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was changed, and its size; of no file, zeros."""
    if not path.is_file():
        return 0, 0
    there = path.stat()
    return there.st_mtime_ns, there.st_size


@lru_cache(maxsize=4)
def _digest(path: Path, *stamps: tuple[int, int]) -> str:
    return backbone_digest(path)


@lru_cache(maxsize=1)
def _backbone(path: str, digest: str) -> Backbone:
    return load_backbone(path)
