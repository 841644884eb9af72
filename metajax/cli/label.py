"""`metajax label`: labels for a folder of pictures, from a few that are labelled."""

import csv
import io
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import metajax
from metajax.adapted import read_about, read_arrays, write_adapted
from metajax.cli.backbone import read_body
from metajax.cli.build import LEARNERS, build_learner, build_model
from metajax.cli.label_page import Shown, label_page
from metajax.cli.presets import Config, Conv4Model, FolderData, OmniglotData
from metajax.cli.run import Kept, check_config, configured, restored
from metajax.cli.tasks import Places, Task, build_task
from metajax.data.decoding import Mode, decode_classes
from metajax.data.listing import list_images, list_loose
from metajax.data.unlabelled import Decoded, Unreadable, decode_ahead
from metajax.errors import InputError
from metajax.evaluation import Z95
from metajax.files import write_blocks, write_whole
from metajax.labelling import (
    Alone,
    Told,
    balanced_cross_entropy,
    leave_one_out,
    share_interval,
    tell_episodes,
    temperature,
)
from metajax.models.headed import parts
from metajax.types import Array, Batch, Loss, Model, PyTree, check_count

BATCH = 64  # pictures at a time
QUERIES, TOLD, FEWEST = 3, 600, 10  # validation: a class, in all, and tasks at least
SECONDS = 10.0  # between two lines of progress
PLATFORMS = "cpu", "cuda"
# Their networks cannot settle on the support set: a query needs it beside itself.
BESIDE = ("mtl", "relation")


@dataclass(frozen=True)
class Targets:
    """What is to be written, and where the pictures are that are to be labelled."""

    images: Path | None = None
    out: Path | None = None
    html: Path | None = None
    save: Path | None = None
    export: Path | None = None

    def check(self) -> list[str]:
        """Refuses, before anything is computed, what would fail at the end.

        Returns:
          The pictures to label, by their paths below the folder of them.

        Raises:
          InputError: if a path will not do, or nothing was asked for, or there are no
            pictures.
        """
        if (self.images is None) != (self.out is None):
            given, wanted = (
                ("--images", "--out") if self.images else ("--out", "--images")
            )
            raise InputError(f"{given} needs {wanted}: pictures in, their labels out")
        if self.html is not None and self.out is None:
            raise InputError(
                "--html needs --images and --out: it shows what they label"
            )
        if self.images is None and self.save is None and self.export is None:
            raise InputError(
                "expected --images DIR with --out FILE, or --save or --export FILE; "
                "got none of them"
            )
        if self.export is not None and find_spec("flatbuffers") is None:
            raise InputError("--export needs flatbuffers: pip install flatbuffers")
        files = self._files()
        for name, path in files.items():
            _check_writable(name, path)
        places = [path.absolute() for path in files.values()]
        if len(set(places)) < len(places):
            raise InputError(
                f"{' and '.join(files)} must be different files, got "
                f"{', '.join(map(str, files.values()))}"
            )
        return [] if self.images is None else list_loose(self.images)

    def _files(self) -> dict[str, Path]:
        files = {
            "--out": self.out,
            "--html": self.html,
            "--save": self.save,
            "--export": self.export,
        }
        return {name: path for name, path in files.items() if path is not None}


