"""Scenes: episodes of pages on which characters are to be outlined, or boxed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_one_of
from metajax.data.dense.store import Targets
from metajax.data.drawing import Shape, Shown, draw
from metajax.data.images import ImageStore, shape_of
from metajax.data.sampling import StagedSampler
from metajax.data.sets.pages import PAGE, Page, Painted, Pasted, check_page, paint
from metajax.detection import Boxes
from metajax.errors import InputError, argument
from metajax.types import Array, Batch, Episode


class Clutter(NamedTuple):
    """What a query's page shows.

    Attributes:
      characters: the number of characters on the page.
      objects: how many of them are of the episode's classes.
      same_drawing: whether objects are the very drawings of the support set, turned and
        coloured anew, as in Cluttered Omniglot; others of their classes otherwise.
    """

    characters: int
    objects: int
    same_drawing: bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Scenes(StagedSampler):
    """The sampler that `scenes` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      images: `uint8[classes, per_class, height, width, 1]`, on the device.
      counts: `int32[classes]`.
      shape: of the drawings that an episode shows of its classes.
      queries: pages a class.
      page: what a query page looks like.
      clutter: what it shows.
      targets: "masks" or "boxes".
    """

    images: Array
    counts: Array
    shape: Shape = field(metadata={"static": True})
    queries: int = field(metadata={"static": True})
    page: Page = field(metadata={"static": True})
    clutter: Clutter = field(metadata={"static": True})
    targets: Targets = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        class_key, support_key, query_key = jax.random.split(key, 3)
        shown = draw(class_key, self.counts, self.shape)

        def batch(
            key: Array, make: Callable[[Array, Array, Array], Batch], count: int
        ) -> Batch:
            ways = jnp.repeat(jnp.arange(self.shape.ways, dtype=jnp.int32), count)
            places = jnp.tile(jnp.arange(count, dtype=jnp.int32), self.shape.ways)
            keys = jax.random.split(key, len(ways))
            return jax.vmap(make)(keys, ways, places)

        def support(key: Array, way: Array, place: Array) -> Batch:
            return self._support(shown, key, way, place)

        def query(key: Array, way: Array, place: Array) -> Batch:
            return self._query(shown, key, way, place)

        return Episode(
            batch(support_key, support, self.shape.shots),
            batch(query_key, query, self.queries),
        )

    def _support(self, shown: Shown, key: Array, way: Array, place: Array) -> Batch:
        """A character alone, in the middle of a page of its own size."""
        page = self.page._replace(size=self.page.side, scale=1.0, places=1)
        drawing = self._drawings(shown.classes[way], shown.images[way, place])[None]
        pasted = Pasted(drawing, way[None] + 1)
        return self._batch(paint(key, pasted, page, centred=True), way[None])

    def _query(self, shown: Shown, key: Array, way: Array, place: Array) -> Batch:
        """Makes a page: distractors, then objects, one of the query's class on top."""
        number_key, page_key = jax.random.split(key)
        characters, objects, _ = self.clutter
        # Of one draw: each call of the generator takes long to compile.
        u = jax.random.uniform(number_key, (2, characters), jnp.float32)
        of_ways, of_others = jnp.split(u, [objects], axis=1)
        more = _whole(of_ways[0, 1:], self.shape.ways)
        labels = jnp.append(more, way).astype(jnp.int32)
        places = self._places(of_ways[1], place)
        drawings = self._drawings(shown.classes[labels], shown.images[labels, places])
        others = self._distractors(of_others, shown.classes)
        of_background = jnp.zeros(len(others), jnp.int32)
        pasted = Pasted(
            jnp.concatenate([others, drawings]),
            jnp.concatenate([of_background, labels + 1]),
        )
        return self._batch(paint(page_key, pasted, self.page), labels)

    def _places(self, u: Array, place: Array) -> Array:
        """Which of the drawn images of its class each object shows."""
        _, shots, queries, *_ = self.shape
        if self.clutter.same_drawing:
            return _whole(u, shots)
        return shots + jnp.append(_whole(u[1:], queries), place)

    def _distractors(self, u: Array, classes: Array) -> Array:
        """Drawings of other classes, by numbers `[2, distractors]` in [0, 1)."""
        own = jnp.sort(classes)
        others = _whole(u[0], len(self.counts) - len(own))
        # The n-th class that is none of the episode's.
        steps = own - jnp.arange(len(own), dtype=own.dtype)
        others = others + jnp.sum(others[:, None] >= steps[None], 1)
        return self._drawings(others, _whole(u[1], self.counts[others]))

    def _drawings(self, classes: Array, places: Array) -> Array:
        return self.images[classes, places, ..., 0].astype(jnp.float32) / 255.0

    def _batch(self, painted: Painted, labels: Array) -> Batch:
        """The image and what is asked of it: of the last characters, the objects."""
        if self.targets == "masks":
            return Batch(painted.image, painted.mask)
        corners = painted.corners[-len(labels) :]
        seen = corners[:, 2] > corners[:, 0]
        return Batch(painted.image, Boxes(corners, labels, seen))


