"""What lies below a folder: images, and what is passed over."""

from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

from metajax.errors import InputError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".bmp", ".gif", ".webp", ".tif", ".tiff"),
)
# What systems leave behind, and no person means.
LITTER = {
    "__macosx",
    "@eadir",
    "thumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


class Tree(NamedTuple):
    """What lies below a folder, each folder once, however many links lead to it.

    Attributes:
      root: the folder.
      images: the images directly in each folder that holds some.
      others: how many other files there are, by suffix, or by name without one.
      empty: the folders that hold neither folders nor images.
      dead: the links that lead nowhere.
      again: the links to folders that are there by another path.
    """

    root: Path
    images: dict[Path, list[Path]]
    others: Counter[str]
    empty: list[Path]
    dead: list[Path]
    again: list[Path]

    def named(self, paths: list[Path]) -> list[str]:
        """Paths as they are below the root, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in paths)


def walk(root: Path) -> Tree:
    """Lists a folder at every depth; what is hidden, or a system's, is passed over.

    Raises:
      InputError: if a folder may not be read.
    """
    tree = Tree(root, {}, Counter(), [], [], [])
    seen: set[tuple[int, int]] = set()
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            tree.again.append(folder)
            continue
        seen.add((status.st_dev, status.st_ino))
        waiting += _list_one(folder, tree)
    return tree


def entries(folder: Path) -> list[Path]:
    """What is in a folder and neither hidden nor a system's, sorted.

    Raises:
      InputError: if it may not be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not _is_litter(path.name))
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read ({error.strerror}); let it be read, "
            "or move it away"
        ) from error


def _list_one(folder: Path, tree: Tree) -> list[Path]:
    """Adds what is directly in a folder to a tree, and returns the folders in it."""
    inside, images = [], []
    for path in entries(folder):
        if path.is_dir():
            inside.append(path)
        elif path.suffix.lower() in SUFFIXES:
            images.append(path)
        elif path.is_symlink() and not path.exists():
            tree.dead.append(path)
        else:
            tree.others[path.suffix.lower() or path.name] += 1
    if images:
        tree.images[folder] = images
    elif not inside:
        tree.empty.append(folder)
    return inside


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