def _check_writable(name: str, path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{name} must be a file, and {path} is a folder")
    if not folder.is_dir():
        raise InputError(f"{name} is in {folder}, which is no folder; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{name} is in {folder}, where nothing may be written")


class Look(NamedTuple):
    """How a run's learner sees a picture.

    Attributes:
      size: (height, width) in pixels.
      mode: "RGB", or "L" for grey.
      ink: whether what is dark in a file is bright to the learner.
    """

    size: tuple[int, int]
    mode: Mode
    ink: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture."""
        return *self.size, len(self.mode)

    def inputs(self, images: Array) -> Array:
        """What the learner takes, in [0, 1], of pictures as in their files, `uint8`."""
        seen = 255 - images if self.ink else images
        return seen.astype(jnp.float32) / 255.0


class Labeller(NamedTuple):
    """A learner that was taught its classes.

    Attributes:
      config: of the run.
      classes: their names, in the order of its outputs.
      support: how many pictures taught it.
      alone: the learner, one query at a time.
      look: how it sees.
      taught: what it learnt.
      temperature: of its logits.
      expected: what to expect of its labels, in words.
    """

    config: Config
    classes: tuple[str, ...]
    support: int
    alone: Alone
    look: Look
    taught: PyTree
    temperature: float
    expected: tuple[str, ...]

    def shares(self, images: np.ndarray) -> Array:
        """The probability of each class, `float32[n, classes]`, of `uint8[n, ...]`."""
        return _shares(self.alone, self.look, self.taught, self.temperature, images)


@partial(jax.jit, static_argnums=(0, 1))
def _shares(
    alone: Alone, look: Look, taught: PyTree, temperature: Array, images: Array
) -> Array:
    logits = alone.logits(taught, look.inputs(images))
    return jax.nn.softmax(logits / jnp.asarray(temperature, logits.dtype))


def label(labeller: Labeller, targets: Targets, files: Sequence[str]) -> None:
    """Writes what was asked for.

    Args:
      labeller: what labels.
      targets: what is to be written.
      files: the pictures, as `targets.check` lists them.
    """
    if targets.save is not None:
        save(labeller, targets.save)
        print(f"saved to {targets.save}")
    if targets.export is not None:
        print(export(labeller, targets.export))
    if targets.images is not None and targets.out is not None:
        print(f"labelling {len(files)} pictures", file=sys.stderr)
        labels = Labels(labeller, targets.images, Shown() if targets.html else None)
        write_blocks(targets.out, labels.lines(files))
        labels.say()
        print(f"{labels.counts.total()} labels written to {targets.out}")
        labels.write_refused(targets.out.with_suffix(".unreadable.csv"))
        labels.write_page(targets.html)


class Row(NamedTuple):
    """What is said of a picture."""

    file: str
    label: str
    confidence: float
    runner_up: str
    runner_up_confidence: float

    def line(self) -> bytes:
        """As CSV."""
        shares = (f"{self.confidence:.4f}", f"{self.runner_up_confidence:.4f}")
        return _line((self.file, self.label, shares[0], self.runner_up, shares[1]))


class Labels:
    """The labels of a folder as they are made: counted, and shown if asked for.

    Args:
      labeller: what labels.
      folder: of the pictures.
      shown: takes them, for the page.
    """

    def __init__(self, labeller: Labeller, folder: Path, shown: Shown | None):
        self.counts: Counter[str] = Counter()
        self._refused: list[Unreadable] = []
        self._labeller, self._folder, self._shown = labeller, folder, shown

    def lines(self, files: Sequence[str]) -> Iterator[bytes]:
        """The table, a batch of lines at a time."""
        look = self._labeller.look
        batches = decode_ahead(
            self._folder,
            files,
            look.size,
            look.mode,
            batch=BATCH,
            refuse=self._refused.append,
        )
        yield _line(Row._fields)
        for batch in _reported(batches, len(files)):
            rows = _told(self._labeller, batch)
            self.counts.update(row.label for row in rows)
            if self._shown is not None:
                for row, image in zip(rows, batch.images):
                    self._shown.offer(row, image)
            yield b"".join(row.line() for row in rows)

    def say(self) -> None:
        """Prints how many have each label."""
        for name in self._labeller.classes:
            print(f"{self.counts[name]:>8} {name}")

    def write_refused(self, path: Path) -> None:
        """Writes what could not be read; of nothing, no file, nor an earlier one."""
        if not self._refused:
            path.unlink(missing_ok=True)
            return
        write_blocks(path, [_line(Unreadable._fields), *map(_line, self._refused)])
        print(f"{len(self._refused)} could not be read: listed in {path}")

    def write_page(self, path: Path | None) -> None:
        """Writes the page, if there is to be one."""
        if path is None or self._shown is None:
            return
        labeller, count = self._labeller, self.counts.total()
        facts = {
            "pictures": f"{count} of {self._folder}",
            "could not be read": len(self._refused),
            "learner": labeller.config.learner,
            "taught by": (
                f"{labeller.support} pictures of {len(labeller.classes)} classes"
            ),
            **dict(zip(("expect", "and"), labeller.expected)),
        }
        text = label_page(self._shown, self.counts, facts)
        write_whole(path, text.encode(errors="backslashreplace"))
        print(f"shown in {path}{self._shown.cut(count)}")


def _line(values: Iterable[str]) -> bytes:
    """A row of CSV; what of a name is no text is written as its code."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors="backslashreplace")


def _told(labeller: Labeller, batch: Decoded) -> list[Row]:
    """The rows of a batch."""
    shares = np.asarray(labeller.shares(batch.images))[: len(batch.files)]
    _check_finite(shares)
    first, second = np.argsort(-shares, axis=1, kind="stable")[:, :2].T
    names = labeller.classes
    return [
        Row(file, names[a], float(p[a]), names[b], float(p[b]))
        for file, p, a, b in zip(batch.files, shares, first, second)
    ]


def _check_finite(outputs: np.ndarray) -> None:
    if not np.all(np.isfinite(outputs)):
        raise InputError(
            "the learner's outputs are not finite: its training, or its adaptation to "
            "these pictures, diverged; try --checkpoint best, or train it at a lower "
            "rate"
        )


def _reported(batches: Iterable[Decoded], count: int) -> Iterator[Decoded]:
    """The batches, with a line now and then of how many are done."""
    done, said = 0, time.monotonic()
    for batch in batches:
        yield batch
        done += len(batch.files)
        if time.monotonic() - said > SECONDS:
            said = time.monotonic()
            print(f"{done} of {count}", file=sys.stderr)


def teach(
    directory: Path, support: Path, places: Places, *, kept: Kept = "last"
) -> Labeller:
    """A run's learner, taught the classes of a folder.

    Args:
      directory: the run's.
      support: a folder of pictures a class.
      places: of the run's data, to measure on their validation classes.
      kept: which checkpoint.

    Returns:
      A `Labeller`, calibrated.

    Raises:
      InputError: if there is no such run, or it is of no pictures, or the folder has
        too few classes, too many for the learner, or a picture that cannot be read.
    """
    config = configured(directory)
    look = look_of(config)
    classes = list_images(support, None)
    _check_ways(config, classes, support)
    config, task, meta, _ = restored(directory, _enough(config), kept)
    print(_counted(classes))
    batch = _read_support(classes, look)
    alone = build_alone(config, task, len(classes))
    held = held_out(config, places, list(map(len, classes.values())))
    degree, expected = calibrated(alone, meta, batch, tuple(classes), held)
    for line in expected:
        print(line)
    taught = jax.jit(alone.adapt)(meta, batch)
    count = len(batch.targets)
    return Labeller(
        config, tuple(classes), count, alone, look, taught, degree, expected
    )


def _check_ways(config: Config, classes: Mapping[str, Any], support: Path) -> None:
    if len(classes) < 2:
        raise InputError(
            f"{support} has pictures of one class, {next(iter(classes))}, and a label "
            "needs two to choose from; add a folder of another"
        )
    most = config.data.ways  # pyright: ignore (sine waves were refused)
    if len(classes) > most and not LEARNERS[config.learner].any_ways:
        raise InputError(
            f"{support} has {len(classes)} classes, and this run's {config.learner} "
            f"has outputs for {most}; take fewer, or train one of any number of "
            "classes (--learner prototypical)"
        )


def look_of(config: Config) -> Look:
    """How a run's learner sees a picture: as its data were decoded.

    Raises:
      InputError: if they were no pictures, or its network takes none.
    """
    if not isinstance(config.model, Conv4Model):
        raise InputError(
            f"a run of {type(config.data).__name__} and {type(config.model).__name__} "
            "takes no pictures; train one of images, such as metajax train glyphs"
        )
    if isinstance(config.data, FolderData):
        return Look((config.data.size, config.data.size), "RGB", ink=False)
    return Look((28, 28), "L", ink=True)


def _enough(config: Config) -> Places:
    """Places to build a task with, of which no episodes are drawn."""
    return Places(images=Path()) if isinstance(config.data, FolderData) else Places()


def build_alone(config: Config, task: Task, ways: int, **settings: Any) -> Alone:
    """A run's learner for so many classes, that predicts each query alone.

    A head of more outputs than classes is left with those outputs out of the softmax,
    in adaptation too, where every class counts alike, whatever its shots.

    A network trained with transductive batch norm normalises queries by the support
    set's statistics. So a query is spared a pass over the support set, at no loss:
    prototypical networks on Omniglot, 5-way 1-shot and 5-shot, were 77.4 and 91.6 %
    right so, and 77.2 and 91.6 % with each query beside the support set.

    Args:
      config: of the run.
      task: what its data ask for.
      ways: the number of classes.
      **settings: of the learner's own.

    Returns:
      An `Alone`.
    """
    beside = config.learner in BESIDE
    if not beside and isinstance(config.model, Conv4Model):
        norm = config.model.norm
        settled = "support" if norm == "transductive" else norm
        config = replace(config, model=replace(config.model, norm=settled))
    mean = partial(balanced_cross_entropy, classes=ways)
    losses: dict[Any, Loss] = {
        "mean": mean,
        "sum-over-ways": lambda outputs, targets: ways * mean(outputs, targets),
    }
    learner = build_learner(
        config,
        task._replace(losses=losses),
        steps=config.evaluation.steps,
        ways=ways if LEARNERS[config.learner].any_ways else None,
        **settings,
    )
    return Alone(learner, ways, beside)


def _counted(classes: Mapping[str, Sequence[Path]]) -> str:
    shots = [len(files) for files in classes.values()]
    each = (
        str(min(shots)) if min(shots) == max(shots) else f"{min(shots)} to {max(shots)}"
    )
    return f"{sum(shots)} labelled pictures of {len(classes)} classes, {each} of each"


def _read_support(classes: Mapping[str, Sequence[Path]], look: Look) -> Batch:
    images = decode_classes(list(classes.values()), look.size, look.mode)
    counts = [len(files) for files in classes.values()]
    taken = np.concatenate([part[:n] for part, n in zip(images, counts)])
    if look.ink and np.mean(taken) < 128:
        print(
            "warning: these pictures are mostly dark, and this run knows dark ink on "
            "white paper; if theirs is bright ink, invert them",
            file=sys.stderr,
        )
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Batch(look.inputs(jnp.asarray(taken)), jnp.asarray(labels))


class Held(NamedTuple):
    """Tasks of the run's validation classes, of the same ways and shots; or why not."""

    episodes: Any = None
    tasks: int = 0
    why: str = ""


def held_out(config: Config, places: Places, shots: Sequence[int]) -> Held:
    """Tasks like the one of a folder, of the run's validation classes.

    Args:
      config: of the run.
      places: of its data.
      shots: of each class of the folder.

    Returns:
      The tasks; or why there are none, where the data are not at hand or too few.
    """
    if why := _missing(config, places):
        return Held(why=why)
    ways, most = len(shots), max(shots)
    data = replace(
        config.data, ways=ways, shots=most, train_ways=None, train_shots=None
    )
    try:
        sampler = build_task(data, places).episodes("validation", QUERIES)
    except InputError as error:
        return Held(why=str(error))
    tasks = max(FEWEST, -(-TOLD // (QUERIES * ways)))
    episodes = jax.jit(sampler, static_argnums=1)(jax.random.key(config.seed), tasks)
    rows = np.concatenate([k * most + np.arange(n) for k, n in enumerate(shots)])
    support = jax.tree.map(lambda x: x[:, rows], episodes.support)
    return Held(episodes._replace(support=support), tasks)


def _missing(config: Config, places: Places) -> str:
    """What keeps a run's own data from being read, if anything does."""
    if isinstance(config.data, FolderData) and places.images is None:
        return "they are a folder of yours: give it by --run-images DIR"
    if isinstance(config.data, OmniglotData) and places.archives is None:
        from metajax.data.omniglot_builder import OmniglotCharacters

        data_dir = places.data_dir and str(places.data_dir)
        if not OmniglotCharacters(data_dir=data_dir, archives=None).is_prepared():
            return "Omniglot is not prepared here: metajax data prepare omniglot"
    return ""


def calibrated(
    alone: Alone, meta: PyTree, support: Batch, classes: Sequence[str], held: Held
) -> tuple[float, tuple[str, ...]]:
    """The temperature of a learner's confidences, and what to expect, in words.

    Args:
      alone: the learner.
      meta: its meta-parameters.
      support: the labelled pictures.
      classes: their names.
      held: tasks of the run's validation classes.

    Returns:
      The temperature, see `metajax.labelling.temperature`, and lines of text.
    """
    own = leave_one_out(alone, meta, support)
    _check_finite(own.logits)
    lines = [_own_words(own, support, classes)]
    if held.episodes is None:
        lines.append(f"the run's validation classes are not used ({held.why})")
        others = None
    else:
        others = tell_episodes(alone, meta, held.episodes)
        _check_finite(others.logits)
        lines.append(_others_words(others, held.tasks))
    if not len(own.labels) and others is None:
        lines.append("so confidences are as the learner has them, not calibrated")
        return 1.0, tuple(lines)
    return temperature(own, others), tuple(lines)


def _own_words(own: Told, support: Batch, classes: Sequence[str]) -> str:
    counts = np.bincount(np.asarray(support.targets))
    single = [name for name, n in zip(classes, counts) if n == 1]
    if not len(own.labels):
        return "no labelled picture can be left out: each is the only one of its class"
    right, count = int(np.sum(own.right())), len(own.labels)
    low, high = (round(100 * end) for end in share_interval(right, count))
    said = (
        f"of {count} labelled pictures, left out one of each class at a time, "
        f"{100 * right / count:.1f} % were told right (95 % interval {low} to {high}): "
        "expect about as much, or more where that leaves few"
    )
    if not single:
        return said
    few = "one class has" if len(single) == 1 else f"{len(single)} classes have"
    return f"{said}; {few} one picture, which cannot be left out"


def _others_words(others: Told, tasks: int) -> str:
    each = others.right().reshape(tasks, -1).mean(axis=1)
    half = Z95 * each.std(ddof=1) / np.sqrt(tasks)
    return (
        f"of {len(others.labels)} pictures of the run's validation classes, in {tasks} "
        f"tasks of as many ways and shots, {100 * each.mean():.1f} ± "
        f"{100 * half:.1f} % were told right"
    )


def save(labeller: Labeller, path: Path) -> None:
    """Writes a labeller to a file; see `metajax.adapted`."""
    config = labeller.config
    kept = None
    if config.inner.backbone is not None:
        kept = read_body(Path(config.inner.backbone), _body(config))
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
        _check_ways(config, dict.fromkeys(classes), path)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no learner of this version of metajax ({error}); save it again"
        ) from error
    task = build_task(config.data, _enough(config))
    like = jax.eval_shape(partial(_like, config, task, look, count, len(classes)))
    arrays = read_arrays(path, like)
    body = arrays["backbone"]
    alone = build_alone(config, task, len(classes), **_with_backbone(body))
    taught = jax.tree.map(jnp.asarray, arrays["taught"])
    return Labeller(config, classes, count, alone, look, taught, degree, expected)


def _like(config: Config, task: Task, look: Look, count: int, ways: int) -> PyTree:
    """Arrays of the structure and shapes of what `save` writes."""
    key = jax.random.key(0)
    body = _body(config).init(key) if config.learner == "mtl" else None
    alone = build_alone(config, task, ways, **_with_backbone(body))
    support = Batch(jnp.zeros((count, *look.shape)), jnp.zeros(count, jnp.int32))
    return {"taught": alone.adapt(alone.learner.init(key), support), "backbone": body}


def _body(config: Config) -> Model:
    """The body of a run's network."""
    task = build_task(config.data, _enough(config))
    return parts(build_model(config.model, task, context=0), config.learner)[0]


def _with_backbone(body: PyTree) -> dict[str, PyTree]:
    return {} if body is None else {"backbone": body}


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
    beside = path.with_name(f"{path.name}.json")
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
