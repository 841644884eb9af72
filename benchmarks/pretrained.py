"""Pre-trained backbones of full size against timm, on the same weights and pictures.

    python -m benchmarks.pretrained [--networks NAME ...] [--to RECORD.json]

It needs torch and timm. The weights are those that timm draws, with scales, offsets,
running statistics and LayerScale moved from their start, written by timm's own format
and read as a user's file is. It prints relative L2 distances of pooled features to
timm's in float64: of ours in float32, of timm's own in float32, and of another picture.
"""

import importlib
import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import read_record, run_command
from benchmarks.settings import Check, NewFile, each
from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.models import Backbone, load_backbone

NETWORKS = (
    "resnet18",
    "resnet50",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_clip_224",
    "convnext_tiny",
    "tf_efficientnet_lite0",
)
NEAR = 1e-5
HEAD = """\
| network | pixels | parameters | ours, float32 | timm's, float32 | another picture |
|---|---|---|---|---|---|"""


def _any(flag: str, name: str) -> None:
    """Any name will do here: timm says which it has."""


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    networks: Annotated[tuple[str, ...], each("network", _any)] = NETWORKS
    """timm's names."""
    pictures: Annotated[int, Check(partial(check_count, least=2))] = 2
    """Random pictures of the network's own size, at least two."""
    to: NewFile | None = None
    """File to keep the record in; networks that it has already are kept."""


def main(settings: Settings) -> None:
    """Prints a row for each network, and keeps their record.

    Raises:
      InputError: if torch or timm is missing, or a distance is above 1e-5.
    """
    torch, timm = (import_module(name) for name in ("torch", "timm"))
    versions = {"timm": timm.__version__, "torch": torch.__version__}
    versions |= {"jax": jax.__version__, "machine": platform.machine()}
    results: dict[str, Any] = {}
    if settings.to is not None and settings.to.exists():
        results = read_record(settings.to)["results"]
    print(HEAD)
    for name in settings.networks:
        row = compare(torch, timm, name, settings.pictures)
        print(line(name, row), flush=True)
        results[name] = row
        if settings.to is not None:
            record = {"results": results, "versions": versions}
            write_whole(settings.to, json.dumps(record, indent=2) + "\n")
        if row["ours"] > NEAR:
            raise InputError(
                f"{name}: expected features within {NEAR} of timm's, got {row['ours']}"
            )


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The record's table in Markdown."""
    return "\n".join([HEAD, *(line(name, row) for name, row in results.items())])


def line(name: str, row: Mapping[str, Any]) -> str:
    """A network's row of the table.

    Args:
      name: of the network.
      row: see `compare`.
    """
    height, width = row["picture"]
    distances = " | ".join(f"{row[key]:.1e}" for key in ("ours", "timm's", "apart"))
    return f"| {name} | {height}x{width} | {row['parameters']:,} | {distances} |"


def compare(
    torch: ModuleType, timm: ModuleType, name: str, pictures: int
) -> dict[str, Any]:
    """The distances of one network.

    Args:
      torch: the module.
      timm: the module.
      name: timm's name of the network.
      pictures: the number of random pictures.
    """
    torch.manual_seed(0)
    try:
        model = timm.create_model(name).eval()
    except RuntimeError as error:
        raise InputError(f"timm has no network {name!r} ({error})") from error
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            _move(torch, key, tensor)
    with tempfile.TemporaryDirectory() as folder:
        write_network(model, Path(folder))
        backbone = load_backbone(folder)
    height, width = backbone.preprocessing.size
    random = np.random.default_rng(0)
    x = random.random((pictures, height, width, 3), np.float32)
    ours = np.asarray(jax.jit(backbone.model.apply)(backbone.params, jnp.asarray(x)))
    model.reset_classifier(0)
    theirs = _features(torch, model, backbone, x, torch.float32)
    exact = _features(torch, model, backbone, x, torch.float64)
    size = sum(leaf.size for leaf in jax.tree.leaves(backbone.params))
    return {
        "ours": _distance(ours, exact),
        "timm's": _distance(theirs, exact),
        "apart": _distance(exact[:1], exact[1:2]),
        "parameters": size,
        "picture": [height, width],
    }


def _move(torch: ModuleType, name: str, tensor: Any) -> None:
    """Moves what starts at 0, at 1 or close to it."""
    if name.endswith("running_var"):
        tensor.uniform_(0.5, 1.5)
    elif name.endswith("gamma"):
        tensor.uniform_(0.1, 0.5)
    elif tensor.dtype.is_floating_point and (tensor.ndim == 1 or "token" in name):
        tensor.add_(0.2 * torch.randn_like(tensor))


def write_network(model: Any, folder: Path) -> None:
    """Writes one of timm's networks as it lies on a hub."""
    save = importlib.import_module("safetensors.torch").save_file
    save(model.state_dict(), folder / "model.safetensors")
    pictures = model.pretrained_cfg
    names = "mean", "std", "input_size", "crop_pct", "interpolation"
    config = {
        "architecture": pictures["architecture"],
        "pretrained_cfg": {name: pictures[name] for name in names},
    }
    (folder / "config.json").write_text(json.dumps(config))


def _features(
    torch: ModuleType, model: Any, backbone: Backbone, x: np.ndarray, dtype: Any
) -> np.ndarray:
    """Timm's features of pictures."""
    mean, std = (torch.tensor(v, dtype=dtype) for v in backbone.preprocessing[:2])
    inputs = (torch.from_numpy(x).to(dtype) - mean) / std
    with torch.no_grad():
        return model.to(dtype)(inputs.permute(0, 3, 1, 2)).numpy()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Relative, of L2 norms, to two digits."""
    distance = np.linalg.norm(a - b) / np.linalg.norm(b)
    return float(f"{distance:.1e}")


def import_module(name: str) -> ModuleType:
    """A module that may not be installed.

    Raises:
      InputError: if it is not.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} is not installed; pip install torch timm") from error


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.pretrained", __doc__))
