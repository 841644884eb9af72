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
from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.experiments.presets import Config
from metajax.experiments.run import check_config
from metajax.experiments.tasks import Task
from metajax.labelling.adapted import read_about, read_arrays, write_adapted
from metajax.labelling.labeller import (
    Labeller,
    Look,
    bare_task,
    body_of,
    build_alone,
    check_ways,
    has_backbone,
    look_of,
)
from metajax.types import Array, Batch, PyTree

PLATFORMS = "cpu", "cuda"


def save(labeller: Labeller, path: Path) -> None:
    """Writes a labeller to a file; see `metajax.labelling.adapted`."""
    config = labeller.config
    about = {
        "metajax": metajax.__version__,
        "config": replace(config, inner=replace(config.inner, backbone=None)).as_dict(),
        "classes": labeller.classes,
        "support": labeller.support,
        "temperature": labeller.temperature,
        "expected": labeller.expected,
        "bits": labeller.bits,
    }
    arrays = {"taught": labeller.taught, "backbone": labeller.backbone}
    write_adapted(path, about, arrays)


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
        if (bits := about.get("bits")) is not None:
            check_count("bits", bits, least=8, most=16)
        named = len(classes) > 1 and all(isinstance(n, str) for n in classes + expected)
        if not named or not 0 < degree < math.inf:
            raise ValueError("its classes or its temperature are none")
        task = bare_task(config)
        look = look_of(config, task)
        check_ways(config, dict.fromkeys(classes), path)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no learner of this version of metajax ({error}); save it again"
        ) from error
    like = jax.eval_shape(partial(_like, config, task, look, count, len(classes)))
    arrays = read_arrays(path, like)
    taught, body = jax.tree.map(jnp.asarray, arrays["taught"]), arrays["backbone"]
    alone = build_alone(config, task, len(classes), body)
    return Labeller(
        config, classes, count, alone, look, taught, degree, expected, body, bits
    )


def _like(config: Config, task: Task, look: Look, count: int, ways: int) -> PyTree:
    """Arrays of the structure and shapes of what `save` writes."""
    key = jax.random.key(0)
    body = body_of(config, task).init(key) if has_backbone(config) else None
    alone = build_alone(config, task, ways, body)
    support = Batch(jnp.zeros((count, *look.shape)), jnp.zeros(count, jnp.int32))
    return {"taught": alone.adapt(alone.learner.init(key), support), "backbone": body}


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
