"""A labeller as a file, to be read again or to run without metajax."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

import metajax
from metajax._files.arrays import read_about, read_arrays, write_arrays
from metajax._files.writing import writable_place, write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.labelling.labeller import Labeller
from metajax.labelling.learner import ImageLearner
from metajax.labelling.novelty import Novelty, thumbnails
from metajax.labelling.pictures.preparation import Preparation
from metajax.labelling.pictures.resizing import to_pixels
from metajax.labelling.whitening import Whitening
from metajax.types import Array, Batch, Params, PyTree

PLATFORMS = "cpu", "cuda"
PICTURES = "uint8[n, height, width, 3], of red, green and blue, upright, on white"


def save(labeller: Labeller, path: Path) -> None:
    """Writes a labeller to a file, see `write_arrays`.

    Raises:
      OSError: if it cannot be written.
    """
    about = {
        "metajax": metajax.__version__,
        "config": labeller.source.facts,
        "classes": labeller.classes,
        "support": labeller.support,
        "temperature": labeller.temperature,
        "expected": labeller.expected,
        "bits": labeller.bits,
        "novelty": labeller.novelty is not None,
        "whitened": labeller.source.whitening is not None,
        "contents": dict(labeller.contents),
        "examples": {k: list(uris) for k, uris in labeller.examples.items()},
        "preparation": labeller.source.format.preparation._asdict(),
    }
    arrays = {
        "taught": labeller.adapted,
        "backbone": labeller.source.pretrained,
        "whitening": labeller.source.whitening,
        "novelty": labeller.novelty,
        "summaries": labeller.summaries,
    }
    write_arrays(path, about, arrays)


def facts_of(path: Path) -> Mapping[str, Any]:
    """The `facts` of the learner in a file of `save`.

    Raises:
      InputError: if the file is not one of `save`, or is damaged.
    """
    facts = read_about(path).get("config")
    return facts if isinstance(facts, dict) else {}


def load(path: Path, rebuild: Callable[[Mapping[str, Any]], ImageLearner]) -> Labeller:
    """Reads a labeller from a file of `save`.

    Args:
      path: the file.
      rebuild: from the `facts` of the learner to the learner. Its `pretrained` may be
        abstract arrays, `jax.ShapeDtypeStruct`; those of the file take their place.

    Returns:
      The labeller.

    Raises:
      InputError: if the file is not one of `save`, is damaged, or is of another
        version.
    """
    about = read_about(path)
    try:
        source = rebuild(about["config"])
        done = Preparation(**about["preparation"])
        form = source.format.prepared(invert=bool(done.invert), crop=bool(done.crop))
        source = source._replace(format=form)
        classes, expected = map(tuple, (about["classes"], about["expected"]))
        count = check_count("support", about["support"], least=len(classes))
        degree = float(about["temperature"])
        if (bits := about.get("bits")) is not None:
            check_count("bits", bits, least=8, most=16)
        _check_extras(about, len(classes))
        if not all(isinstance(text, str) for text in classes + expected):
            raise ValueError("its classes are not names")
        if not 0 < degree < math.inf:
            raise ValueError(f"its temperature is {degree}")
        source.check_classes(classes)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not a labeller of this version of metajax ({error}); save it "
            "again"
        ) from error
    has = about["novelty"], about["whitened"]
    shapes = partial(_saved_arrays, source, len(classes), count, *has)
    like = jax.eval_shape(shapes, source.pretrained)
    arrays = read_arrays(path, like)
    whitening = jax.tree.map(jnp.asarray, arrays["whitening"])
    source = source._replace(pretrained=arrays["backbone"], whitening=whitening)
    learner = source.build(len(classes), source.pretrained)
    adapted = jax.tree.map(jnp.asarray, arrays["taught"])
    facts = classes, count, learner, adapted, degree, expected, bits
    shown = {name: tuple(uris) for name, uris in about["examples"].items()}
    return Labeller(
        source,
        *facts,
        arrays["novelty"],
        arrays["summaries"],
        dict(about["contents"]),
        shown,
    )


def _check_extras(about: Mapping[str, Any], classes: int) -> None:
    """Checks what a labeller knows beside its classes.

    Raises:
      ValueError: if it is not as `save` wrote it.
    """
    kinds = {"novelty": bool, "whitened": bool, "contents": dict, "examples": dict}
    for name, kind in kinds.items():
        if not isinstance(about[name], kind):
            raise ValueError(f"its {name} is {about[name]!r}")
    if not all(k in range(classes) for k in about["contents"].values()):
        raise ValueError("its contents are not of its classes")


def _saved_arrays(
    source: ImageLearner,
    ways: int,
    count: int,
    novel: bool,
    whitened: bool,
    pretrained: Params | None,
) -> PyTree:
    """Arrays of the structure and shapes of those that `save` writes."""
    learner = source.build(ways, pretrained)
    inputs = jnp.zeros((count, *source.input_shape))
    support = Batch(inputs, jnp.zeros(count, jnp.int32))
    adapted = learner.adapt(learner.learner.init(jax.random.key(0)), support)
    number = jnp.zeros((), jnp.float32)
    novelty = Novelty(thumbnails(inputs), *[number] * 4) if novel else None
    summaries = jnp.zeros((count, 4)) if novel else None
    square = jnp.zeros(2 * inputs.shape[1:]) if whitened else None
    whitening = None if square is None else Whitening(square[0], square)
    return {
        "taught": adapted,
        "backbone": pretrained,
        "whitening": whitening,
        "novelty": novelty,
        "summaries": summaries,
    }


def classes_of(program: Path) -> Path:
    """The file beside an exported program that names its classes."""
    return program.parent / f"{program.name}.json"


def export(labeller: Labeller, path: Path) -> None:
    """Writes a labeller as a program that runs without metajax.

    The program, serialised by `jax.export` for CPUs and CUDA, takes pictures of any one
    size, `uint8[n, height, width, 3]`: their pixels in red, green and blue, upright,
    laid on white where they are transparent. It resizes them as the labelled ones were,
    see `to_pixels`; those of that size stay as they are. It returns the probability of
    each class, `float32[n, classes]`. Each other size is compiled once by its caller.

    A JSON file beside it, see `classes_of`, names the classes in order, that size, and
    how many bits labelled pictures of 16 bits used, to bring others to 8 alike. One of
    an earlier program is removed first: it never stands beside a program of other
    classes.

    Raises:
      InputError: if pictures are resized as no program does, see `to_pixels`.
      OSError: if it cannot be written.
    """
    form = labeller.source.format

    def label(picture: Array) -> Array:
        pixels = to_pixels(picture, form.pixels(None))
        return labeller.probabilities(pixels[None])[0]

    def program(images: Array) -> Array:
        # One at a time: an unknown number of images has no blocks.
        return jax.lax.map(label, images)

    shape = jax.export.symbolic_shape("n, height, width, 3")
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(images)
    content = bytes(exported.serialize())
    about = {
        "classes": labeller.classes,
        "images": PICTURES,
        "resized": f"to {form.size[0]} x {form.size[1]}, of mode {form.mode}",
        "bits": labeller.bits,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
    }
    beside = writable_place(classes_of(path))  # None for a stream
    if beside is not None:
        beside.unlink(missing_ok=True)
    write_whole(path, content)
    write_whole(classes_of(path), json.dumps(about, indent=2) + "\n")
