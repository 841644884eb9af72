"""A run's learner taught the classes of a folder, and what to expect of it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data._survey import survey
from metajax.data.decoding import decode_classes
from metajax.data.listing import list_images, warn_each
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.staging import Drawn, draw_and_fetch, staged
from metajax.errors import InputError
from metajax.evaluation.scores import Z95
from metajax.experiments.prepared import find_prepared
from metajax.experiments.presets import CifarData, Config, FolderData, OmniglotData
from metajax.experiments.record import examples
from metajax.experiments.results import Kept
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places, build_task
from metajax.labelling.classes import (
    Alone,
    Told,
    leave_one_out,
    share_interval,
    tell_episodes,
    temperature,
)
from metajax.labelling.labeller import (
    Labeller,
    Look,
    backbone_of,
    bare_task,
    build_alone,
    check_finite,
    check_ways,
    enough_to_build,
    look_of,
)
from metajax.types import Array, Batch, Episode, PyTree

QUERIES, TOLD, FEWEST = 3, 600, 10  # validation: a class, in all, and tasks at least
SHOTS = 50  # of a validation class, at most: more cost more, and tell little more


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
    look = look_of(config, bare_task(config))
    listing = list_images(support, None)
    classes = listing.classes
    warn_each(listing.lines)
    check_ways(config, classes, support)
    config, task, meta, _ = restored(directory, enough_to_build(config), kept)
    print(_counted(classes))
    bits, lines = survey(listing.folder, listing.files)
    warn_each(lines)
    batch = _read_support(classes, look, bits)
    backbone = backbone_of(config, task)
    alone = build_alone(config, task, len(classes), backbone)
    held = own_held_out(directory, config, places, list(map(len, classes.values())))
    degree, expected = calibrated(alone, meta, batch, tuple(classes), held)
    taught = jax.jit(alone.adapt)(meta, batch)
    return Labeller(
        config,
        tuple(classes),
        len(batch.targets),
        alone,
        look,
        taught,
        degree,
        expected,
        backbone,
        bits,
    )


def _counted(classes: Mapping[str, Sequence[Path]]) -> str:
    shots = [len(files) for files in classes.values()]
    each = (
        str(min(shots)) if min(shots) == max(shots) else f"{min(shots)} to {max(shots)}"
    )
    return f"{sum(shots)} labelled pictures of {len(classes)} classes, {each} of each"


def _read_support(
    classes: Mapping[str, Sequence[Path]], look: Look, bits: int | None
) -> Batch:
    images = decode_classes(list(classes.values()), look.size, look.mode, bits)
    counts = [len(files) for files in classes.values()]
    taken = np.concatenate([part[:n] for part, n in zip(images, counts)])
    if look.ink and np.mean(taken) < 128:
        print(
            "warning: these pictures are mostly dark, and this run knows dark ink on "
            "white paper; if theirs is bright ink, invert them",
            file=sys.stderr,
        )
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    order = mixed(len(labels))
    return Batch(look.inputs(jnp.asarray(taken[order])), jnp.asarray(labels[order]))


def mixed(count: int) -> np.ndarray:
    """An order that is not that of the classes, for learners that read in order.

    Args:
      count: of examples.

    Returns:
      The same permutation of so many, whenever it is asked for.
    """
    return np.random.default_rng(0).permutation(count)


class Held(NamedTuple):
    """Tasks of the run's validation classes, of the same ways and shots; or why not."""

    episodes: Drawn | None = None
    tasks: int = 0
    why: str = ""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Chosen(SamplerWrapper):
    """The episodes of another sampler, of some of their support examples.

    Attributes:
      episodes: the other.
      rows: which support examples of each episode, in which order.
    """

    episodes: StagedSampler
    rows: Array

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, tuple[()]]:
        """Draws for the other sampler, and nothing of its own."""
        return self.episodes.draw(key, tasks), ()

    def make(self, fetched: tuple[PyTree, tuple[()]]) -> Episode:
        """Makes the episodes of the other sampler, and takes the rows."""
        episodes = self.episodes.make(fetched[0])
        support = jax.tree.map(lambda x: x[:, self.rows], episodes.support)
        return episodes._replace(support=support)


