"""What a person should know of how a folder of images was read, a line each."""

import os
from pathlib import Path

from metajax.data.folders._copies import copies
from metajax.data.folders.names import Classes, counted, some
from metajax.data.folders.tree import Tree


def odd_folders(root: Path, names: list[str]) -> list[str]:
    """What makes it unlikely that every folder of images was meant as a class."""
    lines = []
    by_depth = {name.count("/"): name for name in reversed(names)}
    if len(by_depth) > 1:
        several = ", ".join(by_depth[depth] for depth in sorted(by_depth))
        lines.append(
            f"folders of images of {root} lie at several depths ({several}), and each "
            "is a class of its own"
        )
    for above, (beside, shared) in _alike(names).items():
        lines.append(
            f"{some(sorted(beside))} of {root / above} hold folders of the same names "
            f"({some(sorted(shared))}), and each is a class of its own; if one holds "
            "masks, or the images again, pass the other"
        )
    return lines


def _alike(names: list[str]) -> dict[str, tuple[set[str], set[str]]]:
    """By folder, those in it that hold classes of the same names, and those names."""
    holders: dict[tuple[str, str], set[str]] = {}
    for name in names:
        parts = name.split("/")
        for i, part in enumerate(parts[:-1]):
            place = "/".join(parts[:i]), "/".join(parts[i + 1 :])
            holders.setdefault(place, set()).add(part)
    alike: dict[str, tuple[set[str], set[str]]] = {}
    for (above, below), folders in holders.items():
        if len(folders) > 1:
            beside, shared = alike.setdefault(above, (set(), set()))
            beside |= folders
            shared.add(below)
    return alike


def unread(tree: Tree) -> list[str]:
    """The files and links of a tree that no images are read from."""
    lines = []
    if tree.others:
        kinds = some(f"{n} {kind}" for kind, n in tree.others.most_common())
        said = counted(tree.others.total(), "other file")
        lines.append(f"{said} passed over in {tree.root}: {kinds}")
    if broken := tree.named(tree.broken):
        said = counted(len(broken), "link")
        lines.append(f"{said} broken in {tree.root}: {some(broken)}")
    if repeated := tree.named(tree.repeated):
        said = counted(len(repeated), "link")
        lines.append(
            f"{said} passed over in {tree.root}, to folders that are read already: "
            f"{some(repeated)}"
        )
    return lines


def copied(classes: Classes, folder: Path) -> list[str]:
    """The files that are under two labels, or twice under one."""
    apart, together = copies(classes)
    lines = []
    if apart:
        lines.append(
            f"{counted(len(apart), 'image')} under two labels in {folder}, the same "
            f"byte for byte: {_named(apart, folder)}"
        )
    if together:
        lines.append(
            f"{counted(len(together), 'image')} twice under one label in {folder}, the "
            f"same byte for byte: {_named(together, folder)}; delete the copies, as "
            "accuracy on a picture that was learnt says little"
        )
    return lines


def _named(pairs: list[tuple[Path, Path]], folder: Path) -> str:
    return some(" and ".join(os.path.relpath(x, folder) for x in p) for p in pairs)
