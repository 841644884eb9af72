"""What a run is: its configuration, whole."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar, Union

import optax
import tyro

from metajax.checks import check_one_of
from metajax.errors import InputError
from metajax.experiments.augmenting import Augment
from metajax.experiments.bounds import Seed, check_bounds
from metajax.experiments.evaluating import MEASUREMENTS, EvaluatingSteps
from metajax.experiments.families import FAMILIES
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import NETWORKS
from metajax.experiments.outer import Outer
from metajax.experiments.plain import checked, from_plain, names_of, object_at
from metajax.experiments.renewal import FORMAT, renewed
from metajax.experiments.tasks import LossName
from metajax.models.precision import Precision

T = TypeVar("T")
Data = Annotated[Union[FAMILIES], tyro.conf.AvoidSubcommands]  # noqa: UP007
Model = Annotated[Union[NETWORKS], tyro.conf.AvoidSubcommands]  # noqa: UP007
Inner = Annotated[
    Union[tuple(LEARNERS.values())],  # noqa: UP007
    tyro.conf.AvoidSubcommands,
]
Measurement = Annotated[Union[MEASUREMENTS], tyro.conf.AvoidSubcommands]  # noqa: UP007
CONFIG = "config.json"  # the file of a run's
KINDS: dict[str, dict[str, Any]] = {
    "data": {kind.__name__: kind for kind in FAMILIES},
    "model": {kind.__name__: kind for kind in NETWORKS},
}


@dataclass(frozen=True)
class Config:
    """A run, wholly: the same configuration gives the same numbers."""

    data: Data  # pyright: ignore (built from a table)
    model: Model  # pyright: ignore
    inner: Inner  # pyright: ignore
    outer: Outer = field(default_factory=Outer)
    evaluation: Measurement = field(default_factory=EvaluatingSteps)  # pyright: ignore
    augment: Augment = field(default_factory=Augment)
    loss: LossName = "mean"
    """Loss over a set of examples: their mean, or the sum over an episode's ways, as in
    Finn's MAML code, whose inner learning rates assume it."""
    precision: Precision = "float32"
    """Precision of the network's computation. Parameters and sums stay in float32, as
    do comparators, memories and sequence models on the network's features."""
    forms: Literal["table", "tuned"] = "table"
    """How operations are computed: in the form listed for this kind of device (table),
    or in the fastest on this device, timed before the first meta-step (tuned)."""
    seed: Seed = 0
    """Random seed for the initial parameters and the training tasks."""
    start: Annotated[str | None, tyro.conf.Suppress] = None
    """Hash of the meta-parameters that training starts from, if another run's."""

    @property
    def learner(self) -> str:
        """The learner's name."""
        return self.inner.name

    def build_optimizer(self) -> optax.GradientTransformation:
        """The outer optimizer, for as many updates as its meta-steps make."""
        return self.outer.build(self.inner.updates)

    def check(self) -> None:
        """Refuses, before anything is written, what would fail later.

        Raises:
          InputError: if a value is out of bounds, there are meta-steps with nothing to
            train, or the learner cannot search the network, or can do nothing else; it
            names the command's flag.
        """
        check_bounds(self)
        if self.inner.searches and not self.model.searched:
            raise InputError(
                f"--learner {self.learner} adapts an architecture, and --model "
                f"{self.model.name} has none to search as it is; take --model cells "
                "without a genotype, or --learner maml"
            )
        if self.inner.pretrained and self.model.searched:
            raise InputError(
                f"--learner {self.learner} learns factors of a pre-trained body, which "
                "an architecture is no part of; give --model.genotype, or take another "
                "learner"
            )
        if self.outer.steps and not self.inner.trained:
            raise InputError(
                f"{self.learner} has nothing to meta-train, so --outer.steps must be "
                f"0, got {self.outer.steps}; leave it out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the learner, and the kinds of data and model, by name."""
        kinds = {name: {"kind": type(getattr(self, name)).__name__} for name in KINDS}
        plain = asdict(self)
        named = {name: kinds[name] | plain[name] for name in kinds}
        return {"format": FORMAT, "learner": self.learner} | plain | named

    @classmethod
    def from_dict(cls, plain: Any) -> "Config":
        """The inverse of `as_dict`, also after a trip through JSON or TOML.

        Raises:
          InputError: if a part is missing, or a value unknown or of another type.
        """
        whole = renewed(object_at("a configuration", plain))
        inner = LEARNERS[whole.pop("learner")]
        kinds_of_parts = {
            "inner": inner,
            "outer": Outer,
            "augment": Augment,
            "evaluation": inner.measurement,
        }
        parts: dict[str, Any] = {
            name: from_plain(kind, whole.get(name), name)
            for name, kind in kinds_of_parts.items()
        }
        for name, kinds in KINDS.items():
            values = dict(object_at(name, whole.get(name)))
            kind = str(values.pop("kind", None))
            if kind not in kinds:
                raise InputError(
                    f"the kind of {name} must be {' or '.join(kinds)}, got {kind}"
                )
            parts[name] = from_plain(kinds[kind], values, name)
        model = type(parts["model"])
        if model is not model.for_learner(inner.makes_head):
            kind = model.for_learner(inner.makes_head).__name__
            raise InputError(
                f"the kind of model must be {kind} with {inner.name}, got "
                f"{model.__name__}"
            )
        others = {name: x for name, x in whole.items() if name not in parts}
        return cls(**parts, **checked(cls, others, "a configuration"))


def carried(settings: Any, kind: type[T], *, but: Collection[str] = ()) -> T:
    """Options of another class, with the values of those that both have, but some."""
    shared = (names_of(type(settings)) & names_of(kind)) - set(but)
    return kind(**{name: getattr(settings, name) for name in shared})


def with_learner(config: Config, name: str) -> Config:
    """A configuration of another learner, which keeps the options that both have.

    Args:
      config: the configuration.
      name: of the learner.

    Returns:
      The configuration; options that the learner has no use for are not in it, and
      those that either learner does not share have their defaults. One with inner steps
      of its own is evaluated after as many, and one that is not trained has no
      meta-steps.
    """
    kind, before = LEARNERS[name], type(config.inner)
    if kind is before:
        return config
    but = {*kind.not_inherited, *before.not_inherited}
    inner = carried(config.inner, kind, but=but)
    evaluation = carried(config.evaluation, kind.measurement, but=but)
    if "steps" in kind.not_inherited:
        evaluation = replace(evaluation, steps=inner.steps)
    outer = config.outer
    if kind.trained is not before.trained:
        outer = replace(outer, steps=Outer.steps if kind.trained else 0)
    model = carried(config.model, type(config.model).for_learner(kind.makes_head))
    return replace(config, inner=inner, model=model, outer=outer, evaluation=evaluation)


def with_model(config: Config, name: str) -> Config:
    """A configuration of another network, which keeps the options that both have.

    Raises:
      InputError: if there is no network of that name.
    """
    makes_head = config.inner.makes_head
    kinds = {kind.name: kind.for_learner(makes_head) for kind in NETWORKS}
    check_one_of("the kind of model", name, tuple(kinds))
    return replace(config, model=carried(config.model, kinds[name]))


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with some plain values, nested as `as_dict` has them.

    A learner, the kind of the data, and that of the model (its class, or as `--model`
    takes it) are changed first, and so decide which options there are.

    Raises:
      InputError: if a value is unknown or of another type.

    >>> from metajax.experiments.presets import PRESETS
    >>> changes = {"learner": "imaml", "inner": {"strength": 3.0}}
    >>> changed(PRESETS["glyphs"], changes).inner.strength
    3.0
    """
    if (learner := changes.get("learner")) is not None:
        check_one_of("learner", learner, tuple(LEARNERS))
        config = with_learner(config, learner)
    model = dict(object_at("model", changes.get("model", {})))
    if kind := str(model.pop("kind", "")):
        known = KINDS["model"].get(kind)
        config = with_model(config, kind if known is None else known.name)
    data = dict(object_at("data", changes.get("data", {})))
    if kind := str(data.pop("kind", "")):
        check_one_of("the kind of data", kind, tuple(KINDS["data"]))
        config = replace(config, data=carried(config.data, KINDS["data"][kind]))
    whole = {**changes, "model": model, "data": data}
    return Config.from_dict(_merged(config.as_dict(), whole))


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, of which some are changed."""
    merged = dict(base)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
        merged[name] = _merged(base[name], value) if nested else value
    return merged
