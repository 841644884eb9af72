"""The image files of a user's folder by class: which layouts are read, and how."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from metajax.data._names import Classes, clean, clean_path, counted, join_names, some
from metajax.data._report import copied, odd_folders, unread
from metajax.data._table import TABLE, read_table
from metajax.data._tree import SUFFIXES, Tree, entries, walk
from metajax.errors import InputError

Split = Literal["train", "validation", "test"]

NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
SPLITS = [name for names in NAMES.values() for name in names]
IMAGES = "images"  # the folder of a table's files
TABLES = "split"  # the folder of the tables of splits


@dataclass(frozen=True)
class Listing:
    """The images of a folder by class, and what a person should know of them.

    Attributes:
      folder: that holds them.
      classes: the files of each class, both sorted by name.
      lines: what is not read, or is read as one may not expect, a line each.
      table: that says the classes; None if folders do.
    """

    folder: Path
    classes: Classes
    lines: tuple[str, ...]
    table: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The images of all classes, in order."""
        return [path for files in self.classes.values() for path in files]


class Loose(NamedTuple):
    """The images of no class below a folder.

    Attributes:
      names: their paths below the folder, sorted.
      lines: what is not read, a line each.
    """

    names: list[str]
    lines: tuple[str, ...]


def warn_each(lines: Iterable[str]) -> None:
    """Warns of each line; the command prints it."""
    for line in lines:
        warnings.warn(line, stacklevel=3)


def list_images(path: Path, split: Split | None) -> Listing:
    """Lists the images of a folder or a table by class; see `image_folder`.

    Args:
      path: the folder, or the table.
      split: which part of the folder.

    Returns:
      A `Listing`.

    Raises:
      InputError: if the folder, the split or an image is not there, or a table is
        not as expected.
    """
    if not (path.is_file() and path.suffix.lower() == TABLE):
        check_folder(path)
        return _whole(path) if split is None else _split(path, split)
    if split is not None:
        raise InputError(
            f"{path} is one table, without splits: leave split={split!r} out, or "
            "pass the folder of train.csv, val.csv and test.csv"
        )
    inside = path.parent.name == TABLES and not (path.parent / IMAGES).is_dir()
    return _of_table(path, path.parent.parent if inside else path.parent)


def list_splits(folder: Path) -> list[Path]:
    """The images of every split of a folder, in order.

    Raises:
      InputError: if a folder may not be read.
    """
    roots, files = _roots(folder), set()
    for names in NAMES.values():
        if inner := _inner(folder, names):
            classes = [_classes(walk(path)) for path in inner]
            files |= {x for each in classes for held in each.values() for x in held}
        else:
            for table in _tables(folder, names)[:1]:
                files |= set(_named(table, roots))
    return sorted(files)


def list_loose(folder: Path) -> Loose:
    """Lists every image in a folder, at any depth.

    Raises:
      InputError: if the folder is not there, or there are none.
    """
    check_folder(folder)
    tree = walk(folder)
    if not (names := tree.named([x for files in tree.images.values() for x in files])):
        raise InputError(
            f"no images in {folder}: looked for {', '.join(SUFFIXES)} at any depth; "
            f"found {_found(folder)}"
        )
    return Loose(names, tuple(unread(tree)))


def check_folder(folder: Path) -> None:
    """Checks that a folder of images is one.

    Raises:
      InputError: if it is not.
    """
    if not folder.is_dir():
        what = "a file, not a folder; unpack it" if folder.exists() else "not there"
        raise InputError(f"expected a folder of images at {folder}, which is {what}")


def _whole(folder: Path) -> Listing:
    tree = walk(folder)
    classes = _classes(tree)
    nested = {name.split("/")[0] for name in classes if "/" in name}
    splits = sorted(name for name in nested if name.casefold() in SPLITS)
    tables = _tables(folder, SPLITS)
    # One folder of that name may be a class; two are splits, not to be mixed.
    if tables or len(splits) > 1:
        named = [table.relative_to(folder).as_posix() for table in tables] + splits
        raise InputError(
            f"{folder} is split ({', '.join(named)}): pass one of them, such as "
            f"{folder / named[0]}"
        )
    # No classes by folder, so a table that is there must say them.
    others = _beside(folder)
    if others and classes.keys() <= {IMAGES}:
        if len(others) > 1:
            named = ", ".join(path.name for path in others)
            raise InputError(f"{folder} has several tables ({named}); pass one of them")
        return _of_table(others[0], folder)
    return _of_tree(tree, others)


