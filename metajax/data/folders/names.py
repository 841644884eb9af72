"""Names of classes, as people meant them."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Classes = dict[str, list[Path]]

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
ALL_SPLITS = [name for names in SPLIT_NAMES.values() for name in names]

LONE = re.compile(r"\\u(dc[89a-f][0-9a-f])")  # as `as_text` writes a byte
SHOWN = 5  # of a list, in a message
UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"  # of no width


def clean(name: str) -> str:
    """A name in Unicode's normal form C, without white space at its ends.

    >>> clean(" cafe" + chr(0x301) + chr(0xA0)) == "caf" + chr(0xE9)
    True
    """
    name, before = unicodedata.normalize("NFC", name), None
    while name != before:
        before, name = name, name.strip().strip(UNSEEN)
    return name


def as_text(name: str) -> str:
    """A name, whose parts that are not text are written as their codes."""
    return name.encode(errors="backslashreplace").decode()


def from_text(text: str) -> str:
    """The inverse of `as_text`.

    >>> from_text(as_text("caf" + chr(0xDCE9))) == "caf" + chr(0xDCE9)
    True
    """
    return LONE.sub(lambda code: chr(int(code[1], 16)), text)


def clean_path(name: str) -> str:
    """The same of each folder of a path; of one that is all white space, the name."""
    return "/".join(clean(part) or part for part in name.split("/"))


def join_names(
    given: Mapping[str, Sequence[Path]], clean: Callable[[str], str]
) -> tuple[Classes, list[str]]:
    """Joins the classes whose names are equal once they are clean.

    Args:
      given: the files of each class, by its name as it is written.
      clean: makes a name clean.

    Returns:
      The files of each class, both sorted by name; and what was joined, and which
      names look alike and are not equal, a line each.
    """
    written: dict[str, list[str]] = {}
    for name in sorted(given):
        written.setdefault(clean(name), []).append(name)
    lines = [
        f"{' and '.join(map(ascii, names))} are read as one class, {name}: their names "
        "differ only in white space at the ends or in Unicode form"
        for name, names in written.items()
        if len(names) > 1
    ]
    alike: dict[str, list[str]] = {}
    for name in written:
        alike.setdefault(_look(name), []).append(name)
    lines += [
        f"the classes {' and '.join(map(ascii, names))} look alike and are read as "
        "different ones; rename them if they are the same"
        for names in alike.values()
        if len(names) > 1
    ]
    classes = {
        name: sorted(path for each in names for path in given[each])
        for name, names in sorted(written.items())
    }
    return classes, lines


def counted(count: int, noun: str) -> str:
    """So many of something, and the verb.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image is', '2 images are')
    """
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def some(names: Iterable[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    names = list(names)
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join(names[:SHOWN] + more)


def _look(name: str) -> str:
    """What names that look alike have in common."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    seen = (c for c in folded if unicodedata.category(c) != "Cf")
    return " ".join("".join(seen).split()).strip(" .")
