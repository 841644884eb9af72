"""Where the classes of a folder come from: folders, a table, or an HDF5 file."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from metajax.data.folders._hdf5 import DATA, find_hdf5, list_hdf5
from metajax.data.folders._listing import Listing
from metajax.data.folders._rows import TABLES
from metajax.data.folders.columns import Columns
from metajax.data.folders.names import (
    ALL_SPLITS,
    SPLIT_NAMES,
    Classes,
    clean,
    clean_path,
    counted,
    join_names,
    some,
)
from metajax.data.folders.report import copied, odd_folders, unread
from metajax.data.folders.table import (
    Named,
    has_rows,
    has_splits,
    place_of,
    read_table,
)
from metajax.data.folders.tree import SUFFIXES, Tree, entries, walk
from metajax.data.folders.unreadable import describe
from metajax.errors import InputError, argument

Split = Literal["train", "validation", "test"]

IMAGES = "images"  # the folder with the files that a table names
SPLIT_TABLES = "split"  # the folder with the tables of the splits


class Source(Protocol):
    """Images and their classes, as a folder, a table or a file gives them."""

    def files(self) -> set[Path]:
        """The image files, without any check."""
        ...

    def listing(self) -> Listing:
        """The images by class, with what a person should know."""
        ...


@dataclass(frozen=True)
class Folders:
    """A class is a folder below the root that directly holds images.

    Attributes:
      tree: what is below the root.
      ignored: tables that could also give the classes.
      columns: refused here, since they are for a table.
      lines: what a person should know about images outside the root.
    """

    tree: Tree
    ignored: tuple[Path, ...] = ()
    columns: Columns | None = None
    lines: tuple[str, ...] = ()

    @property
    def classes(self) -> Classes:
        """The files of each class, by the path of its folder."""
        return {
            folder.relative_to(self.tree.root).as_posix(): images
            for folder, images in self.tree.images.items()
            if folder != self.tree.root
        }

    def files(self) -> set[Path]:
        """See `Source`."""
        return {path for files in self.classes.values() for path in files}

    def listing(self) -> Listing:
        """See `Source`."""
        tree, root, classes = self.tree, self.tree.root, self.classes
        loose = len(tree.images.get(root, []))
        if not classes:
            raise InputError(
                f"no folders of images in {root}: put the images of each class "
                f"({', '.join(SUFFIXES)}) in a folder of its own; found "
                + (f"{loose} images in no class" if loose else describe(root, tree))
            )
        _refuse(self.columns, root)
        joined, lines = join_names(classes, clean_path)
        if ignored := sorted({*self.ignored, *tables_in(root)}):
            tables = some(os.path.relpath(path, root) for path in ignored)
            lines.append(f"the classes of {root} are its folders; not read: {tables}")
        if loose:
            lines.append(f"{counted(loose, 'image')} in no folder of {root}: not read")
        if empty := tree.named(tree.empty):
            lines.append(f"no pictures in {some(empty)} of {root}, so no class")
        lines += odd_folders(root, list(classes))
        lines += unread(_without_tables(tree)) + copied(joined, root)
        return Listing(root, joined, (*lines, *self.lines))


@dataclass(frozen=True)
class Table:
    """A table of files and their labels.

    Attributes:
      table: the table's file.
      folder: the folder that holds the images, itself or in its `images/`.
      columns: the names of the table's columns, if a person gave them.
      splits: the names of the split to read, if the table has a column of splits.
      ignored: other tables of the same split.
    """

    table: Path
    folder: Path
    columns: Columns | None = None
    splits: tuple[str, ...] | None = None
    ignored: tuple[Path, ...] = ()

    @property
    def roots(self) -> list[Path]:
        """The folders that its paths may be relative to."""
        return [x for x in (self.folder / IMAGES, self.folder) if x.is_dir()]

    def files(self) -> set[Path]:
        """See `Source`; none if the table cannot be read."""
        try:
            classes = self._read().classes
        except InputError:
            return set()
        return {path for files in classes.values() for path in files}

    def listing(self) -> Listing:
        """See `Source`."""
        table, folder = self.table, self.folder
        named = self._read()
        classes, lines = join_names(named.classes, clean)
        lines += named.lines
        lines += [f"{table} is read, not {other}" for other in self.ignored]
        tree = walk(self.roots[0])
        if tree.root == folder:
            tree = _without_tables(tree)
        if count := len(_images_of(tree) - self._named_anywhere()):
            images = counted(count, "image")
            lines.append(f"{images} in {tree.root} and in no line of {table}: not read")
        lines += unread(tree) + copied(classes, tree.root)
        return Listing(folder, classes, tuple(lines), table, named.faults)

    def _read(self) -> Named:
        place = place_of(self.folder, self.roots)
        return read_table(self.table, place, self.columns, self.splits)

    def _named_anywhere(self) -> set[Path]:
        """The files that this table and those of the other splits name."""
        tables = split_tables(self.folder, ALL_SPLITS)
        if self.table not in tables:
            tables = [self.table]
        each = (replace(self, table=table, splits=None).files() for table in tables)
        return set().union(*each)


@dataclass(frozen=True)
class Hdf5:
    """An HDF5 file with an array for each class; `columns` are refused here."""

    file: Path
    columns: Columns | None = None

    def files(self) -> set[Path]:
        """See `Source`; none, since it holds arrays."""
        return set()

    def listing(self) -> Listing:
        """See `Source`."""
        _refuse(self.columns, self.file)
        return list_hdf5(self.file)


def find_whole(folder: Path, columns: Columns | None) -> Source:
    """The source of a folder that is not split.

    Raises:
      InputError: if the folder is split, or has several tables.
    """
    tree = walk(folder)
    folders = Folders(tree, columns=columns)
    classes = folders.classes
    nested = {name.split("/")[0] for name in classes if "/" in name}
    splits = sorted(name for name in nested if name.casefold() in ALL_SPLITS)
    files = split_tables(folder, ALL_SPLITS)
    files += [x for n in ALL_SPLITS if (x := find_hdf5(folder, (n,))) is not None]
    # One folder named as a split may be a class; two are splits, not to be mixed.
    if files or len(splits) > 1:
        named = [file.relative_to(folder).as_posix() for file in files] + splits
        raise InputError(
            f"{folder} is split ({', '.join(named)}): pass one of them, such as "
            f"{folder / named[0]}; or, in Python, its name as the split"
        )
    # Without folders of classes, a table must give the classes.
    tables = tables_in(folder)
    if tables and classes.keys() <= {IMAGES}:
        return Table(_only(tables, folder), folder, columns)
    return folders


def find_split(folder: Path, split: Split, columns: Columns | None) -> Source:
    """The source of a split: a folder, or else a table, or else an HDF5 file.

    Raises:
      InputError: if there is none, or there are several folders or tables.
    """
    if (source := _split_source(folder, split, columns)) is not None:
        return source
    names = SPLIT_NAMES[split]
    expected = " or ".join(f"{name}/CLASS/*, {name}.csv" for name in names)
    raise InputError(
        f"no {split} split in {folder}: expected {expected}, {names[-1]}{DATA}, or a "
        f"table with a column split, got {describe(folder)}"
    )


def holds_split(folder: Path, split: Split, columns: Columns | None) -> bool:
    """Whether a folder has a split, in any of these forms.

    Raises:
      InputError: if there are several folders or tables.
    """
    source = _split_source(folder, split, columns)
    if isinstance(source, Table) and source.splits is not None:
        return has_rows(source.table, columns, source.splits)
    return source is not None


def _split_source(folder: Path, split: Split, columns: Columns | None) -> Source | None:
    """The source of a split; None if there is none."""
    names = SPLIT_NAMES[split]
    inner, tables = split_folder(folder, split), split_tables(folder, names)
    beside = tables_in(folder)
    if inner is not None:
        others = [t for t in beside if t.stem.casefold() not in ALL_SPLITS]
        return _find_inside(inner, (*tables, *others), folder, columns)
    if tables:
        return Table(tables[0], folder, columns, ignored=tuple(tables[1:]))
    if file := find_hdf5(folder, names):
        return Hdf5(file, columns)
    if whole := [table for table in beside if has_splits(table, columns)]:
        return Table(_only(whole, folder), folder, columns, names)
    return None


def _find_inside(
    inner: Path, ignored: tuple[Path, ...], folder: Path, columns: Columns | None
) -> Source:
    """The source in the folder of a split: its folders, or a table in it."""
    lines = tuple(_outside(folder))
    source = Folders(walk(inner), ignored, columns, lines)
    tables = tables_in(inner)
    if tables and source.classes.keys() <= {IMAGES}:  # Hugging Face's layout
        return Table(_only(tables, inner), inner, columns, ignored=ignored)
    return source


def split_tables(folder: Path, names: Iterable[str]) -> list[Path]:
    """The tables of splits in a folder or in its `split/`, in the order of `names`."""
    places = [*tables_in(folder), *tables_in(folder / SPLIT_TABLES)]
    return [path for n in names for path in places if path.stem.casefold() == n]


def tables_in(folder: Path) -> list[Path]:
    """The tables directly in a folder; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in entries(folder)
        if path.suffix.lower() in TABLES and path.is_file()
    ]


