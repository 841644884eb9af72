"""A run's learner for labelling: how it is built, what it sees, how it is measured."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import jax

from metajax import labelling
from metajax.data.folders.corrections import Corrections
from metajax.data.folders.listing import Columns
from metajax.errors import InputError
from metajax.evaluation import per_query
from metajax.experiments.backbone import read_body
from metajax.experiments.build import bare_task, build_learner
from metajax.experiments.config import Config
from metajax.experiments.families import ImageData
from metajax.experiments.plain import names_of
from metajax.experiments.record import examples
from metajax.experiments.results import Kept
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Kind, Places, Task, build_model
from metajax.labelling import (
    ImageFormat,
    ImageLearner,
    LabelledImages,
    Labeller,
    PerQueryLearner,
    ValidationTasks,
    balanced_cross_entropy,
    choose_preparation,
    read_labelled,
    validation_tasks,
)
from metajax.models.headed import parts
from metajax.types import Loss, Model, Params, Sampler

Crop = Literal["auto", "none", "ink"]
TOGETHER = 8  # queries at a time, each with a support set beside it


def teach_run(
    directory: Path,
    support: Path,
    places: Places,
    *,
    kept: Kept = "last",
    columns: Columns | None = None,
    corrections: Sequence[Corrections] = (),
    invert: bool = False,
    crop: Crop = "auto",
    none: bool = False,
) -> Labeller:
    """Teaches a run's learner the classes of a folder.

    Args:
      directory: the run's.
      support: a folder of labelled images, or a table.
      places: of the run's data, to calibrate and measure on its validation classes.
      kept: which checkpoint.
      columns: the names of the table's columns, see `read_labelled`.
      corrections: further labelled pictures, see there.
      invert: whether pictures that are bright on dark become dark on bright.
      crop: whether pictures are cropped to their ink; "auto" chooses both, unless
        `invert` is given, by leave-one-out, see `labelling.choose_preparation`.
      none: whether pictures may get the label that they are of no class.

    Returns:
      A `Labeller`.

    Raises:
      InputError: if there is no such run, it is not of images, or the folder will not
        do.
    """
    config = configured(directory)
    check_kind(config, "classes")
    learner = image_learner(config)
    form = learner.format.prepared(invert=invert, crop=crop == "ink")
    learner = learner._replace(format=form)
    read = partial(
        read_support, support, columns=columns, corrections=corrections, none=none
    )
    images = read(learner)
    meta, _ = restored(directory, config, bare_task(config), kept)
    print(describe_shots(images.shots))
    reason, validation = "", None
    try:
        validation = own_validation_tasks(directory, config, places, images.shots)
    except InputError as error:
        reason = f"the run's validation classes are not used ({error})"
    other = read if crop == "auto" else None
    learner, images, chosen = choose_preparation(learner, meta, images, other)
    labeller = labelling.teach(learner, meta, images, validation=validation)
    lines = (*chosen, reason) if reason else chosen
    return labeller._replace(expected=(*labeller.expected, *lines))


def check_kind(config: Config, asked: Kind) -> None:
    """Checks that a run labels pictures by what is asked for.

    Raises:
      InputError: if it does not; it says which flag is for it.
    """
    kind = bare_task(config).kind
    flags = {"classes": "--out FILE", "masks": "--masks DIR", "boxes": "--boxes FILE"}
    if kind != asked and kind in flags:
        raise InputError(
            f"this is a run of {kind}, which labels pictures by {flags[kind]}; give "
            f"that, with --support and --images, in place of {flags[asked].split()[0]}"
        )
    if kind != asked:
        raise_no_pictures(config)


def raise_no_pictures(config: Config) -> NoReturn:
    """Refuses a run that is not of pictures."""
    raise InputError(
        f"a run of {type(config.data).__name__} and {type(config.model).__name__} "
        "takes no pictures; train one of images, such as metajax train glyphs"
    )


def read_support(
    support: Path,
    learner: ImageLearner,
    *,
    columns: Columns | None,
    corrections: Sequence[Corrections],
    none: bool,
) -> LabelledImages:
    """`read_labelled`, with the flags that an error belongs to."""
    flag = "--support or --corrections" if corrections else "--support"
    with blaming(flag):
        return read_labelled(
            support, learner, columns=columns, corrections=corrections, none=none
        )


@contextmanager
def blaming(flag: str) -> Iterator[None]:
    """Says in an error to which flag of the command it belongs."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error


def image_learner(config: Config) -> ImageLearner:
    """A run's learner, with the backbone that it is built on.

    Raises:
      InputError: if the run is not of images, or its backbone cannot be read.
    """
    learner = rebuild_run(config.as_dict())
    if learner.pretrained is None:
        return learner
    given = config.inner.backbone
    body = body_of(config, bare_task(config))
    pretrained = read_body(None if given is None else Path(given), body)
    return learner._replace(pretrained=pretrained)