def scenes(
    store: ImageStore,
    ways: int = 1,
    shots: int = 1,
    queries: int = 5,
    *,
    targets: Targets = "masks",
    characters: int = 4,
    objects: int = 1,
    same_drawing: bool = False,
    page: Page = PAGE,
) -> Scenes:
    """Few-shot segmentation, or detection, of characters on cluttered pages.

    A support page shows one character, alone in the middle of `page.side` pixels. A
    query shows characters of other classes on `page.size` pixels, and then `objects` of
    the episode's, the last of which is of the query's own class and so on top. A mask
    shows what can be seen of a character, a box all of its ink.

    Cluttered Omniglot has one way, shot and object, the same drawing, and 4 to 256
    characters; its distractors may be of the episode's class, which is never so here.

    Args:
      store: square drawings of bright ink on black, which are put on the device.
      ways: classes an episode.
      shots: support pages a class.
      queries: query pages a class.
      targets: "masks", `int32[n, height, width]`, 0 for background and k for class k
        of the episode, from 1 on; or "boxes", `Boxes` with labels from 0 on.
      characters: on a query's page.
      objects: how many of them are of the episode's classes.
      same_drawing: see `Clutter`.
      page: see `Page`.

    Returns:
      A sampler of inputs `float32[n, size, size, channels]` in [0, 1].

    Raises:
      InputError: for a number out of range, more objects than characters, too few
        classes or drawings, or drawings that are not square or have several channels.

    >>> import numpy as np
    >>> store = ImageStore(
    ...     np.full((6, 20, 28, 28, 1), 255, np.uint8), np.full(6, 20), tuple("abcdef")
    ... )
    >>> support, query = scenes(store)(jax.random.key(0), 2)
    >>> support.inputs.shape, query.inputs.shape, query.targets.shape
    ((2, 1, 32, 32, 3), (2, 5, 96, 96, 3), (2, 5, 96, 96))

    Source: Michaelis et al., "One-Shot Segmentation in Clutter", ICML 2018.
    """
    check_one_of("targets", targets, get_args(Targets))
    check_page(page)
    clutter = _checked(Clutter(characters, objects, same_drawing))
    check_count("queries", queries, least=1)
    shape = shape_of(store, ways, shots, 1 if same_drawing else queries, rotations=1)
    _check_drawings(store, ways)
    images, counts = jnp.asarray(store.images), jnp.asarray(store.counts, jnp.int32)
    return Scenes(images, counts, shape, queries, page, clutter, targets)


def _whole(u: Array, count: Array | int) -> Array:
    """Whole numbers below a count, by numbers in [0, 1)."""
    return jnp.floor(u * jnp.float32(count)).astype(jnp.int32)


def _checked(clutter: Clutter) -> Clutter:
    characters, objects, _ = clutter
    check_count("characters", characters, least=1)
    check_count("objects", objects, least=1)
    if objects > characters:
        raise InputError(
            f"{argument('objects')} must be at most the {characters} characters of a "
            f"page, got {objects}"
        )
    return clutter


def _check_drawings(store: ImageStore, ways: int) -> None:
    classes, _, height, width, channels = store.images.shape
    if channels != 1 or height != width:
        raise InputError(
            "scenes need square drawings of one channel, got "
            f"{height}x{width}x{channels}"
        )
    if classes <= ways:
        raise InputError(
            f"scenes need a class for what is beside the {ways} ways, got {classes} "
            "classes; take fewer ways"
        )
