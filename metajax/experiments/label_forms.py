"""The forms in which labels are written beside a table, each by a flag of its own."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from metajax._files.writing import check_writable, write_blocks
from metajax.errors import InputError
from metajax.experiments.label_checks import is_own
from metajax.labelling import Label
from metajax.labelling.writing.forms import COCO_FILE, LABEL_STUDIO, Form, LabelSource
from metajax.labelling.writing.links import check_links, write_links


class Writer(NamedTuple):
    """How labels are written in a form.

    Attributes:
      check: `check(flag, path, images)` refuses, before anything is computed, what
        must not be replaced; `images` is the folder of the pictures.
      write: `write(path, labels, source)`, whole or not at all.
    """

    check: Callable[[str, Path, Path], None]
    write: Callable[[Path, Sequence[Label], LabelSource], None]


def _check_file(form: Form, flag: str, path: Path, images: Path) -> None:
    check_writable(flag, path)
    if path.is_file() and path.stat().st_size and not is_own(path, form.is_own):
        raise InputError(
            f"{flag} would be written over {path}, which is not a file of this "
            "command; choose another name"
        )


def _write_file(
    form: Form, path: Path, labels: Iterable[Label], source: LabelSource
) -> None:
    write_blocks(path, form.blocks(labels, source))


def _write_links(path: Path, labels: Iterable[Label], source: LabelSource) -> None:
    write_links(path, labels, source.folder)


def _file_writer(form: Form) -> Writer:
    return Writer(partial(_check_file, form), partial(_write_file, form))


WRITERS = {
    "--label-studio": _file_writer(LABEL_STUDIO),
    "--coco": _file_writer(COCO_FILE),
    "--links": Writer(check_links, _write_links),
}
