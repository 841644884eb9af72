"""What a run is: typed configurations, and the presets the command offers."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from metajax.errors import InputError
from metajax.experiments.plain import from_plain, object_at
from metajax.models.blocks import Halving
from metajax.models.dense import Head
from metajax.models.norms import NormName
from metajax.models.precision import Precision
from metajax.models.resnet12 import Readout

LearnerName = Literal[
    "maml",
    "fomaml",
    "anil",
    "boil",
    "reptile",
    "proto-maml",
    "imaml",
    "cavia",
    "meta-sgd",
    "meta-curvature",
    "meta-lstm",
    "learned-optimizer",
    "maml++",
    "mtl",
    "prototypical",
    "matching",
    "relation",
    "siamese",
    "r2d2",
    "lr-d2",
    "meta-opt-net",
    "neural-process",
    "mann",
    "snail",
]
LossName = Literal["mean", "sum-over-ways"]


@dataclass(frozen=True)
class SinusoidData:
    """Sine waves (Finn et al., 2017)."""

    shots: int = 10
    """Support points a task."""
    train_shots: int | None = None
    """Support points a task in training; by default `shots`. Reptile wants more."""
    queries: int = 10
    """Query points a task, in training."""


@dataclass(frozen=True)
class ImageData:
    """Tasks of images, of any kind."""

    ways: int = 5
    """Classes a task."""
    shots: int = 1
    """Support images a class."""
    train_shots: int | None = None
    """Support images a class in training; by default `shots`. Reptile wants more."""
    queries: int = 5
    """Query images a class, in training."""
    train_ways: int | None = None
    """Classes a task in training; as many by default. For learners that take any number
    (prototypical networks want more)."""


@dataclass(frozen=True)
class GlyphsData(ImageData):
    """Procedural characters, drawn as they are asked for."""


@dataclass(frozen=True)
class OmniglotData(ImageData):
    """Omniglot, Vinyals' split."""

    rotations: Literal[1, 4] = 4
    """4 counts each character turned by 0, 90, 180 and 270 degrees as four classes."""


@dataclass(frozen=True)
class FolderData(ImageData):
    """Images in a folder of yours, split: `--images DIR`."""

    queries: int = 15
    size: int = 84
    """Height and width that images are resized to, in pixels."""


@dataclass(frozen=True)
class CifarData(ImageData):
    """CIFAR-100, 32x32, in a split of few-shot learning."""

    queries: int = 15
    splits: Literal["cifar-fs", "fc100"] = "cifar-fs"
    """By class, at random (CIFAR-FS), or by superclass (FC100)."""


@dataclass(frozen=True)
class MLPModel:
    """A multilayer perceptron."""

    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers."""


@dataclass(frozen=True)
class Conv4Model:
    """Four convolutional blocks."""

    filters: int = 64
    """Features a block."""
    pooling: Halving = "stride"
    """How a block halves its images."""
    head: Head = "zero"
    """Where the linear head starts."""
    norm: NormName = "transductive"
    """What batch norm goes by: the current batch, the support set, or that and each
    image itself (TaskNorm-I), in a share that is learnt and adapts with the rest."""
    halvings: int = 4
    """How many blocks halve their images; relation networks want 2."""


@dataclass(frozen=True)
class ResNet12Model:
    """Four residual blocks of three convolutions."""

    widths: tuple[int, int, int, int] = (64, 160, 320, 640)
    """Features of each block."""
    pool: Readout = "mean"
    """What the head takes of the last block's maps: their averages, or all of them."""
    head: Head = "zero"
    """Where the linear head starts."""
    norm: NormName = "transductive"
    """What batch norm goes by; see Conv4Model."""


@dataclass(frozen=True)
class Augment:
    """Changes of the training episodes, of images."""

    classes: Literal["none", "turn", "turn-flip"] = "none"
    """New classes: each of an episode turned by a multiple of 90 degrees, or mirrored
    too. With Omniglot, use --data.rotations 1, which turns classes by itself."""
    jitter: float = 0.0
    """Of each image: the largest shift and change of scale, as shares, and the largest
    turn, of a quarter."""
    mix: Literal["none", "mixup", "metamix"] = "none"
    """Mixtures of examples: of the same side (mixup), or of query and support, of which
    Reptile sees none."""
    alpha: float = 1.0
    """Of a mixture's Beta(α, α); 1 is uniform, and MetaMix's authors take 2."""
    fewest_ways: int | None = None
    """Tasks of at least so many ways, and at most those of training, in one padded
    shape; not with --augment.mix."""
    fewest_shots: int | None = None
    """Classes of at least so many shots, likewise."""


