"""The packages of icons that emoji are taken from."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metajax._files.writing import write_whole
from metajax.errors import InputError

SCOPE = "@iconify-json"


class Foundry(NamedTuple):
    """A set of drawings.

    Attributes:
      package: the name of the package of npm, in its scope.
      version: the one that is installed.
      maker: who drew it; some makers have two sets.
    """

    package: str
    version: str
    maker: str


FOUNDRIES = (
    Foundry("emojione", "1.2.3", "Emoji One"),
    Foundry("emojione-v1", "1.2.3", "Emoji One"),
    Foundry("fluent-emoji", "1.2.7", "Microsoft"),
    Foundry("fluent-emoji-flat", "1.2.6", "Microsoft"),
    Foundry("noto", "1.2.9", "Google"),
    Foundry("noto-v1", "1.2.5", "Google"),
    Foundry("openmoji", "1.2.29", "OpenMoji"),
    Foundry("twemoji", "1.2.5", "Twitter"),
)
# Somebody drew these exactly as white-square-button and black-circle.
LEFT_OUT = frozenset(("black-medium-square", "new-moon"))
Icons = Mapping[str, Mapping[str, Any]]


def install(folder: Path) -> None:
    """Installs the packages by npm, without running any code of theirs.

    Args:
      folder: where they go.

    Raises:
      InputError: if npm is missing or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions = {f"{SCOPE}/{f.package}": f.version for f in FOUNDRIES}
    package = {"private": True, "dependencies": versions}
    write_whole(folder / "package.json", json.dumps(package, indent=1) + "\n")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=folder, check=True)
    except FileNotFoundError as error:
        raise InputError("npm is not installed; it comes with Node.js") from error
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"npm install failed in {folder} (status {error.returncode}); its message "
            "is above"
        ) from error


def read_icons(folder: Path, foundry: Foundry) -> Icons:
    """The drawings of a foundry by name, each with its body and its box.

    Args:
      folder: where the packages are installed.
      foundry: which of them.

    Raises:
      InputError: if the package is not there.
    """
    sheet = _read(folder, foundry, "icons.json")
    box = {"left": 0, "top": 0, "width": sheet["width"], "height": sheet["height"]}
    icons = sheet["icons"].items()
    return {name: box | icon for name, icon in icons if not icon.get("hidden")}


def licence(folder: Path, foundry: Foundry) -> str:
    """A line that says whose drawings these are, and under which licence."""
    facts = _read(folder, foundry, "info.json")
    author, terms = facts["author"], facts["license"]
    return (
        f"{foundry.package}: {facts['name']} by {author['name']} ({author['url']}), "
        f"{terms['spdx']} ({terms['url']}); {SCOPE}/{foundry.package} "
        f"{foundry.version}, drawn as PNG of another size on white"
    )


def svg(icon: Mapping[str, Any], side: int) -> str:
    """A drawing as a square picture, with its proportions kept.

    Args:
      icon: its body and its box.
      side: of the picture, in pixels.

    >>> svg({"left": 0, "top": 0, "width": 2, "height": 1, "body": "<g/>"}, 8)
    '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"
      viewBox="0 0 2 1"><g/></svg>'
    """
    box = " ".join(str(icon[name]) for name in ("left", "top", "width", "height"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" '
        f'viewBox="{box}">{icon["body"]}</svg>'
    )


def common_names(icons: Mapping[str, Icons]) -> list[str]:
    """The names that every foundry has, sorted, without those that look like others.

    >>> drawings = {"cat": {}, "dog": {}, "new-moon": {}}
    >>> common_names({"a": drawings, "b": drawings | {"ox": {}}})
    ['cat', 'dog']
    """
    common = set.intersection(*(set(drawings) for drawings in icons.values()))
    return sorted(common - LEFT_OUT)


def _read(folder: Path, foundry: Foundry, name: str) -> Any:
    path = folder / "node_modules" / SCOPE / foundry.package / name
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove {folder} and prepare again"
        ) from error
