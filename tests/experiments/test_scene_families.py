"""Runs on scenes, from the presets through the command."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments import interrupt, run
from metajax.experiments.build import (
    at_test_tasks,
    build_learner,
    build_task,
    build_training_learner,
)
from metajax.experiments.config import Config, with_learner
from metajax.experiments.families.scenes import SceneData
from metajax.experiments.interrupt import Stopped
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import UNetModel
from metajax.experiments.outer import Outer
from metajax.experiments.presets import PRESETS, preset_with
from metajax.experiments.tasks import Places
from metajax.training import dispatching
from metajax.types import Learner
from tests.helpers import FILES

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

KINDS = "masks", "boxes"
OF_SCENES = [n for n, c in PRESETS.items() if isinstance(c.data, SceneData)]
OF_GLYPHS = {"masks": PRESETS["glyph-masks"], "boxes": PRESETS["glyph-boxes"]}
LEARNT_BY = [
    (name, kind)
    for kind in KINDS
    for name, learner in LEARNERS.items()
    if kind in learner.takes and not learner.pretrained
    if (name, kind) != ("imaml", "boxes")
]
METRICS = {"masks": "image_iou", "boxes": "ap50"}


def small(kind, learner=None):
    """The preset of a kind on tiny scenes."""
    config = OF_GLYPHS[kind]
    config = config if learner is None else with_learner(config, learner)
    return replace(
        config,
        data=replace(config.data, size=16, side=8),
        model=UNetModel((8, 8), patch=2),
        outer=Outer(steps=2, tasks=2),
        evaluation=replace(config.evaluation, tasks=2, queries=1, inductive_queries=1),
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    monkeypatch.setattr(dispatching, "CPU_BYTES", 1.0)  # a meta-step a dispatch


def error(capsys):
    """The one line of error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


def learnt(directory):
    config = run.configured(directory)
    return run.restored(directory, config, run.build_task(config, Places()))


