"""How many pictures a second a backbone labels, beside a PyTorch loop of the same.

    python -m benchmarks.label_backbone [--network NAME] [--to RECORD.json]

It needs torch and timm. Made-up JPEGs are labelled by class means of centred features
of length one, taught by two pictures of each of two classes: by `metajax.labelling`,
and by timm's network and transform in PyTorch, decoded in as many threads. Both are
warmed up, and then label in turn. "Again" is ours with every feature kept, and "agree"
the share of pictures that both label alike.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Annotated, Any

import jax
import numpy as np
from PIL import Image

from benchmarks.command import run_command
from benchmarks.pretrained import import_module, write_network
from benchmarks.settings import Check, Count, NewFile
from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.labelling import (
    FeatureCache,
    FolderLabels,
    Labeller,
    read_backbone,
    teach_backbone,
)

BATCH = 16  # of the PyTorch loop, as ours
CLASSES, SHOTS = ("dark", "light"), 2


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    network: str = "resnet18"
    """timm's name."""
    pictures: Annotated[int, Check(partial(check_count, least=BATCH))] = 200
    """JPEGs to label, at least 16."""
    side: Count = 224
    """Their height and width."""
    rounds: Count = 3
    """Runs of each, of which the median is kept."""
    to: NewFile | None = None
    """File to keep the record in."""


def main(settings: Settings) -> None:
    """Prints pictures a second, and keeps a record.

    Raises:
      InputError: if torch or timm is missing, or timm has no such network.
    """
    torch, timm = (import_module(name) for name in ("torch", "timm"))
    torch.manual_seed(0)
    try:
        model = timm.create_model(settings.network).eval()
    except RuntimeError as error:
        raise InputError(f"timm has no network {settings.network!r}") from error
    with tempfile.TemporaryDirectory() as folder:
        result = measure(torch, timm, model, settings, Path(folder))
    print(*(f"{key} {value}" for key, value in result.items()))
    if settings.to is not None:
        versions = {"timm": timm.__version__, "torch": torch.__version__}
        versions |= {"jax": jax.__version__, "cores": os.cpu_count()}
        record = {"results": {settings.network: result}, "versions": versions}
        write_whole(settings.to, json.dumps(record, indent=2) + "\n")


def measure(
    torch: ModuleType, timm: ModuleType, model: Any, settings: Settings, folder: Path
) -> dict[str, float]:
    """Pictures a second of both, and of ours with every feature kept.

    Args:
      torch: the module.
      timm: the module.
      model: timm's network.
      settings: what is measured.
      folder: for its files.
    """
    write_network(model, folder)
    names = write_pictures(folder / "images", settings.pictures, settings.side)
    for i, name in enumerate(names[: len(CLASSES) * SHOTS]):
        place = folder / "support" / CLASSES[i % 2] / f"{i}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((folder / "images" / name).read_bytes())
    file = read_backbone(folder)
    model.reset_classifier(0)

    labeller = teach_backbone(file, folder / "support", head="prototypes")
    theirs = torch_labels(torch, timm, model, folder)
    times: dict[str, list[float]] = {"ours": [], "pytorch": [], "again": []}
    labels: dict[str, list[str]] = {}
    for i in range(settings.rounds + 1):  # the first is the warm-up
        ours = partial(our_labels, labeller, folder, folder / f"{i}.sqlite")
        for key, run in {"ours": ours, "pytorch": theirs, "again": ours}.items():
            start = time.perf_counter()
            labels[key] = run(names if i else names[:BATCH])
            times[key].append(time.perf_counter() - start)
    rates = {key: round(len(names) / median(x[1:]), 1) for key, x in times.items()}
    alike = np.mean([a == b for a, b in zip(labels["ours"], labels["pytorch"])])
    return rates | {"agree": round(float(alike), 4)}


def our_labels(
    labeller: Labeller, folder: Path, kept: Path, names: list[str]
) -> list[str]:
    """Labels of pictures, whose features are kept in a file."""
    source = labeller.source
    assert source.embedding is not None
    cache = FeatureCache(kept, "")
    embedding = source.embedding._replace(cache=lambda form: cache)
    labeller = labeller._replace(source=source._replace(embedding=embedding))
    return [x.label for x in FolderLabels(labeller, folder / "images", names)]


def write_pictures(folder: Path, count: int, side: int) -> list[str]:
    """Writes noisy JPEGs, dark and light in turn, and returns their names."""
    folder.mkdir()
    random = np.random.default_rng(0)
    names = [f"{i:05d}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        coarse = random.integers(0, 128, (8, 8, 3)) + 127 * (i % 2)
        picture = Image.fromarray(coarse.astype(np.uint8)).resize((side, side))
        picture.save(folder / name, quality=90)
    return names


def torch_labels(
    torch: ModuleType, timm: ModuleType, model: Any, folder: Path
) -> Callable[[list[str]], list[str]]:
    """The same by timm's network and transform, taught already."""
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, model=model)
    )

    def load(path: Path) -> Any:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    def embed(paths: list[Path]) -> np.ndarray:
        features = []
        with ThreadPoolExecutor(os.cpu_count()) as threads, torch.inference_mode():
            loaded = list(threads.map(load, paths[:BATCH]))
            for start in range(0, len(paths), BATCH):
                following = paths[start + BATCH : start + 2 * BATCH]
                ahead = [threads.submit(load, path) for path in following]
                features.append(model(torch.stack(loaded)).numpy())
                loaded = [future.result() for future in ahead]
        return np.concatenate(features)

    support = [sorted((folder / "support" / name).iterdir()) for name in CLASSES]
    taught = embed([path for paths in support for path in paths])
    mean = taught.mean(0)
    centres = _unit(taught - mean).reshape(len(CLASSES), SHOTS, -1).mean(1)

    def label(names: list[str]) -> list[str]:
        rows = _unit(embed([folder / "images" / name for name in names]) - mean)
        scores = 2 * rows @ centres.T - np.sum(centres**2, 1)
        return [CLASSES[i] for i in scores.argmax(1)]

    return label


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.label_backbone", __doc__))
