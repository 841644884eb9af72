"""The presets that the command offers, and what it says of each."""

from dataclasses import replace
from typing import Any, Literal

from metajax.experiments.augmenting import Augment
from metajax.experiments.config import Config, with_learner
from metajax.experiments.evaluating import (
    EvaluatingSteps,
    EvaluatingTrials,
    EvaluatingTrialSteps,
)
from metajax.experiments.families import (
    BanditData,
    CifarData,
    CocoFolderData,
    CubData,
    FolderData,
    FolderFieldsData,
    GlyphBoxesData,
    GlyphClassesData,
    GlyphDistancesData,
    GlyphFieldsData,
    GlyphMasksData,
    GlyphsData,
    MaskFolderData,
    MazeData,
    MdpData,
    NavigationData,
    OmniglotBoxesData,
    OmniglotClassesData,
    OmniglotData,
    OmniglotFieldsData,
    OmniglotMasksData,
    SinusoidData,
)
from metajax.experiments.learners.loops import Maml, Tnas
from metajax.experiments.learners.policies import MamlRl, Rl2
from metajax.experiments.networks import (
    CellsModel,
    Conv4Model,
    FastWeightsModel,
    GRUModel,
    MLPModel,
    ResNet12Model,
    SirenModel,
    UNetModel,
)
from metajax.experiments.outer import Outer
from metajax.models.cell_operations import OPERATIONS


def _omniglot(ways: int, shots: int, inner: Maml, outer: Outer) -> Config:
    steps = max(3, inner.steps)
    return Config(
        OmniglotData(ways, shots),
        Conv4Model(),
        inner,
        outer,
        EvaluatingSteps(steps=steps, inductive_queries=3 * ways),
        loss="sum-over-ways",
    )


def _small(config: Config) -> Config:
    """The same task on a laptop's budget."""
    outer = Outer(steps=5_000, tasks=8, rate=2e-3, schedule="cosine")
    evaluation = replace(config.evaluation, steps=3)
    inner = Maml(rate=0.4)
    return replace(config, loss="mean", inner=inner, outer=outer, evaluation=evaluation)