@dataclass(frozen=True)
class Inner:
    """Adaptation to one task."""

    rate: float = 0.4
    """Learning rate."""
    steps: int = 1
    """Steps in training."""
    optimizer: Literal["sgd", "momentum", "adam", "adam-b1-0"] = "sgd"
    """Momentum is 0.9; Adam's eps_root keeps its derivative finite; Reptile's has β1 =
    0. Meta-SGD, and others that learn their own from this rate on, have none."""
    batch: int | None = None
    """Examples a step; all by default."""
    strength: float = 2.0
    """iMAML: strength λ of the proximal regularization."""
    damping: float = 0.0
    """iMAML: damping added to the Hessian in the conjugate-gradient solve."""
    backbone: str | None = None
    """Of MTL, a directory of metajax pretrain; other learners have none."""


@dataclass(frozen=True)
class Outer:
    """Meta-training."""

    steps: int = 60_000
    """Meta-steps."""
    tasks: int = 32
    """Tasks a meta-batch."""
    rate: float = 1e-3
    """Learning rate, at its peak."""
    optimizer: Literal["adam", "sgd", "nesterov"] = "adam"
    """The outer optimizer; Nesterov's momentum is 0.9."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What the rate does over the run; cosine warms up over the first 4 % of it."""
    first_order: int = 0
    """Meta-steps at the start that take the first-order gradient (MAML++)."""
    multi_step: int = 0
    """Meta-steps at the start in which the loss after every inner step counts, each
    time less (MAML++)."""
    clip: float | None = None
    """Largest norm of the meta-gradient."""
    clip_each: float | None = None
    """Largest entry of it, as in Finn's code for miniImageNet."""
    weight_decay: float = 0.0
    """Towards zero, of all meta-parameters (AdamW's, or SGD's); learnt rates and MTL's
    factors are among them."""
    average: float | None = None
    """Decay of a running average of the meta-parameters, which is then what is
    evaluated; 0.999 is usual. None by default."""
    tasks_per_chunk: int | Literal["auto"] = "auto"
    """Tasks at a time; by default as many as stay in cache, or fit in memory."""


@dataclass(frozen=True)
class Evaluating:
    """How the result is measured, on test tasks."""

    tasks: int = 1000
    """Tasks."""
    steps: int = 3
    """Adaptation steps."""
    queries: int = 15
    """Query examples a class (or a task, for regression)."""
    inductive_queries: int = 15
    """Queries a task also predicted one by one."""
    seed: int = 0
    """Random seed for sampling test tasks."""


@dataclass(frozen=True)
class Config:
    """A run, wholly: the same configuration gives the same numbers."""

    data: Annotated[
        SinusoidData | GlyphsData | OmniglotData | FolderData | CifarData,
        tyro.conf.AvoidSubcommands,
    ]
    model: Annotated[MLPModel | Conv4Model | ResNet12Model, tyro.conf.AvoidSubcommands]
    learner: LearnerName = "maml"
    """The algorithm."""
    loss: LossName = "mean"
    """Over examples; or summed over an episode's ways, as Finn's MAML code does, whose
    inner rates belong to it."""
    precision: Precision = "float32"
    """What the network computes in; its parameters and their sums are float32, and so
    are comparators, memories and sequence models on its features."""
    forms: Literal["table", "tuned"] = "table"
    """How operations are computed: as the table has it for the kind of device, or each
    in the form that is fastest here, timed before the first meta-step and kept."""
    augment: Augment = field(default_factory=Augment)
    inner: Inner = field(default_factory=Inner)
    outer: Outer = field(default_factory=Outer)
    evaluation: Evaluating = field(default_factory=Evaluating)
    seed: int = 0
    """Of the initial parameters and the training tasks."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the kind of data and of model by name."""
        kinds = {name: {"kind": type(getattr(self, name)).__name__} for name in _KINDS}
        plain = asdict(self)
        return plain | {name: kinds[name] | plain[name] for name in kinds}

    @classmethod
    def from_dict(cls, plain: Any) -> "Config":
        """The inverse of `as_dict`, also after a trip through JSON.

        Raises:
          InputError: if a part is missing, or a value unknown or of another type.
        """
        whole = {"augment": {}, **object_at("a configuration", plain)}  # older: none
        parts: dict[str, Any] = {}
        for name, kinds in _KINDS.items():
            values = dict(object_at(name, whole.get(name)))
            kind = str(values.pop("kind", None))
            if kind not in kinds:
                raise InputError(
                    f"the kind of {name} must be {' or '.join(kinds)}, got {kind}"
                )
            parts[name] = from_plain(kinds[kind], values, name)
        for name, part in _PARTS.items():
            parts[name] = from_plain(part, whole.get(name), name)
        return from_plain(cls, whole | parts, "a configuration")


