"""The data that a run is evaluated on: its own, or those of another family.

The run's network, learner and numbers stay as they are, and the other family makes
inputs of the shape that the network was trained on.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from metajax.checks import check_known
from metajax.data.folders.contents import hash_bytes
from metajax.errors import InputError
from metajax.experiments.build import at_test_tasks, bare_task, build_task
from metajax.experiments.config import Config
from metajax.experiments.families import Family, FolderData
from metajax.experiments.plain import names_of
from metajax.experiments.presets import PRESETS
from metajax.experiments.record import Examples, examples, other_examples
from metajax.experiments.tasks import Places, Split, Task

# What learners and networks are built for; `size` follows the run's images.
FOLLOWED = "ways", "shots", "stride"
BY_CLASS = "a folder of images by class"


class Domain(NamedTuple):
    """The data that a run is evaluated on.

    Attributes:
      run: the run's configuration, as it was trained.
      data: the family whose tasks are taken, with the ways and shots of the run.
      named: the family whose ways and shots `name` stands for.
      on: in the name of results on other data, such as "-on-glyphs"; empty for the
        run's own.
      inverted: whether inputs are inverted, x ← 1 - x; None to follow the run.
      by_folder: whether the data are in a folder, whose name and hash results have.
    """

    run: Config
    data: Family
    named: Family
    on: str = ""
    inverted: bool | None = None
    by_folder: bool = False

    @property
    def is_other(self) -> bool:
        """Whether the family is another than the run's."""
        return self.data is not self.run.data

    @property
    def flips(self) -> bool:
        """Whether inputs become 1 - x.

        Where `inverted` does not say, dark ink on white becomes bright ink for a run of
        that, and the reverse, as `metajax label` has it.
        """
        if self.inverted is None:
            return self.run.data.inverted != self.data.inverted
        return self.inverted

    @property
    def name(self) -> str:
        """In the name of a result, such as "-on-glyphs-inverted"."""
        return self.on + "-inverted" * self.flips

    @property
    def facts(self) -> dict[str, Any]:
        """What a protocol says of data other than the run's own."""
        trained = self.run.as_dict()["data"].items()
        source = " ".join(f"{k} {v}" for k, v in trained if v is not None)
        facts: dict[str, Any] = {"trained_on": source} if self.is_other else {}
        return facts | ({"inverted": True} if self.flips else {})

    def build(self, config: Config, places: Places) -> Task:
        """The task of these data, as the run's network takes it.

        Args:
          config: the run's, with these data or some of their numbers changed.
          places: where the data are.

        Raises:
          InputError: if the data are not at hand, or their inputs cannot be made so.
        """
        task, own = build_task(config, places), bare_task(self.run)
        if task.outputs != own.outputs and not config.inner.any_ways:
            raise InputError(
                f"the run's network has {own.outputs} outputs, and tasks of "
                f"{self.data.origin[0]} need {task.outputs}; choose another preset"
            )
        task = self.data.presented(task, own.input_shape, inverted=self.flips)
        return task._replace(support=own.support) if self.is_other else task

    def examples(self, directory: Path, task: Task, split: Split) -> Examples:
        """The examples that are measured, see `metajax.experiments.record`."""
        if self.is_other:
            return other_examples(directory, task, split, named=self.by_folder)
        return examples(directory, task, split)

    def changes(self, data: Family) -> str:
        """What `data` has other than `name` stands for, for the name of a result."""
        return "".join(
            f"-{_shown(value)}{name}"
            for name in self.data.of_test
            if (value := getattr(data, name, None)) != getattr(self.named, name, None)
        )


def _shown(value: Any) -> str:
    """A value in the name of a file."""
    if not isinstance(value, tuple):
        return str(value)
    one = value[0] if len(value) == 1 else hash_bytes("\n".join(value).encode())[:8]
    return f"{one}-{len(value)}"


def own_domain(config: Config) -> Domain:
    """The data that a run was trained on."""
    return Domain(config, config.data, config.data)


def domain_of(
    config: Config,
    places: Places,
    *,
    on: str | None = None,
    inverted: bool | None = None,
) -> Domain:
    """The data that a run is to be evaluated on.

    Args:
      config: the run's.
      places: where the data are; `images` stands for a folder of images, if the run
        was not trained on one.
      on: the preset whose data they are; the run's own by default.
      inverted: whether inputs are inverted; None to follow the run.

    Raises:
      InputError: if there is no such preset, or its tasks are of another kind.
    """
    if on is not None:
        check_known("preset", on, PRESETS)
        named, by_folder = PRESETS[on].data, places.images is not None
        data = _followed(named, config, on)
        return Domain(config, data, named, f"-on-{on}", inverted, by_folder)
    if places.images is not None and "images" not in config.data.places:
        data = _followed(FolderData(), config, BY_CLASS, "give --on PRESET too")
        return Domain(config, data, data, "-on", inverted, by_folder=True)
    return own_domain(config)._replace(inverted=inverted)


def _followed(
    family: Family, config: Config, name: str, mend: str = "choose another preset"
) -> Family:
    """The family, with what the run's network and learner are built for.

    Raises:
      InputError: if its tasks are of another kind than the run's.
    """
    others = at_test_tasks(replace(config, data=family))
    own, task = bare_task(config), bare_task(others)
    if own.trials is not None:
        raise InputError(
            "a run of trials is evaluated on its own; leave out --on and --images"
        )
    if config.data.same_classes:
        raise InputError(
            f"a run of {config.data.origin[0]} is evaluated on its own data, as others "
            "have other classes; leave out --on and --images"
        )
    if task.kind != own.kind:
        raise InputError(
            f"a run of {own.kind} is evaluated on tasks of {own.kind}, and those of "
            f"{name} are of {task.kind}; {mend}"
        )
    names = names_of(type(family))
    shared = names & names_of(type(config.data)) & {*FOLLOWED}
    follow: dict[str, Any] = {each: getattr(config.data, each) for each in shared}
    shape = getattr(config.data, "image_shape", None)
    if "size" in names and shape is not None:
        follow["size"] = shape[0]
    return replace(others.data, **follow)