def rebuild_run(facts: Mapping[str, Any]) -> ImageLearner:
    """A run's learner from its configuration, its backbone abstract."""
    config = Config.from_dict(facts)
    config = replace(config, inner=config.inner.with_backbone(None))
    config.check()
    task = bare_task(config)
    pretrained = None
    form = format_of(config, task)
    if config.inner.pretrained:
        pretrained = jax.eval_shape(body_of(config, task).init, jax.random.key(0))
    return ImageLearner(
        build=partial(build_per_query, config, task),
        format=form,
        name=config.learner,
        most_classes=None if config.inner.any_ways else task.outputs,
        facts=config.as_dict(),
        pretrained=pretrained,
    )


def format_of(config: Config, task: Task) -> ImageFormat:
    """How an image becomes an input of a run's learner.

    Raises:
      InputError: if the run's data are not images, or its network takes none.
    """
    if not isinstance(config.data, ImageData) or not config.model.images:
        raise_no_pictures(config)
    return image_format(config, task)


def image_format(config: Config, task: Task) -> ImageFormat:
    """How an image becomes an input, of a run that takes images."""
    height, width, channels = task.input_shape
    mode = "L" if channels == 1 else "RGB"
    return ImageFormat((height, width), mode, config.data.inverted)


def body_of(config: Config, task: Task) -> Model:
    """The body of a run's network."""
    return parts(build_model(task, config.model), config.learner)[0]


def build_per_query(
    config: Config, task: Task, ways: int, pretrained: Params | None = None
) -> PerQueryLearner:
    """A run's learner for a number of classes, predicting each query by itself.

    If a head has more outputs than there are classes, these outputs are left out of the
    softmax, in adaptation too, and every class counts alike there, whatever its shots.

    A network trained with transductive batch norm normalises queries by the statistics
    of the support set. That spares a pass over the support set for each query, at no
    loss: prototypical networks on Omniglot, 5-way 1-shot and 5-shot, reach 77.4 and
    91.6 % so, and 77.2 and 91.6 % with each query beside the support set; relation
    networks on glyphs, whose comparator settles on the support set's own pairs, reach
    72.9 and 86.5 %, and 73.2 and 86.4 %. A network of cells keeps no statistics, so
    each of its queries is predicted beside the support set.

    Args:
      config: of the run.
      task: what its data ask for.
      ways: the number of classes.
      pretrained: the backbone that the learner is built on, if it is.
    """
    inner = config.inner
    model: Any = config.model
    fixed = model.norm == "transductive" and "norm" not in names_of(type(model))
    beside = inner.beside_support or fixed
    if not beside and "norm" in names_of(type(model)):
        settled = "support" if model.norm == "transductive" else model.norm
        config = replace(config, model=replace(model, norm=settled))
    mean = partial(balanced_cross_entropy, classes=ways)
    losses: dict[Any, Loss] = {
        "mean": mean,
        "sum-over-ways": lambda outputs, targets: ways * mean(outputs, targets),
    }
    outputs = ways if inner.any_ways else task.outputs
    task = task._replace(losses=losses, outputs=outputs)
    settings = {} if pretrained is None else {"backbone": pretrained}
    learner = build_learner(config, task, steps=config.evaluation.steps, **settings)
    if beside:
        learner = per_query(learner, at_a_time=TOGETHER)
    return PerQueryLearner(learner, ways)


def run_validation_tasks(
    config: Config, places: Places, shots: Sequence[int]
) -> ValidationTasks:
    """Tasks of a run's validation classes, like that of a labelled folder.

    Args:
      config: of the run.
      places: of its data.
      shots: of each class of the folder.

    Raises:
      InputError: if the data are not at hand, or have too few classes or examples.
    """
    config.data.check_at_hand(places)

    def sampler(ways: int, shots: int, queries: int) -> Sampler:
        family = replace(
            config.data, ways=ways, shots=shots, train_ways=None, train_shots=None
        )
        return family.build(places).episodes("validation", queries)

    return validation_tasks(sampler, shots, seed=config.seed)


def own_validation_tasks(
    directory: Path, config: Config, places: Places, shots: Sequence[int]
) -> ValidationTasks:
    """The same, refused if the data are not those that the run was trained on.

    Raises:
      InputError: see `run_validation_tasks`; and if the data are other data.
    """
    tasks = run_validation_tasks(config, places, shots)
    data = examples(directory, config.data.build(places), "validation")
    if data.foreign:
        raise InputError(data.why)
    if data.why:
        print(
            f"warning: {data.why}; {data.folder} is taken to be its own",
            file=sys.stderr,
        )
    return tasks


def describe_shots(shots: Sequence[int]) -> str:
    """How many images of how many classes are labelled."""
    few, many = min(shots), max(shots)
    each = str(few) if few == many else f"{few} to {many}"
    return f"{sum(shots)} labelled pictures of {len(shots)} classes, {each} of each"