_KINDS: dict[str, dict[str, Any]] = {
    "data": {
        kind.__name__: kind
        for kind in (SinusoidData, GlyphsData, OmniglotData, FolderData, CifarData)
    },
    "model": {kind.__name__: kind for kind in (MLPModel, Conv4Model, ResNet12Model)},
}
_PARTS: dict[str, Any] = {
    "augment": Augment,
    "inner": Inner,
    "outer": Outer,
    "evaluation": Evaluating,
}


def _omniglot(ways: int, shots: int, inner: Inner, outer: Outer) -> Config:
    return Config(
        OmniglotData(ways, shots),
        Conv4Model(),
        loss="sum-over-ways",
        inner=inner,
        outer=outer,
        evaluation=Evaluating(steps=max(3, inner.steps), inductive_queries=3 * ways),
    )


def _small(config: Config) -> Config:
    """The same task on a laptop's budget."""
    outer = Outer(steps=5_000, tasks=8, rate=2e-3, schedule="cosine")
    evaluation = replace(config.evaluation, steps=3)
    inner = Inner(rate=0.4)
    return replace(config, loss="mean", inner=inner, outer=outer, evaluation=evaluation)


def _mini_imagenet(shots: int, tasks: int) -> Config:
    """The MAML paper's protocol, with 15 test queries a class where it had one."""
    return Config(
        FolderData(shots=shots),
        Conv4Model(filters=32, pooling="max"),
        loss="sum-over-ways",
        inner=Inner(rate=0.01, steps=5),
        outer=Outer(tasks=tasks, clip_each=10.0),
        evaluation=Evaluating(steps=10),
    )


def _small_mini_imagenet(config: Config) -> Config:
    """The same at half the size, with a third of the queries, for a CPU."""
    outer = replace(config.outer, steps=5_000, tasks=4, schedule="cosine")
    data = FolderData(shots=config.data.shots, queries=5, size=42)
    return replace(config, data=data, outer=outer)


def _cifar(splits: Literal["cifar-fs", "fc100"], shots: int, tasks: int) -> Config:
    """MiniImageNet's protocol, with 64 filters."""
    data = CifarData(shots=shots, splits=splits)
    model = Conv4Model(filters=64, pooling="max")
    return replace(_mini_imagenet(shots, tasks), data=data, model=model)


def _prototypical(config: Config) -> Config:
    """Prototypical networks' protocol: an episode of 60 ways a meta-step."""
    data = replace(config.data, train_ways=60)
    model, outer = Conv4Model(pooling="max"), Outer(tasks=1, schedule="cosine")
    return replace(
        config, data=data, model=model, outer=outer, learner="prototypical", loss="mean"
    )


def _meta_opt_net(config: Config) -> Config:
    """MetaOptNet's protocol, with a cosine for its steps and jitter for its crops.

    Without label smoothing, DropBlock and flips. Its authors' commands train CIFAR-FS
    at 5 shots, and the others at 15.
    """
    train_shots = 5 if getattr(config.data, "splits", None) == "cifar-fs" else 15
    return replace(
        config,
        data=replace(config.data, train_shots=train_shots, queries=6),
        model=ResNet12Model(pool="flat"),
        learner="meta-opt-net",
        loss="mean",
        augment=Augment(classes="none", jitter=0.1),
        outer=Outer(
            tasks=8,
            optimizer="nesterov",
            rate=0.1,
            schedule="cosine",
            weight_decay=5e-4,
        ),
    )


