"""The images of a folder and their masks, by name."""

from pathlib import Path

from metajax.data.folders.listing import check_folder, warn_each
from metajax.data.folders.report import unread
from metajax.data.folders.tree import walk
from metajax.data.folders.unreadable import describe
from metajax.data.pictures.faults import gather_faults
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
    (images, twice), (masks, again) = (_by_name(folder / x) for x in (IMAGES, MASKS))
    faults = twice + again + _alone(images, masks, "mask", MASKS)
    faults += _alone(masks, images, "image", IMAGES)
    wrong = [path for path in masks.values() if path.suffix.lower() != ".png"]
    reason = "is a mask in no PNG file"
    faults += [Fault(str(path), reason, "save it as one") for path in wrong]
    if faults:
        raise gather_faults(faults, folder)
    if not images:
        raise InputError(f"no images in {folder / IMAGES}; add them, and their masks")
    names = sorted(images)
    return [images[name] for name in names], [masks[name] for name in names]


def _alone(
    ours: dict[str, Path], theirs: dict[str, Path], what: str, where: str
) -> list[Fault]:
    """The files that lack another of their name."""
    reason = f"has no {what} of its name in {where}"
    mend = f"add the {what}, or move the file away"
    alone = sorted(ours.keys() - theirs.keys())
    return [Fault(str(ours[name]), reason, mend) for name in alone]


def _by_name(root: Path) -> tuple[dict[str, Path], list[Fault]]:
    """The files below a folder by their path in it without a suffix."""
    tree = walk(root)
    warn_each(unread(tree))
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(path for each in tree.images.values() for path in each):
        name = path.relative_to(root).with_suffix("").as_posix()
        if files.setdefault(name, path) != path:
            reason = f"has the name of {files[name].name}, but for the suffix"
            faults.append(Fault(str(path), reason, "rename one of them"))
    return files, faults