def held_out(config: Config, places: Places, shots: Sequence[int]) -> Held:
    """Tasks like the one of a folder, of the run's validation classes.

    Of a class of many shots they have fewer.

    Args:
      config: of the run.
      places: of its data.
      shots: of each class of the folder.

    Returns:
      The tasks; or why there are none, where the data are not at hand or too few.
    """
    shots = [min(n, SHOTS) for n in shots]
    ways, most = len(shots), max(shots)
    data = replace(
        config.data, ways=ways, shots=most, train_ways=None, train_shots=None
    )
    try:
        _check_at_hand(config, places)
        sampler = build_task(data, places).episodes("validation", QUERIES)
    except InputError as error:
        return Held(why=str(error))
    tasks = max(FEWEST, -(-TOLD // (QUERIES * ways)))
    rows = np.concatenate([k * most + np.arange(n) for k, n in enumerate(shots)])
    chosen = Chosen(staged(sampler), jnp.asarray(rows[mixed(len(rows))]))
    return Held(draw_and_fetch(chosen, jax.random.key(config.seed), tasks), tasks)


def own_held_out(
    directory: Path, config: Config, places: Places, shots: Sequence[int]
) -> Held:
    """The same, unless the data that are given are not those of the run."""
    held = held_out(config, places, shots)
    if held.episodes is None:
        return held
    data = examples(directory, build_task(config.data, places), "validation")
    if data.foreign:
        return Held(why=data.why)
    if data.why:
        print(
            f"warning: {data.why}; {data.folder} is taken to be its own",
            file=sys.stderr,
        )
    return held


def _check_at_hand(config: Config, places: Places) -> None:
    """Checks that a run's own data can be read without preparing any.

    Raises:
      InputError: if they cannot.
    """
    if isinstance(config.data, FolderData) and places.images is None:
        raise InputError("they are a folder of yours: give it by --run-images DIR")
    name = {OmniglotData: "omniglot", CifarData: "cifar100"}.get(type(config.data))
    if name is not None and places.archives is None:
        find_prepared(name, places.data_dir)


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
      The temperature, see `metajax.labelling.classes.temperature`, and lines of text.
    """
    own = leave_one_out(alone, meta, support)
    check_finite(own.logits)
    lines = [_own_words(own, support, classes)]
    if held.episodes is None:
        lines.append(f"the run's validation classes are not used ({held.why})")
        others = None
    else:
        others = tell_episodes(alone, meta, held.episodes)
        check_finite(others.logits)
        most = int(np.max(np.bincount(support.targets)))
        lines.append(_others_words(others, held.tasks, most))
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
    low, high = (100 * end for end in share_interval(right, count))
    guessed = 100 / len(classes)
    verdict = (
        "expect about as much, or more where that leaves few"
        if low > guessed
        else f"that may be no better than guessing ({guessed:.1f} %); label more of "
        "each, or train the run for longer"
    )
    said = (
        f"of {count} labelled pictures, left out one of each class at a time, "
        f"{100 * right / count:.1f} % were told right (95 % interval {low:.0f} to "
        f"{high:.0f}): {verdict}"
    )
    if not single:
        return said
    few = "one class has" if len(single) == 1 else f"{len(single)} classes have"
    return f"{said}; {few} one picture, which cannot be left out"


def _others_words(others: Told, tasks: int, most: int) -> str:
    each = others.right().reshape(tasks, -1).mean(axis=1)
    half = Z95 * each.std(ddof=1) / np.sqrt(tasks)
    shots = f"at most {SHOTS} shots" if most > SHOTS else "shots"
    return (
        f"of {len(others.labels)} pictures of the run's validation classes, in {tasks} "
        f"tasks of as many ways and {shots}, {100 * each.mean():.1f} ± "
        f"{100 * half:.1f} % were told right"
    )
