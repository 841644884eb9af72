"""A taught learner as a file: to be read again, or to run without metajax."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

import metajax
from metajax.adapted import read_about, read_arrays, write_adapted
from metajax.cli.backbone import read_body
from metajax.cli.build import build_model
from metajax.cli.choices import LEARNERS
from metajax.cli.labeller import (
    Labeller,
    Look,
    bare_task,
    build_alone,
    check_ways,
    look_of,
)
from metajax.cli.presets import Config
from metajax.cli.run import check_config
from metajax.cli.tasks import Task
from metajax.errors import InputError
from metajax.files import write_whole
from metajax.models.headed import parts
from metajax.types import Array, Batch, Model, PyTree, check_count

PLATFORMS = "cpu", "cuda"


def save(labeller: Labeller, path: Path) -> None:
    """Writes a labeller to a file; see `metajax.adapted`."""
    config = labeller.config
    kept = None
    if _has_backbone(config):
        given = config.inner.backbone
        body = _body(config, bare_task(config))
        kept = read_body(None if given is None else Path(given), body)
    about = {
        "metajax": metajax.__version__,
        "config": replace(config, inner=replace(config.inner, backbone=None)).as_dict(),
        "classes": labeller.classes,
        "support": labeller.support,
        "temperature": labeller.temperature,
        "expected": labeller.expected,
    }
    write_adapted(path, about, {"taught": labeller.taught, "backbone": kept})


def load(path: Path) -> Labeller:
    """Reads a labeller from a file.

    Raises:
      InputError: if it is none, is damaged, or is of another version.
    """
    about = read_about(path)
    try:
        config = Config.from_dict(about["config"])
        check_config(config)
        classes, expected = map(tuple, (about["classes"], about["expected"]))
        count = check_count("support", about["support"], least=len(classes))
        degree = float(about["temperature"])
        named = len(classes) > 1 and all(isinstance(n, str) for n in classes + expected)
        if not named or not 0 < degree < math.inf:
            raise ValueError("its classes or its temperature are none")
        look = look_of(config)
        check_ways(config, dict.fromkeys(classes), path)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no learner of this version of metajax ({error}); save it again"
        ) from error
    task = bare_task(config)
    like = jax.eval_shape(partial(_like, config, task, look, count, len(classes)))
    arrays = read_arrays(path, like)
    body = arrays["backbone"]
    alone = build_alone(config, task, len(classes), **_with_backbone(body))
    taught = jax.tree.map(jnp.asarray, arrays["taught"])
    return Labeller(config, classes, count, alone, look, taught, degree, expected)


def _like(config: Config, task: Task, look: Look, count: int, ways: int) -> PyTree:
    """Arrays of the structure and shapes of what `save` writes."""
    key = jax.random.key(0)
    body = _body(config, task).init(key) if _has_backbone(config) else None
    alone = build_alone(config, task, ways, **_with_backbone(body))
    support = Batch(jnp.zeros((count, *look.shape)), jnp.zeros(count, jnp.int32))
    return {"taught": alone.adapt(alone.learner.init(key), support), "backbone": body}


def _has_backbone(config: Config) -> bool:
    """Whether the learner is built on a pre-trained body."""
    return "backbone" in LEARNERS[config.learner].changes


def _body(config: Config, task: Task) -> Model:
    """The body of a run's network."""
    return parts(build_model(config.model, task, context=0), config.learner)[0]


def _with_backbone(body: PyTree) -> dict[str, PyTree]:
    return {} if body is None else {"backbone": body}


def classes_of(program: Path) -> Path:
    """Where the classes of an exported program are named."""
    return program.parent / f"{program.name}.json"


def export(labeller: Labeller, path: Path) -> str:
    """Writes a labeller as a program that runs without metajax.

    The program, serialised by `jax.export`, takes pictures `uint8[n, height, width,
    channels]` as they are in their files, any number of them, and returns the
    probability of each class, `float32[n, classes]`. What it learnt is within it. The
    names of the classes, in order, are beside it, in a file of JSON.

    Returns:
      A line on what was written.

    Raises:
      OSError: if it cannot be written.
    """
    look = labeller.look

    def program(images: Array) -> Array:
        # One at a time: a number of images that is not known has no blocks.
        return jax.lax.map(lambda image: labeller.shares(image[None])[0], images)

    n = jax.export.symbolic_shape("n")[0]
    images = jax.ShapeDtypeStruct((n, *look.shape), jnp.uint8)
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(images)
    write_whole(path, bytes(exported.serialize()))
    beside = classes_of(path)
    about = {
        "classes": labeller.classes,
        "images": f"uint8[n, {', '.join(map(str, look.shape))}]",
        "platforms": PLATFORMS,
        "jax": jax.__version__,
    }
    write_whole(beside, json.dumps(about, indent=2) + "\n")
    return (
        f"exported to {path} for {' and '.join(PLATFORMS)}; {beside} names its classes"
    )
