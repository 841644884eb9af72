"""The labels of a folder on one page: HTML that needs no other file."""

import heapq
import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from metajax._files.webpage import contents, escaped, table, webpage

MOST = 3000  # thumbnails
SIDE = 96  # pixels, at most
LISTED = 200  # files that could not be read
STYLE = """
body { max-width: 72rem; padding: 0.6rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 0.4rem; overflow-wrap: anywhere; }
li { overflow-wrap: anywhere; }
.grid { display: grid; gap: 0.5rem;
        grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); }
figure { margin: 0; font-size: 0.75rem; line-height: 1.3; overflow-wrap: anywhere; }
figure img { width: 100%; height: auto; border: 1px solid #ccc;
             box-sizing: border-box; }
.coarse { image-rendering: pixelated; }
.unsure { color: #a63d00; }
"""


class Thumbnail(NamedTuple):
    """A picture on the page.

    Attributes:
      row: what is said of it.
      source: itself, as a `data:` URI.
      coarse: whether it is shown much larger than it is.
    """

    row: Any
    source: str
    coarse: bool


class Shown:
    """The pictures of the page: of too many, those that are least sure.

    Args:
      most: how many.
    """

    def __init__(self, most: int = MOST):
        self._most, self._count = most, 0
        self._heap: list[tuple[float, int, Thumbnail]] = []  # the surest is first

    def offer(self, row: Any, image: np.ndarray) -> None:
        """Takes a row of labels and its image, `uint8[height, width, channels]`."""
        self._count += 1
        rank = -row.confidence, -self._count
        if len(self._heap) == self._most and rank <= self._heap[0][:2]:
            return
        coarse = max(image.shape[:2]) <= SIDE / 2
        item = (*rank, Thumbnail(row, thumbnail(image), coarse))
        add = heapq.heappushpop if len(self._heap) == self._most else heapq.heappush
        add(self._heap, item)

    def by_label(self) -> dict[str, list[Thumbnail]]:
        """The pictures of each label, by name, the least sure first."""
        groups: dict[str, list[Thumbnail]] = {}
        for _, _, shown in sorted(self._heap, reverse=True, key=lambda item: item[:2]):
            groups.setdefault(shown.row.label, []).append(shown)
        return dict(sorted(groups.items()))

    def cut(self, count: int) -> str:
        """What is to be said where there are more than are shown."""
        kept = len(self._heap)
        return f" (the {kept} least sure of {count})" if kept < count else ""


def thumbnail(image: np.ndarray) -> str:
    """An image `uint8[height, width, channels]` as a `data:` URI.

    >>> thumbnail(np.zeros((28, 28, 1), np.uint8))[:22]
    'data:image/png;base64,'
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((SIDE, SIDE))
    form = "PNG" if picture.mode == "L" else "JPEG"
    file = io.BytesIO()
    picture.save(file, form, quality=85, subsampling=0)
    return f"data:image/{form.lower()};base64,{b64encode(file.getvalue()).decode()}"


def label_page(
    shown: Shown,
    counts: Mapping[str, int],
    facts: Mapping[str, Any],
    refused: Sequence[tuple[str, str]] = (),
) -> str:
    """The page.

    Args:
      shown: the pictures.
      counts: how many got each label.
      facts: what was labelled, by name; of several lines if a tuple.
      refused: files that could not be read, and why.

    Returns:
      HTML, its pictures within it.
    """
    groups = shown.by_label()
    total = sum(counts.values())
    places = {name: f"label{i}" for i, name in enumerate(groups)}
    links = [(f"{name} {n}", places.get(name)) for name, n in sorted(counts.items())]
    if refused:
        links.append((f"could not be read {len(refused)}", "refused"))
    body = (
        f"<h1>Labels{escaped(shown.cut(total))}</h1>{table(facts)}",
        "<p>Least sure first. Pictures are as the learner saw them.</p>",
        contents(links),
        *(
            f'<section id="{places[name]}"><h2>{escaped(name)}: '
            f"{_of(len(group), counts[name])}</h2>"
            f'<div class="grid">{"".join(map(_figure, group))}</div></section>'
            for name, group in groups.items()
        ),
        _refused(refused),
    )
    return webpage("Labels", STYLE, body)


def _of(some: int, count: int) -> str:
    return str(count) if some == count else f"{count}, {some} shown"


def _refused(refused: Sequence[tuple[str, str]]) -> str:
    if not refused:
        return ""
    listed = refused[:LISTED]
    items = "".join(
        f"<li>{escaped(file)}: {escaped(why)}</li>\n" for file, why in listed
    )
    return (
        f'<section id="refused"><h2>Could not be read: '
        f"{_of(len(listed), len(refused))}</h2><ul>{items}</ul></section>"
    )


def _figure(item: Thumbnail) -> str:
    row = item.row
    coarse = ' class="coarse"' if item.coarse else ""
    unsure = ' class="unsure"' if row.confidence < 0.5 else ""
    return (
        f'<figure><img{coarse} src="{item.source}" alt="" loading="lazy"><figcaption>'
        f"<span{unsure}>{row.confidence:.0%}</span><br>or {escaped(row.runner_up)} "
        f"{row.runner_up_confidence:.0%}<br>{escaped(row.file)}</figcaption></figure>\n"
    )