def _mini_imagenet(shots: int, tasks: int) -> Config:
    """The MAML paper's protocol, with 15 test queries a class where it had one."""
    return Config(
        FolderData(shots=shots),
        Conv4Model(filters=32, pooling="max"),
        Maml(rate=0.01, steps=5),
        Outer(tasks=tasks, clip_each=10.0),
        EvaluatingSteps(steps=10),
        loss="sum-over-ways",
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
    return replace(config, data=data, model=model, outer=outer, loss="mean")


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


def _small_search(config: Config) -> Config:
    """The same task on a laptop's budget: fewer channels, nodes and inner steps."""
    network = replace(
        config.model,
        layers=("normal", "reduction"),
        stride=2,
        nodes=2,
        pool="flat",
        operations=OPERATIONS[:-1],  # a dilated one costs as much as all others
    )
    return replace(
        config,
        model=network,
        inner=Tnas(rate=0.4, steps=1),
        outer=Outer(steps=3_000, tasks=8, rate=2e-3, schedule="cosine"),
        evaluation=replace(config.evaluation, steps=3),
    )


def _bandit(arms: int) -> Config:
    return Config(
        BanditData(arms, 10),
        FastWeightsModel(heads=2),
        Rl2(4, 2, discount=1.0, reward_scale=1.0),
        Outer(steps=600, tasks=1000, rate=3e-3, schedule="cosine", clip=0.5),
        EvaluatingTrials(tasks=20_000),
    )


def _paper_trials(config: Config, steps: int = 1000) -> Config:
    """A budget like RL²'s: 250,000 steps a batch, 1,000 batches or more, 256 units."""
    env, episodes = config.data.environment(), config.data.episodes
    tasks = 250_000 // (env.horizon * episodes)
    outer = replace(config.outer, steps=steps, tasks=tasks, rate=1e-3)
    return replace(config, model=GRUModel(256), outer=outer)


def _cluttered(characters: int) -> Config:
    """Cluttered Omniglot, of which the paper trains 20 epochs of 2,000,000 scenes."""
    return Config(
        OmniglotMasksData(characters=characters, same_drawing=True),
        UNetModel((48, 96, 192, 192, 384), patch=1, groups=1),
        Maml(rate=0.1, steps=5),
        Outer(steps=160_000, tasks=250, rate=5e-4, schedule="cosine"),
        EvaluatingSteps(queries=1, inductive_queries=1, steps=5),
    )


def _small_scenes(config: Config, *, ways: int, objects: int, steps: int) -> Config:
    """The same test tasks; training names several characters, among more classes."""
    data = replace(config.data, train_ways=ways, train_objects=objects)
    outer = Outer(steps=steps, tasks=2, rate=4e-3, schedule="cosine", clip=1.0)
    return replace(config, data=data, model=UNetModel(), outer=outer)


def _glyph_scenes(data: GlyphBoxesData | GlyphMasksData) -> Config:
    """Small scenes of procedural characters, which need no data."""
    return Config(
        replace(data, size=64),
        UNetModel(),
        Maml(rate=0.1, steps=3),
        Outer(steps=2_000, tasks=8, rate=2e-3, schedule="cosine"),
        EvaluatingSteps(queries=2, inductive_queries=2),
    )


def _own(data: CocoFolderData | MaskFolderData) -> Config:
    """Pictures of the user's, on a laptop's budget."""
    return Config(
        data,
        UNetModel(),
        Maml(rate=0.1, steps=5),
        Outer(steps=2_000, tasks=4, rate=2e-3, schedule="cosine", clip=1.0),
        EvaluatingSteps(queries=1, inductive_queries=1, steps=5),
    )


def _of_learner(config: Config, learner: str, **options: Any) -> Config:
    """A configuration of a learner, with options of its own."""
    config = with_learner(config, learner)
    return replace(config, inner=replace(config.inner, **options))


def _fields(
    data: GlyphFieldsData | OmniglotFieldsData | FolderFieldsData, tasks: int, rest: int
) -> Config:
    """Images from a quarter of their pixels; the others are the test's queries."""
    return Config(
        data,
        SirenModel(),
        Maml(rate=0.03, steps=3),
        Outer(steps=2_000, tasks=tasks, rate=5e-4, schedule="cosine", clip=10.0),
        EvaluatingSteps(queries=rest, inductive_queries=0, steps=8),
    )


def _labelled_fields(data: GlyphClassesData | OmniglotClassesData) -> Config:
    """Images of 20 classes, of which a test sees other drawings."""
    return Config(
        data,
        SirenModel((32, 32, 32)),
        Maml(rate=0.03, steps=3),
        Outer(steps=1_500, tasks=16, rate=1e-3, schedule="cosine", clip=10.0),
        EvaluatingSteps(queries=784, inductive_queries=0, steps=3),
    )


_PAPER_5_WAY = Maml(rate=0.4, steps=1), Outer(tasks=32)
_PAPER_20_WAY = Maml(rate=0.1, steps=5), Outer(tasks=16)

_PAPER = {
    "omniglot-5w1s": _omniglot(5, 1, *_PAPER_5_WAY),
    "omniglot-5w5s": _omniglot(5, 5, *_PAPER_5_WAY),
    "omniglot-20w1s": _omniglot(20, 1, *_PAPER_20_WAY),
    "omniglot-20w5s": _omniglot(20, 5, *_PAPER_20_WAY),
}
_SEARCH = Config(
    OmniglotData(5, 1),
    CellsModel(channels=8, layers=("reduction", "normal", "reduction")),
    Tnas(rate=0.1, steps=5),
    Outer(tasks=32),
    EvaluatingSteps(steps=5),
)
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

_CUB = {
    f"cub-5w{shots}s": replace(config, data=CubData(shots=shots))
    for shots, config in zip((1, 5), _MINI_IMAGENET.values())
}

_OF_AN_INNER_LOOP: dict[str, Config] = {
    "sinusoid": Config(
        SinusoidData(),
        MLPModel(),
        inner=Maml(rate=0.01, steps=5),
        # Unclipped, three seeds of thirty went astray.
        outer=Outer(steps=30_000, tasks=25, schedule="cosine", clip=10.0),
        evaluation=EvaluatingSteps(steps=10, queries=100, inductive_queries=10),
    ),
    "glyphs": Config(
        GlyphsData(),
        Conv4Model(filters=32),
        inner=Maml(rate=0.4),
        outer=Outer(steps=2_000, tasks=8, rate=2e-3, schedule="cosine"),
    ),
    "fields-glyphs": _fields(GlyphFieldsData(), tasks=8, rest=588),
    "fields-distances": _fields(GlyphDistancesData(), tasks=8, rest=588),
    "fields-omniglot": _fields(OmniglotFieldsData(), tasks=8, rest=588),
    "fields-folder": _fields(FolderFieldsData(), tasks=4, rest=2352),
    **_PAPER,
    **{f"{name}-small": _small(config) for name, config in _PAPER.items()},
    **_MINI_IMAGENET,
    **{f"{n}-small": _small_mini_imagenet(c) for n, c in _MINI_IMAGENET.items()},
    **_CIFAR,
    **_CUB,
}
_BANDITS = {
    "rl2-bandit-5a10": _bandit(5),
    "rl2-bandit-10a10": _bandit(10),
    "rl2-bandit-5a100": Config(
        BanditData(5, 100),
        GRUModel(),
        Rl2(4, 3, reward_scale=0.05),
        Outer(steps=600, tasks=600, rate=6e-3, schedule="cosine", clip=0.5),
        EvaluatingTrials(tasks=20_000),
    ),
}
_MDP = Config(
    MdpData(),
    FastWeightsModel(),
    Rl2(4, 2, decay=0.9, entropy_weight=0.01, reward_scale=0.05),
    Outer(steps=2000, tasks=240, rate=1.5e-3, schedule="cosine", clip=0.5),
    EvaluatingTrials(),
)
_NAVIGATION = Config(
    NavigationData(),
    MLPModel((100, 100)),
    MamlRl(rate=0.5, steps=2),  # of 1, later returns vary by seed
    Outer(steps=500, tasks=40, rate=1.5e-3, schedule="cosine", clip=0.2),
    EvaluatingTrialSteps(),
)
_OF_TRIALS = {
    **_BANDITS,
    **{f"{name}-paper": _paper_trials(config) for name, config in _BANDITS.items()},
    "rl2-mdp-10e": _MDP,
    "rl2-mdp-10e-paper": _paper_trials(_MDP, steps=10_000),
    "rl2-maze": Config(
        MazeData(),
        GRUModel(),
        Rl2(4, 2, entropy_weight=0.01),
        Outer(steps=600, tasks=200, rate=2e-3, schedule="cosine", clip=0.5),
        EvaluatingTrials(),
    ),
    "maml-navigation": _NAVIGATION,
    "maml-navigation-paper": replace(
        _NAVIGATION,
        inner=MamlRl(rate=0.5, epochs=5),
        outer=replace(_NAVIGATION.outer, steps=2_000),
    ),
}
_CLUTTERED = {f"cluttered-omniglot-{n}": _cluttered(n) for n in (4, 32)}
_SCENES = {
    "omniglot-scenes-3w1s": Config(
        OmniglotBoxesData(3, 1, characters=6, objects=3, spread=8),
        UNetModel((32, 64, 128, 128), patch=1),
        Maml(rate=0.1, steps=5),
        Outer(steps=40_000, tasks=16, schedule="cosine"),
        EvaluatingSteps(queries=2, inductive_queries=2, steps=5),
    )
}
# Others by the learner that they are for, as they would be of one with an inner loop.
_OTHERS: dict[str, dict[str, Config]] = {
    "correlation-segmenter": {
        **_CLUTTERED,
        **{
            f"{name}-small": _small_scenes(config, ways=9, objects=3, steps=6_000)
            for name, config in _CLUTTERED.items()
        },
        "glyph-masks": _glyph_scenes(GlyphMasksData()),
        "masks-folder-3w1s": _own(MaskFolderData(3)),
    },
    "correlation-detector": {
        **_SCENES,
        **{
            f"{name}-small": _small_scenes(config, ways=8, objects=4, steps=3_000)
            for name, config in _SCENES.items()
        },
        "glyph-boxes": _glyph_scenes(GlyphBoxesData(3, characters=4, objects=3)),
        "boxes-folder-3w1s": _own(CocoFolderData(3)),
    },
    "mwt": {
        "fields-glyphs-classes": _labelled_fields(GlyphClassesData()),
        "fields-omniglot-classes": _labelled_fields(OmniglotClassesData()),
    },
    "prototypical": {
        f"{name}-prototypical": _prototypical(config) for name, config in _PAPER.items()
    },
    "tnas": {
        "search-omniglot-5w1s": _SEARCH,
        "search-omniglot-5w1s-small": _small_search(_SEARCH),
    },
    "meta-opt-net": {
        f"{name}-resnet12": _meta_opt_net(config)
        for name, config in (_MINI_IMAGENET | _CIFAR).items()
    },
}
# Options of a preset's own learner, beyond those that it shares with others.
_OWN_OPTIONS: dict[str, dict[str, Any]] = {
    f"{name}-small": {"colour": 60.0}  # a character has one
    for name in _CLUTTERED
}
_BASES = (
    _OF_AN_INNER_LOOP
    | _OF_TRIALS
    | {name: config for configs in _OTHERS.values() for name, config in configs.items()}
)

PRESETS: dict[str, Config] = (
    _OF_AN_INNER_LOOP
    | _OF_TRIALS
    | {
        name: _of_learner(config, learner, **_OWN_OPTIONS.get(name, {}))
        for learner, configs in _OTHERS.items()
        for name, config in configs.items()
    }
)

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
        f"search-omniglot-5w1s{suffix}": (
            f"architecture search on 5-way 1-shot Omniglot, {budget}"
        )
        for suffix, budget in (
            ("", "the T-NAS paper's rates, for an accelerator"),
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
        f"cub-5w{shots}s": f"5-way {shots}-shot birds, miniImageNet's budget (--images)"
        for shots in (1, 5)
    },
    "rl2-maze": "RL² in mazes with a local view, a laptop's budget",
    **{
        f"{name}{suffix}": f"{what}, {budget}"
        for name, what in (
            ("rl2-bandit-5a10", "RL² on bandits of 5 arms and 10 pulls"),
            ("rl2-bandit-10a10", "RL² on bandits of 10 arms and 10 pulls"),
            ("rl2-bandit-5a100", "RL² on bandits of 5 arms and 100 pulls"),
            ("rl2-mdp-10e", "RL² on tabular MDPs, 10 episodes"),
            ("maml-navigation", "MAML on policies, 2D navigation (-paper: ProMP)"),
        )
        for suffix, budget in (
            ("", "a laptop's budget"),
            ("-paper", "a paper's budget, for an accelerator"),
        )
    },
    **{
        f"cluttered-omniglot-{count}{suffix}": (
            f"outlines of a character among {count} on a page, {budget}"
        )
        for count in (4, 32)
        for suffix, budget in (
            ("", "the paper's budget, for an accelerator"),
            ("-small", "a laptop's budget"),
        )
    },
    **{
        f"omniglot-scenes-3w1s{suffix}": (
            f"boxes of 3 characters among 6 on a page, {budget}"
        )
        for suffix, budget in (
            ("", "for an accelerator"),
            ("-small", "a laptop's budget"),
        )
    },
    "glyph-masks": "outlines of procedural characters on a page: needs no data",
    "glyph-boxes": "boxes of procedural characters on a page: needs no data",
    "masks-folder-3w1s": "outlines in your own pictures (--images), a laptop's budget",
    "boxes-folder-3w1s": "boxes in your own pictures (--images), a laptop's budget",
    "fields-glyphs": "regress glyphs from a quarter of their pixels: needs no data",
    "fields-distances": (
        "regress signed distances of glyphs from a quarter of their pixels: needs no "
        "data"
    ),
    "fields-omniglot": "regress Omniglot's characters from a quarter of their pixels",
    "fields-folder": (
        "regress your own images (--images) from a quarter of their pixels"
    ),
    "fields-glyphs-classes": (
        "classify 20 glyphs by the weights of a network fitted to each drawing: needs "
        "no data"
    ),
    "fields-omniglot-classes": (
        "classify 20 characters of Omniglot by the weights of a network fitted to each "
        "drawing"
    ),
    **{
        f"{name}-prototypical": "prototypical networks' protocol: 60-way training"
        for name in _PAPER
    },
    **{
        f"{name}-resnet12": "MetaOptNet's protocol: ResNet-12 and a linear SVM"
        for name in _MINI_IMAGENET | _CIFAR
    },
}


def preset_with(name: str, learner: str) -> Config:
    """A preset of another learner, with the options that the preset has for it."""
    own = PRESETS[name]
    return own if own.inner.name == learner else with_learner(_BASES[name], learner)