_PAPER_5_WAY = Inner(rate=0.4, steps=1), Outer(tasks=32)
_PAPER_20_WAY = Inner(rate=0.1, steps=5), Outer(tasks=16)

_PAPER = {
    "omniglot-5w1s": _omniglot(5, 1, *_PAPER_5_WAY),
    "omniglot-5w5s": _omniglot(5, 5, *_PAPER_5_WAY),
    "omniglot-20w1s": _omniglot(20, 1, *_PAPER_20_WAY),
    "omniglot-20w5s": _omniglot(20, 5, *_PAPER_20_WAY),
}
_MINI_IMAGENET = {
    "miniimagenet-5w1s": _mini_imagenet(shots=1, tasks=4),
    "miniimagenet-5w5s": _mini_imagenet(shots=5, tasks=2),
}

_CIFAR = {
    "cifar-fs-5w1s": _cifar("cifar-fs", shots=1, tasks=4),
    "cifar-fs-5w5s": _cifar("cifar-fs", shots=5, tasks=2),
    "fc100-5w1s": _cifar("fc100", shots=1, tasks=4),
    "fc100-5w5s": _cifar("fc100", shots=5, tasks=2),
}

PRESETS: dict[str, Config] = {
    "sinusoid": Config(
        SinusoidData(),
        MLPModel(),
        inner=Inner(rate=0.01, steps=5),
        # Unclipped, three seeds of thirty went astray.
        outer=Outer(steps=30_000, tasks=25, schedule="cosine", clip=10.0),
        evaluation=Evaluating(steps=10, queries=100, inductive_queries=10),
    ),
    "glyphs": Config(
        GlyphsData(),
        Conv4Model(filters=32),
        inner=Inner(rate=0.4),
        outer=Outer(steps=2_000, tasks=8, rate=2e-3, schedule="cosine"),
    ),
    **_PAPER,
    **{f"{name}-small": _small(config) for name, config in _PAPER.items()},
    **_MINI_IMAGENET,
    **{f"{n}-small": _small_mini_imagenet(c) for n, c in _MINI_IMAGENET.items()},
    **_CIFAR,
    **{f"{n}-prototypical": _prototypical(c) for n, c in _PAPER.items()},
    **{f"{n}-resnet12": _meta_opt_net(c) for n, c in (_MINI_IMAGENET | _CIFAR).items()},
}

DESCRIPTIONS = {
    "sinusoid": "10-shot sine waves",
    "glyphs": "5-way 1-shot procedural characters: needs no data",
    **{
        f"omniglot-{ways}w{shots}s{suffix}": (
            f"{ways}-way {shots}-shot Omniglot, {budget}"
        )
        for ways in (5, 20)
        for shots in (1, 5)
        for suffix, budget in (
            ("", "the MAML paper's budget, for an accelerator"),
            ("-small", "a laptop's budget"),
        )
    },
    **{
        f"miniimagenet-5w{shots}s{suffix}": (
            f"5-way {shots}-shot miniImageNet, or a folder like it (--images), {budget}"
        )
        for shots in (1, 5)
        for suffix, budget in (
            ("", "the MAML paper's budget, for an accelerator"),
            ("-small", "a laptop's budget, at half the size"),
        )
    },
    **{
        f"{splits}-5w{shots}s": (
            f"5-way {shots}-shot {name}, miniImageNet's budget, for an accelerator"
        )
        for splits, name in (("cifar-fs", "CIFAR-FS"), ("fc100", "FC100"))
        for shots in (1, 5)
    },
    **{
        f"{name}-prototypical": "prototypical networks' protocol: 60-way training"
        for name in _PAPER
    },
    **{
        f"{name}-resnet12": "MetaOptNet's protocol: ResNet-12 and a linear SVM"
        for name in _MINI_IMAGENET | _CIFAR
    },
}
