"""The images below a folder, and the other files there."""

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from metajax.errors import InputError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".bmp", ".gif", ".webp", ".tif", ".tiff"),
)
# Names of files and folders that operating systems create.
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
    """What is below a folder; each folder counts once, whatever links lead to it.

    Attributes:
      root: the folder.
      images: the images directly in each folder that has some.
      others: the number of other files by suffix, or by name if there is no suffix.
      empty: the folders with neither folders nor images.
      broken: the links that lead nowhere.
      repeated: the links to folders that are reached by another path.
    """

    root: Path
    images: dict[Path, list[Path]]
    others: Counter[str]
    empty: list[Path]
    broken: list[Path]
    repeated: list[Path]

    def named(self, paths: list[Path]) -> list[str]:
        """The paths relative to the root, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in paths)


def _raise(error: InputError) -> NoReturn:
    raise error


def walk(root: Path, refuse: Callable[[InputError], object] = _raise) -> Tree:
    """Lists a folder at every depth, without hidden or system files.

    A folder in it that is deleted meanwhile is passed over.

    Args:
      root: the folder.
      refuse: takes the error of a folder that cannot be read, which is passed over.

    Raises:
      InputError: if a folder cannot be read, by default.
    """
    tree = Tree(root, {}, Counter(), [], [], [])
    seen: set[tuple[int, int]] = set()
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                tree.repeated.append(folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            waiting += _list_one(folder, tree)
        except OSError as error:
            if folder == root or not isinstance(error, FileNotFoundError):
                refuse(_unreadable(folder, error))
    return tree


def entries(folder: Path) -> list[Path]:
    """What is directly in a folder, sorted, without hidden or system files.

    Raises:
      InputError: if the folder may not be read.
    """
    try:
        return _entries(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not _is_litter(path.name))


def _unreadable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"the folder {folder} cannot be read ({error.strerror}); allow reading it, "
        "or move it away"
    )


def _list_one(folder: Path, tree: Tree) -> list[Path]:
    """Adds what is directly in a folder to a tree, and returns the folders in it."""
    inside, images = [], []
    for path in _entries(folder):
        if path.is_dir():
            inside.append(path)
        elif path.suffix.lower() in SUFFIXES:
            images.append(path)
        elif path.is_symlink() and not path.exists():
            tree.broken.append(path)
        else:
            tree.others[path.suffix.lower() or path.name] += 1
    if images:
        tree.images[folder] = images
    elif not inside:
        tree.empty.append(folder)
    return inside


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