def _refuse(columns: Columns | None, where: Path) -> None:
    if columns is not None:
        raise InputError(
            f"{argument('columns')} is for a table, and {where} gives the classes "
            "without one; leave it out"
        )


def _only(tables: list[Path], folder: Path) -> Path:
    if len(tables) > 1:
        named = ", ".join(path.name for path in tables)
        raise InputError(f"{folder} has several tables ({named}); pass one of them")
    return tables[0]


def split_folder(folder: Path, split: Split) -> Path | None:
    """The folder of a split in a folder; None if there is none.

    Raises:
      InputError: if there are several.
    """
    names = SPLIT_NAMES[split]
    inner = [x for x in entries(folder) if x.is_dir() and x.name.casefold() in names]
    if len(inner) > 1:
        named = " and ".join(path.name for path in inner)
        raise InputError(
            f"{folder} has several {split} splits ({named}); rename or remove all but "
            "one of them"
        )
    return inner[0] if inner else None


def _outside(folder: Path) -> list[str]:
    """A line about images outside the folders of splits, if there are any."""

    def has_images(path: Path) -> bool:
        if path.is_dir():
            return path.name.casefold() not in ALL_SPLITS and bool(walk(path).images)
        return path.is_file() and path.suffix.lower() in SUFFIXES

    others = [path.name for path in entries(folder) if has_images(path)]
    if not others:
        return []
    return [f"images of {folder} in none of its splits are not read: {some(others)}"]


def _images_of(tree: Tree) -> set[Path]:
    return {path for files in tree.images.values() for path in files}


def _without_tables(tree: Tree) -> Tree:
    """A tree without the tables directly in its root, which other lines describe."""
    suffixes = Counter(path.suffix.lower() for path in tables_in(tree.root))
    return tree._replace(others=tree.others - suffixes)
