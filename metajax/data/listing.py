"""The image files of a user's folder by class: which layouts are read, and how."""

import csv
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from metajax.errors import InputError

Split = Literal["train", "validation", "test"]
Classes = dict[str, list[Path]]

NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
COLUMNS = ("filename", "label")
TABLE = ".csv"
IMAGES = "images"  # the folder of a table's files
SHOWN = 5  # entries of a folder, in an error


def list_images(path: Path, split: Split | None) -> Classes:
    """The files of each class, both sorted by name; see `metajax.data.image_folder`.

    Raises:
      InputError: if the folder, the split or an image is not there, or a table is
        not as expected.
    """
    if path.is_file() and path.suffix.lower() == TABLE:
        if split is not None:
            raise InputError(
                f"{path} is one table, without splits: leave split={split!r} out, or "
                "pass the folder of train.csv, val.csv and test.csv"
            )
        classes = _table(path, path.parent)
    else:
        check_folder(path)
        classes = _whole(path) if split is None else _split(path, split)
    return {name: sorted(files) for name, files in sorted(classes.items())}


def list_empty(folder: Path, classes: Classes) -> list[str]:
    """The folders that would be classes if there were an image in them; sorted.

    None where a table says the classes of the files.
    """
    for name, files in classes.items():
        if any(path.parent != folder / name for path in files):
            return []
    inner = (path for path in _folders(folder) if path != folder)
    empty = (path for path in inner if not _inside(path) and not _images(path))
    return sorted(path.relative_to(folder).as_posix() for path in empty)


class Loose(NamedTuple):
    """What is in a folder of images of no class.

    Attributes:
      names: of the images, by their paths below the folder, sorted.
      others: how many other files there are, by suffix.
    """

    names: list[str]
    others: Counter[str]


def list_loose(folder: Path) -> Loose:
    """Every image in a folder, at any depth.

    Raises:
      InputError: if the folder is not there, or there are none.
    """
    check_folder(folder)
    names: list[str] = []
    others: Counter[str] = Counter()
    for path in (path for inner in _folders(folder) for path in _files(inner)):
        if _is_image(path):
            names.append(path.relative_to(folder).as_posix())
        else:
            others[path.suffix.lower() or path.name] += 1
    if not names:
        raise InputError(
            f"no images in {folder}: looked for {', '.join(SUFFIXES)} at any depth; "
            f"found {_entries(folder)}"
        )
    return Loose(sorted(names), others)


def check_folder(folder: Path) -> None:
    """Checks that a folder of images is one.

    Raises:
      InputError: if it is not.
    """
    if not folder.is_dir():
        what = "a file, not a folder; unpack it" if folder.exists() else "not there"
        raise InputError(f"expected a folder of images at {folder}, which is {what}")


def _whole(folder: Path) -> Classes:
    classes = _classes(folder)
    every = [name for names in NAMES.values() for name in names]
    nested = {name.split("/")[0] for name in classes if "/" in name}
    splits = sorted(nested & set(every))
    tables = [table.relative_to(folder).as_posix() for table in _tables(folder, every)]
    # One folder of that name may be a class; two are splits, not to be mixed.
    if tables or len(splits) > 1:
        raise InputError(
            f'{folder} is split ({", ".join(tables + splits)}): pass split="train", '
            '"validation" or "test"'
        )
    # No classes by folder, so a table that is there must say them.
    others = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == TABLE and not path.name.startswith(".")
    ]
    if others and classes.keys() <= {IMAGES}:
        if len(others) > 1:
            named = ", ".join(path.name for path in others)
            raise InputError(f"{folder} has several tables ({named}); pass one of them")
        return _table(others[0], folder)
    return classes or _tree(folder)


def _split(folder: Path, split: Split) -> Classes:
    names = NAMES[split]
    for inner in (folder / name for name in names):
        if inner.is_dir():
            return _tree(inner)
    for table in _tables(folder, names):
        return _table(table, folder)
    looked = " or ".join(f"{name}/CLASS/*, {name}.csv" for name in names)
    raise InputError(
        f"no {split} split in {folder}: looked for {looked}; found {_entries(folder)}"
    )


def _tables(folder: Path, names: Iterable[str]) -> list[Path]:
    """The tables of splits, in a folder or in its `split/`."""
    places = [
        folder / f"{inside}{name}.csv" for inside in ("", "split/") for name in names
    ]
    return [table for table in places if table.is_file()]


def _classes(root: Path) -> Classes:
    """A class is a folder below `root` that directly holds images."""
    return {
        folder.relative_to(root).as_posix(): images
        for folder in _folders(root)
        if folder != root and (images := _images(folder))
    }


def _tree(root: Path) -> Classes:
    """The classes below `root`, of which there must be some."""
    if not (classes := _classes(root)):
        loose = len(_images(root))
        raise InputError(
            f"no folders of images in {root}: put the images of each class "
            f"({', '.join(SUFFIXES)}) in a folder of its own; found "
            + (f"{loose} images in no class" if loose else _entries(root))
        )
    return classes


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those below it, each once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        found = folder.stat()
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        yield folder
        waiting += sorted(_inside(folder))


def _inside(folder: Path) -> list[Path]:
    """The folders in a folder."""
    return [
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".")
    ]


def _images(folder: Path) -> list[Path]:
    return list(filter(_is_image, _files(folder)))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.name.startswith(".") and not path.is_dir():
            yield path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _table(table: Path, folder: Path) -> Classes:
    """The classes of a table in Ravi and Larochelle's form, of files in a folder."""
    roots = [root for root in (folder / IMAGES, folder) if root.is_dir()]
    classes: Classes = {}
    seen: set[Path] = set()
    for line, filename, label in _rows(table):
        given = Path(filename)
        outside = given.is_absolute() or ".." in given.parts
        places = [] if outside else [root / filename for root in roots]
        path = next(filter(os.path.isfile, places), None)
        if path is None:
            raise InputError(
                f"line {line} of {table} names {filename}, which is not in {roots[0]}: "
                "put it there, or delete the line"
            )
        if path in seen:
            raise InputError(
                f"line {line} of {table} names {filename} again; delete the line"
            )
        seen.add(path)
        classes.setdefault(label, []).append(path)
    if not classes:
        raise InputError(f"{table} names no images; expected a line for each")
    return classes


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = reader.fieldnames or ()
            if not set(COLUMNS) <= set(columns):
                raise InputError(
                    f"{table} must have the columns {','.join(COLUMNS)}, got "
                    f"{','.join(columns) or 'none'}"
                )
            for row in reader:
                filename, label = (row[name] for name in COLUMNS)
                if not filename or not label:
                    raise InputError(
                        f"line {reader.line_num} of {table} must have a filename and a "
                        "label; fill it in, or delete it"
                    )
                yield reader.line_num, filename, label
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table} is not a table of UTF-8 text ({error}); save it as one"
        ) from error


def _entries(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join(names[:SHOWN] + more) or "nothing"