class StopsAfter(interrupt.Signals):
    """Asks to stop, once it was asked so often."""

    def __init__(self, count):
        super().__init__()
        self.left = count

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_stopped_resumed_and_evaluated(kind, tmp_path, monkeypatch, capsys):
    config, whole, parts = small(kind), tmp_path / "whole", tmp_path / "parts"
    run.train(config, whole, Places())
    assert {path.name for path in whole.iterdir()} == FILES
    assert (whole / "adaptation.png").stat().st_size > 1000
    result = json.loads((whole / "evaluation.json").read_text())
    assert result["protocol"]["metric"] == METRICS[kind]
    assert np.isfinite(result["transductive"]["mean"]).all()
    rows = [json.loads(x) for x in (whole / "metrics.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "validation"}
    with monkeypatch.context() as patched:
        patched.setattr(run, "Signals", lambda: StopsAfter(1))
        with pytest.raises(Stopped, match="after 1 of 2"):
            run.train(config, parts, Places())
    run.train(config, parts, Places())
    (ours, step), (theirs, _) = learnt(parts), learnt(whole)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    again = json.loads((parts / "evaluation.json").read_text())
    assert again["transductive"] == result["transductive"]
    capsys.readouterr()
    run.train(config, parts, Places())
    assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize("name", OF_SCENES)
def test_every_preset_builds(name):
    config = PRESETS[name]
    config.check()
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    if "glyph" in name:
        builds(config)


def builds(config):
    """The forms of what is learnt in training are those of what is tested."""
    task = build_task(config, Places())
    shapes = []
    for split, learner in (
        ("train", build_training_learner(config, task)),
        ("test", build_learner(config, task, steps=1)),
    ):
        assert isinstance(learner, Learner)
        sampler = task.episodes(split, 1)

        def loss(key, learner=learner, sampler=sampler):
            one = jax.tree.map(lambda x: x[0], sampler(key, 1))
            meta = learner.init(key)
            return meta, learner.loss(meta, one)[0]

        shapes.append(jax.eval_shape(loss, jax.random.key(0)))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name, kind", LEARNT_BY)
def test_every_learner_of_scenes_builds(name, kind):
    """In training with more classes, where it takes any number."""
    config = small(kind, name)
    if config.inner.any_ways:
        more = config.data.ways + 1
        data = replace(config.data, train_ways=more, train_objects=2, characters=4)
        config = replace(config, data=data)
    builds(config)


def test_a_preset_has_options_of_its_own_learner():
    for name, config in PRESETS.items():
        assert preset_with(name, config.inner.name) == config
    small = PRESETS["cluttered-omniglot-4-small"].inner
    other = preset_with("cluttered-omniglot-4-small", "siamese-segmenter").inner
    assert small.colour == 60 and not hasattr(other, "colour")


def test_imaml_does_not_differentiate_the_loss_of_boxes():
    with pytest.raises(InputError, match="got a custom_jvp_call .*; use metajax.maml"):
        builds(small("boxes", "imaml"))


def test_training_classes_make_tasks_as_the_tests_are():
    config = small("masks")
    data = replace(config.data, train_ways=2, train_objects=3, characters=4)
    tested = at_test_tasks(replace(config, data=data)).data
    assert tested.number("objects", "train") == tested.number("ways", "train") == 1


SMALL = "--data.size 16 --data.side 8 --model.widths 8 8"


@pytest.mark.parametrize(
    "line, message",
    [
        ("glyph-masks --learner prototypical", "prototypical learns from tasks of cl"),
        ("glyph-masks --learner correlation-detector", "of boxes, and those of scenes"),
        ("glyph-boxes --learner siamese-segmenter", "of masks, and those of scenes of"),
        ("glyphs --learner siamese-segmenter", "of masks, and those of glyphs are of"),
        ("sinusoid --learner correlation-detector", "learns from tasks of boxes"),
        ("glyph-masks --model conv4", "--model conv4 is not for segmentation; take un"),
        ("glyph-boxes --model conv4", "--model conv4 is not for detection; take unet"),
        ("glyph-boxes --model mlp", "--model mlp is not for detection; take unet"),
        ("glyphs --model unet", "--model unet does not classify"),
        (f"glyph-boxes {SMALL} --data.stride 3", "--data.stride must be one of [2, 4]"),
        (f"glyph-boxes {SMALL} --data.stride 8", "--model.patch, got 8"),
        ("glyph-masks --data.size 60", "sides are multiples of 16, got 60x60; take fe"),
        ("glyph-boxes --data.size 60", "sides are multiples of 16, got 60x60; take fe"),
        ("glyph-masks --model.widths 12", "groups must divide every width, got 8 gr"),
        (
            "glyph-masks --data.objects 5",
            "--data.objects must be at most the 4 characters of a page, got 5",
        ),
        (
            "glyph-masks --data.train-objects 5",
            "--data.train-objects must be at most the 4 characters of a page, got 5",
        ),
        ("glyph-masks --data.characters 0", "--data.characters must be a whole number"),
        ("glyph-masks --data.side 65", "at most the size of its page, 64, got 65"),
        ("glyph-masks --data.spread 0", "--data.spread must be a whole number"),
        ("glyph-masks --data.ways 300", "--data.ways must be at most"),
        ("glyph-masks --inner.scale 0", "--inner.scale must be"),
        ("glyph-masks --loss sum-over-ways", "--loss must be mean for these data"),
        ("glyph-masks --augment.jitter 0.1", "--augment is for classes of images"),
        (
            "glyph-masks --learner maml --data.train-ways 2",
            "--data.train-ways is not for maml",
        ),
        ("glyph-masks --images x", "--images is not for"),
    ],
)
def test_what_a_run_of_scenes_does_not_take(tmp_path, capsys, line, message):
    assert main(["train", *line.split(), "--run-dir", str(tmp_path / "run")]) == 1
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "preset, flag",
    [
        ("glyph-masks", "--data.stride=4"),
        ("glyph-masks", "--data.train-shots=4"),
        ("glyph-masks", "--inner.steps=4"),
        ("glyph-boxes", "--inner.alignment=0.5"),
    ],
)
def test_options_of_others(tmp_path, capsys, preset, flag):
    assert main(["train", preset, flag, "--run-dir", str(tmp_path / "run")]) == 2
    assert f"{flag.split('=')[0]} is no option" in error(capsys)


def test_nothing_is_pretrained_on_scenes(tmp_path, capsys):
    assert main(["pretrain", "glyph-masks", "--run-dir", str(tmp_path / "run")]) == 1
    assert "no classes that stay" in error(capsys)
