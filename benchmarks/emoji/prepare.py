"""From packages of icons to folders of pictures."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.emoji.foundries import (
    FOUNDRIES,
    common_names,
    install,
    licence,
    read_icons,
    svg,
)
from metajax._files.writing import write_whole
from metajax.errors import InputError

SIDE = 224  # pixels
PICTURES, PACKAGES, LICENCES = "pictures", "packages", "LICENCES"
HELD = {"test": 200, "validation": 100}  # names; training has the others
RENDERER = "resvg-py"

Draw = Callable[[str], bytes]


def prepare(folder: Path) -> None:
    """Writes `folder/pictures/SPLIT/NAME/FOUNDRY.png` and `folder/LICENCES`.

    A picture that is there already is not drawn again.

    Args:
      folder: it is made if it is not there.

    Raises:
      InputError: if npm or the renderer is missing.
    """
    draw = renderer()
    packages = folder / PACKAGES
    install(packages)
    licences = [licence(packages, foundry) for foundry in FOUNDRIES]
    write_whole(folder / LICENCES, "\n".join(licences) + "\n")
    icons = {f.package: read_icons(packages, f) for f in FOUNDRIES}
    splits = split_names(common_names(icons))
    for split, names in splits.items():
        print(f"drawing {len(names)} {split} names", file=sys.stderr, flush=True)
        for name in names:
            place = folder / PICTURES / split / name
            place.mkdir(parents=True, exist_ok=True)
            for package, drawings in icons.items():
                path = place / f"{package}.png"
                if not path.exists():
                    write_whole(path, draw(svg(drawings[name], SIDE)))


def split_names(names: list[str]) -> dict[str, list[str]]:
    """Names to train on, to validate on and to test on, the same ones every time.

    Raises:
      InputError: if there are too few.

    >>> {k: len(v) for k, v in split_names([str(i) for i in range(310)]).items()}
    {'test': 200, 'validation': 100, 'train': 10}
    """
    if len(names) <= sum(HELD.values()):
        raise InputError(
            f"expected more than {sum(HELD.values())} names, got {len(names)}"
        )
    order = np.random.default_rng(0).permutation(len(names))
    splits, start = {}, 0
    for split, count in (HELD | {"train": len(names)}).items():
        chosen = order[start : start + count]
        splits[split], start = sorted(names[i] for i in chosen), start + count
    return splits


def renderer() -> Draw:
    """A function from the text of an SVG to the bytes of a PNG, on white.

    Raises:
      InputError: if the renderer is not installed.
    """
    try:
        resvg = importlib.import_module("resvg_py")
    except ImportError as error:
        raise InputError(
            f"{RENDERER} is not installed; pip install {RENDERER}==0.5.0"
        ) from error
    return lambda text: bytes(
        resvg.svg_to_bytes(svg_string=text, background="white", skip_system_fonts=True)
    )