def _split(folder: Path, split: Split) -> Listing:
    inner, tables = _inner(folder, NAMES[split]), _tables(folder, NAMES[split])
    if len(inner) > 1:
        named = " and ".join(path.name for path in inner)
        raise InputError(
            f"{folder} has several {split} splits ({named}); rename or remove all but "
            "one of them"
        )
    if inner:
        unsplit = [t for t in _beside(folder) if t.stem.casefold() not in SPLITS]
        listing = _of_tree(walk(inner[0]), tables + unsplit)
        return replace(listing, lines=(*listing.lines, *_outside(folder)))
    if tables:
        return _of_table(tables[0], folder, tables[1:])
    looked = " or ".join(f"{name}/CLASS/*, {name}.csv" for name in NAMES[split])
    raise InputError(
        f"no {split} split in {folder}: looked for {looked}; found {_found(folder)}"
    )


def _inner(folder: Path, names: Iterable[str]) -> list[Path]:
    """The folders of a split."""
    return [
        path
        for path in entries(folder)
        if path.is_dir() and path.name.casefold() in names
    ]


def _outside(folder: Path) -> list[str]:
    """What holds images beside the folders of splits."""
    others = [
        path
        for path in entries(folder)
        if (path.is_dir() and path.name.casefold() not in SPLITS and walk(path).images)
        or (path.is_file() and path.suffix.lower() in SUFFIXES)
    ]
    if not others:
        return []
    named = some(path.name for path in others)
    return [f"images of {folder} in none of its splits are not read: {named}"]


def _tables(folder: Path, names: Iterable[str]) -> list[Path]:
    """The tables of splits, in a folder or in its `split/`, in the order of names."""
    places = [*_beside(folder), *_beside(folder / TABLES)]
    return [path for n in names for path in places if path.stem.casefold() == n]


def _beside(folder: Path) -> list[Path]:
    """The tables directly in a folder, if there is one."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in entries(folder)
        if path.suffix.lower() == TABLE and path.is_file()
    ]


def _classes(tree: Tree) -> Classes:
    """A class is a folder below the root that directly holds images."""
    return {
        folder.relative_to(tree.root).as_posix(): images
        for folder, images in tree.images.items()
        if folder != tree.root
    }


def _of_tree(tree: Tree, ignored: list[Path]) -> Listing:
    """The classes that are folders, of which there must be some."""
    root, loose = tree.root, len(tree.images.get(tree.root, []))
    if not (classes := _classes(tree)):
        raise InputError(
            f"no folders of images in {root}: put the images of each class "
            f"({', '.join(SUFFIXES)}) in a folder of its own; found "
            + (f"{loose} images in no class" if loose else _found(root))
        )
    joined, lines = join_names(classes, clean_path)
    if ignored := sorted({*ignored, *_beside(root)}):
        tables = some(os.path.relpath(path, root) for path in ignored)
        lines.append(f"the classes of {root} are its folders; not read: {tables}")
    if loose:
        lines.append(f"{counted(loose, 'image')} in no folder of {root}: not read")
    if empty := tree.named(tree.empty):
        lines.append(f"no pictures in {some(empty)} of {root}, so no class")
    lines += odd_folders(root, list(classes))
    lines += unread(_without_tables(tree)) + copied(joined, root)
    return Listing(root, joined, tuple(lines))


def _of_table(table: Path, folder: Path, ignored: Iterable[Path] = ()) -> Listing:
    """The classes of a table in Ravi and Larochelle's form, of files in a folder."""
    roots = _roots(folder)
    classes, lines = join_names(read_table(table, roots), clean)
    lines += [f"{other} is not read, but {table}" for other in ignored]
    named = {path for files in classes.values() for path in files}
    if table in (tables := _tables(folder, SPLITS)):
        named |= {path for other in tables for path in _named(other, roots)}
    tree = walk(roots[0])
    present = {path for files in tree.images.values() for path in files}
    if count := len(present - named):
        said = counted(count, "image")
        lines.append(f"{said} in {tree.root} and in no line of {table}: not read")
    if tree.root == folder:
        tree = _without_tables(tree)
    lines += unread(tree) + copied(classes, tree.root)
    return Listing(folder, classes, tuple(lines), table)


def _roots(folder: Path) -> list[Path]:
    """Where the files of a table may be."""
    return [root for root in (folder / IMAGES, folder) if root.is_dir()]


def _without_tables(tree: Tree) -> Tree:
    """A tree without the tables directly in its root, of which more is said."""
    tables = Counter({TABLE: len(_beside(tree.root))})
    return tree._replace(others=tree.others - tables)


def _named(table: Path, roots: list[Path]) -> list[Path]:
    """The files that another table names, if it can be read."""
    try:
        return [path for files in read_table(table, roots).values() for path in files]
    except InputError:
        return []


def _found(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return some(names) or "nothing"
