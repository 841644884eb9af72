"""The forms in which labels are written: tables, and what other tools import."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import metajax
from metajax.data.folders.listing import warn_each
from metajax.data.folders.names import as_text
from metajax.data.pictures.decoding import size_of
from metajax.data.pictures.unlabelled import unreadable
from metajax.errors import FilesError
from metajax.labelling.answers import Label

END = "\r\n"
DIGITS = 4  # of a number, behind the point
COCO = '{"info": {"description": "labels of metajax label"}'  # begins each file
TASKS = '[\n{"predictions": [{"model_version": "metajax '  # likewise
# How a line of JSON begins: a file, a label and a confidence.
NAME = rb'"(?:[^"\\]|\\.)*"'
LINE = re.compile(rb'\{"file": %b, "label": %b, "confidence": ' % (NAME, NAME))
NO_TASKS = "[\n\n]\n"
LOCAL_FILES = "/data/local-files/?d="  # how Label Studio names files of its disk


class LabelSource(NamedTuple):
    """What was labelled, and by what.

    Attributes:
      folder: of the pictures.
      classes: their names, in order.
      learner: its name.
    """

    folder: Path
    classes: tuple[str, ...]
    learner: str = "learner"


class Form(NamedTuple):
    """A form of a file of labels.

    Attributes:
      blocks: `blocks(labels, source)`, the contents of the file in order, in UTF-8. A
        part of a name that is not text is written as its code.
      is_own: whether a file that begins with these bytes was written in this form.
    """

    blocks: Callable[[Iterable[Label], LabelSource], Iterator[bytes]]
    is_own: Callable[[bytes], bool]


def csv_line(values: Iterable[str]) -> bytes:
    """A row of CSV; parts of a name that are not text are written as their codes."""
    text = io.StringIO()
    csv.writer(text, lineterminator=END).writerow(values)  # it quotes what ends a row
    return as_text(text.getvalue().removesuffix(END) + "\n").encode()


def csv_row(label: Label) -> bytes:
    """A label as a row of CSV."""
    return csv_line(
        f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)
        for value in label
    )


def json_row(label: Label) -> bytes:
    """A label as a line of JSON.

    >>> json_row(Label("a.png", "cat", 0.75, "dog", 0.25))[:32]
    b'{"file": "a.png", "label": "cat"'
    """
    values = label._asdict().items()
    return _json({k: _rounded(value) for k, value in values}) + b"\n"


def is_table_of(fields: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a file begins as a CSV table whose first columns are these."""
    head = csv_line(fields).strip()

    def is_own(start: bytes) -> bool:
        line = start.partition(b"\n")[0].strip()
        return line == head or line.startswith(head + b",")

    return is_own


def _csv_table(labels: Iterable[Label], source: LabelSource) -> Iterator[bytes]:
    yield csv_line(Label._fields)
    yield from map(csv_row, labels)


def _json_lines(labels: Iterable[Label], source: LabelSource) -> Iterator[bytes]:
    yield from map(json_row, labels)


def _label_studio(labels: Iterable[Label], source: LabelSource) -> Iterator[bytes]:
    """Tasks with predictions, for the labelling interface of Label Studio's template.

    The file is imported into a project of its template "Image Classification", whose
    tags are `<Image name="image" value="$image"/>` and `<Choices name="choice"
    toName="image">`. Files are named below the folder above that of the pictures.

    Source: https://labelstud.io/guide/predictions
    """
    folder = source.folder.resolve().name
    version = f"metajax {metajax.__version__}, {source.learner}"
    yield b"[\n"
    for i, label in enumerate(labels):
        named = {"from_name": "choice", "to_name": "image", "type": "choices"}
        result = {"id": f"label{i}", **named, "value": {"choices": [label.label]}}
        score = _rounded(label.confidence)
        guess = {"model_version": version, "score": score, "result": [result]}
        place = quote(f"{folder}/{label.file}", errors="surrogateescape")
        task = {"predictions": [guess], "data": {"image": LOCAL_FILES + place}}
        yield (b",\n" if i else b"") + _json(task)
    yield b"\n]\n"


def _coco(labels: Iterable[Label], source: LabelSource) -> Iterator[bytes]:
    """COCO's lists of images, annotations and categories; an annotation a picture."""
    numbers = {name: k for k, name in enumerate(source.classes, 1)}
    annotations: list[bytes] = []
    yield (COCO + ', "images": [').encode()
    for i, (label, (height, width)) in enumerate(_sized(labels, source.folder), 1):
        image = {"id": i, "file_name": label.file, "width": width, "height": height}
        number = numbers.setdefault(label.label, len(numbers) + 1)
        annotation = {"id": i, "image_id": i, "category_id": number}
        score = _rounded(label.confidence)
        annotations.append(_json({**annotation, "score": score}))
        yield (b",\n" if i > 1 else b"\n") + _json(image)
    categories = [_json({"id": k, "name": name}) for name, k in numbers.items()]
    yield b'\n], "annotations": [\n' + b",\n".join(annotations)
    yield b'\n], "categories": [\n' + b",\n".join(categories) + b"\n]}\n"


def _sized(
    labels: Iterable[Label], folder: Path
) -> Iterator[tuple[Label, tuple[int, int]]]:
    """The labels with the sizes of their pictures, but for pictures that are gone."""
    for label in labels:
        try:
            size = size_of(folder / label.file)
        except FilesError as error:
            reason = unreadable(folder, label.file, error).reason
            warn_each([f"{label.file} is left out of COCO's form: it {reason}"])
        else:
            yield label, size


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value


def _json(value: Any) -> bytes:
    return json.dumps(_texts(value), ensure_ascii=False).encode()


def _texts(value: Any) -> Any:
    """A value of JSON whose names are text."""
    if isinstance(value, dict):
        return {name: _texts(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_texts(each) for each in value]
    return as_text(value) if isinstance(value, str) else value


CSV = Form(_csv_table, is_table_of(Label._fields[:3]))
JSON_LINES = Form(_json_lines, lambda start: LINE.match(start) is not None)
LABEL_STUDIO = Form(
    _label_studio, lambda start: start.startswith((TASKS.encode(), NO_TASKS.encode()))
)
COCO_FILE = Form(_coco, lambda start: start.startswith(COCO.encode()))

TABLES = {"": CSV, ".csv": CSV, ".txt": CSV, ".jsonl": JSON_LINES}
"""The form of a table by the suffix of its file."""
