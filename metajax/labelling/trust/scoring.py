"""Scores labels against the truth."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path

import numpy as np

from metajax.data.folders.listing import list_images, warn_each
from metajax.data.folders.names import clean, counted, join_names
from metajax.data.folders.table import place_of, read_table
from metajax.labelling.answers import NONE, Label
from metajax.labelling.pictures.contents import Contents, classes_by_content
from metajax.labelling.trust.calibration import confidence_error, share_interval
from metajax.metrics.ranking import roc_area

SHOWN = 10  # classes, and confusions


def read_truth(path: Path, images: Path) -> Callable[[str], str | None]:
    """What says the true class of a picture.

    Args:
      path: a folder of `CLASS/*`, whose pictures are those to label or copies of them;
        or a table of files and labels, see `metajax.data.folders.folder`.
      images: the folder of the pictures to label, to which a table's files belong.

    Returns:
      From a picture's path below that folder to its class; None if nothing says it.

    Raises:
      InputError: if there is no such folder, or the table is none of files and labels.
    """
    if path.is_file():
        return _read_table(path, images).get
    listing = list_images(path, None)
    names = [name for name, files in listing.classes.items() for _ in files]
    contents = Contents(classes_by_content(listing.files, names))
    return lambda file: contents.class_of(images / file)


def _read_table(path: Path, images: Path) -> dict[str, str]:
    """The class of each picture that a table names, by its path below `images`."""
    named = read_table(path, place_of(images, [images, images.parent]))
    classes, lines = join_names(named.classes, clean)
    if named.faults:
        count, first = counted(len(named.faults), "line"), named.faults[0]
        lines.append(f"{count} not read in {path}: {first.place} {first.reason}")
    warn_each((*lines, *named.lines))
    return {
        file.relative_to(images).as_posix(): name
        for name, files in classes.items()
        for file in files
    }


def score(
    labels: Iterable[Label],
    truth: Callable[[str], str | None],
    classes: Sequence[str],
) -> tuple[str, ...]:
    """How right labels are, in sentences.

    Args:
      labels: of the pictures, without those that were labelled before.
      truth: the true class of a picture; None if it is not known.
      classes: the names of the labelled classes.

    Returns:
      Of pictures of the classes, the accuracy with its interval, how many were labelled
      `NONE`, the calibration error of the rest, the accuracy by class and the largest
      confusions. Of pictures of other classes, `NONE` among them, how many were
      labelled `NONE`, and the area under the ROC curve of novelty.
    """
    known = set(classes)
    pairs = [(label, name) for label in labels if (name := truth(label.file))]
    own = [(label, name) for label, name in pairs if name in known]
    strange = [label for label, name in pairs if name not in known]
    if not pairs:
        return ("--truth says the class of none of these pictures",)
    lines = _of_known(own, known) if own else []
    if strange:
        none = sum(label.label not in known for label in strange)
        lines.append(
            f"{none} of {len(strange)} pictures of unlabelled classes were labelled "
            f"{NONE}"
        )
        if own:
            theirs = np.array([label.novelty for label in strange])
            area = roc_area(theirs, np.array([label.novelty for label, _ in own]))
            lines.append(f"AUROC of their novelty: {100 * area:.1f} %")
    return tuple(lines)


def _of_known(pairs: Sequence[tuple[Label, str]], classes: Set[str]) -> list[str]:
    """What is said of pictures of labelled classes."""
    correct = np.array([label.label == name for label, name in pairs])
    right, count = int(correct.sum()), len(correct)
    low, high = (100 * end for end in share_interval(right, count))
    counts = Counter(name for _, name in pairs)
    rights = Counter(name for label, name in pairs if label.label == name)
    worst = sorted(counts, key=lambda name: (rights[name] / counts[name], name))
    shares = [f"{name} {rights[name]} of {counts[name]}" for name in worst[:SHOWN]]
    rest = f", and {len(worst) - SHOWN} more" if len(worst) > SHOWN else ""
    lines = [
        f"true accuracy on {count} pictures of the classes: {100 * right / count:.1f} "
        f"% (95 % interval {low:.0f} to {high:.0f}){_confidence(pairs, classes)}",
        f"right by class, the worst first: {', '.join(shares)}{rest}",
    ]
    wrong = Counter((name, x.label) for x, name in pairs if x.label != name)
    if wrong:
        most = ", ".join(
            f"{true} as {label} {n}" for (true, label), n in wrong.most_common(SHOWN)
        )
        lines.append(f"largest confusions: {most}")
    return lines


def _confidence(pairs: Sequence[tuple[Label, str]], classes: Set[str]) -> str:
    """How many pictures were labelled none, and how sure the labels of the rest are."""
    rest = [(label, name) for label, name in pairs if label.label in classes]
    none = len(pairs) - len(rest)
    if not rest:
        return f", {none} of them labelled {NONE}"
    correct = np.array([label.label == name for label, name in rest])
    sure = np.array([label.confidence for label, _ in rest])
    link = f", {none} of them labelled {NONE}; the rest have" if none else ", at"
    return (
        f"{link} a mean confidence of {100 * sure.mean():.1f} % and a calibration "
        f"error of {100 * confidence_error(sure, correct):.1f} %"
    )
