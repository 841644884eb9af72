"""The images of a folder and their masks, by name."""

from pathlib import Path

from metajax.data._faults import gather_faults
from metajax.data._report import unread
from metajax.data._tree import Tree, walk
from metajax.data._unreadable import describe
from metajax.data.listing import check_folder, warn_each
from metajax.errors import Fault, InputError

IMAGES, MASKS = "images", "masks"


def list_pairs(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder and their masks, both sorted by name.

    Raises:
      FilesError: if images or masks lack the other, or masks are no PNG files.
      InputError: if the folders or images are not there.
    """
    check_folder(folder)
    if missing := [x for x in (IMAGES, MASKS) if not (folder / x).is_dir()]:
        raise InputError(
            f"expected {folder} to hold the folders {IMAGES} and {MASKS}, and it has "
            f"no {' and no '.join(missing)}; it has {describe(folder)}"
        )
    trees = [walk(folder / name) for name in (IMAGES, MASKS)]
    for tree in trees:
        warn_each(unread(tree))
    (images, twice), (masks, again) = map(_by_name, trees)
    faults = twice + again
    wrong = [path for path in masks.values() if path.suffix.lower() != ".png"]
    reason = "is a mask in no PNG file"
    faults += [Fault(str(path), reason, "save it as one") for path in wrong]
    for ours, theirs, what in ((images, masks, "mask"), (masks, images, "image")):
        reason = f"has no {what} of its name in {MASKS if ours is images else IMAGES}"
        alone = [ours[name] for name in sorted(ours.keys() - theirs.keys())]
        mend = f"add the {what}, or move the file away"
        faults += [Fault(str(path), reason, mend) for path in alone]
    if faults:
        raise gather_faults(faults, folder)
    if not images:
        raise InputError(f"no images in {folder / IMAGES}; add them, and their masks")
    names = sorted(images)
    return [images[name] for name in names], [masks[name] for name in names]


def _by_name(tree: Tree) -> tuple[dict[str, Path], list[Fault]]:
    """The files of a tree by their path in it without a suffix."""
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(path for each in tree.images.values() for path in each):
        name = path.relative_to(tree.root).with_suffix("").as_posix()
        if files.setdefault(name, path) != path:
            reason = f"has the name of {files[name].name}, but for the suffix"
            faults.append(Fault(str(path), reason, "rename one of them"))
    return files, faults
