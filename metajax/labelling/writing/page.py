"""The labels of a folder on one page of HTML that needs no other file."""

import heapq
import io
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from metajax._files.webpage import render
from metajax.errors import FilesError

MOST = 3000  # thumbnails
SIDE = 96  # pixels, at most
LISTED = 200  # files that could not be read


class Thumbnail(NamedTuple):
    """An image on the page.

    Attributes:
      label: its label, see `metajax.labelling.Label`.
      source: the image as a `data:` URI.
      coarse: whether it is shown much larger than it is.
    """

    label: Any
    source: str
    coarse: bool


class Gallery:
    """The images of the page: of too many, those whose labels are least confident.

    Args:
      most: the largest number of images.
      side: their largest height and width, in pixels.
    """

    def __init__(self, most: int = MOST, side: int = SIDE):
        self._most, self._side, self._count = most, side, 0
        self._heap: list[tuple[float, int, Thumbnail | Callable]] = []

    def add(
        self, label: Any, image: Callable[[], np.ndarray], *, later: bool = False
    ) -> None:
        """Adds an image and its label; an image that is gone is not shown.

        Args:
          label: the label.
          image: makes the image `uint8[height, width, channels]`, if it is shown.
          later: whether it does so when the page is made, for images that would have to
            be decoded; those at hand become thumbnails at once.
        """
        self._count += 1
        rank = -label.confidence, -self._count
        is_full = len(self._heap) >= self._most
        if is_full and (not self._heap or rank <= self._heap[0][:2]):
            return  # the surest is first
        make = partial(self._thumbnail, label, image)
        made = make if later else make()
        if made is None:
            return
        item = (*rank, made)
        (heapq.heappushpop if is_full else heapq.heappush)(self._heap, item)

    def _thumbnail(
        self, label: Any, image: Callable[[], np.ndarray]
    ) -> Thumbnail | None:
        try:
            pixels = image()
        except FilesError:  # its file was there when it was labelled
            return None
        coarse = max(pixels.shape[:2]) <= self._side / 2
        return Thumbnail(label, thumbnail(pixels, self._side), coarse)

    def by_label(self) -> dict[str, list[Thumbnail]]:
        """The images of each label, labels by name, the least confident image first."""
        groups: dict[str, list[Thumbnail]] = {}
        ranked = sorted(self._heap, reverse=True, key=lambda item: item[:2])
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            made = list(threads.map(_made, ranked))
        shown = [(item[:2], each) for item, each in zip(ranked, made) if each]
        self._heap = [(*rank, each) for rank, each in shown]
        heapq.heapify(self._heap)
        for _, each in shown:
            groups.setdefault(each.label.label, []).append(each)
        return dict(sorted(groups.items()))

    def excerpt(self) -> str:
        """A remark that not all images are shown; empty if they are."""
        kept, count = len(self._heap), self._count
        return f" (the {kept} least sure of {count})" if kept < count else ""


def _made(item: tuple[float, int, Thumbnail | Callable]) -> Thumbnail | None:
    thumbnail = item[2]
    return thumbnail() if callable(thumbnail) else thumbnail


def thumbnail(image: np.ndarray, side: int = SIDE) -> str:
    """An image `uint8[height, width, channels]` as a `data:` URI, at most so large.

    >>> thumbnail(np.zeros((28, 28, 1), np.uint8))[:22]
    'data:image/png;base64,'
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((side, side))
    form = "PNG" if picture.mode == "L" else "JPEG"
    file = io.BytesIO()
    picture.save(file, form, quality=85, subsampling=0)
    return f"data:image/{form.lower()};base64,{b64encode(file.getvalue()).decode()}"


def label_page(
    gallery: Gallery,
    counts: Mapping[str, int],
    facts: Mapping[str, Any],
    unreadable: Sequence[tuple[str, str]] = (),
    *,
    template: str = "labelling/writing/correctable.html",
    examples: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """The page.

    Args:
      gallery: the images.
      counts: how many images got each label.
      facts: what was labelled, by name; several lines if a tuple.
      unreadable: files that could not be read, and why.
      template: of the page, which says how a label is shown.
      examples: labelled pictures of each class, as `data:` URIs.

    Returns:
      HTML, with the images in it.
    """
    groups = gallery.by_label()
    places = {name: f"label{i}" for i, name in enumerate(groups)}
    links = [(f"{name} {n}", places.get(name)) for name, n in sorted(counts.items())]
    if unreadable:
        links.append((f"could not be read {len(unreadable)}", "refused"))
    return render(
        template,
        title="Labels",
        excerpt=gallery.excerpt(),
        facts=facts,
        links=links,
        groups=groups,
        counts=counts,
        unreadable=unreadable,
        listed=LISTED,
        examples=examples,
    )
