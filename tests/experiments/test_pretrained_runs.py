"""Runs on a pre-trained body: what they begin with, and those that train nothing."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments.backbone import read_mean, write_body
from metajax.experiments.build import (
    build_learner,
    build_task,
    build_training_learner,
)
from metajax.experiments.config import changed, with_learner
from metajax.experiments.labelled import bare_task, body_of
from metajax.experiments.learners import LEARNERS
from metajax.experiments.outer import Outer
from metajax.experiments.presets import PRESETS
from metajax.experiments.pretrain import _training
from metajax.experiments.tasks import Places
from tests.helpers import FILES, KEY, relative, write_image

pytestmark = pytest.mark.usefixtures("relaxed")

FEATURES = 16  # of 2x2 maps
SMALL = replace(PRESETS["glyphs"], model=replace(PRESETS["glyphs"].model, filters=4))
STARTED = "baseline", "baseline++", "meta-baseline", "simple-shot", "pmf"


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """A body, as `metajax pretrain` would save it, and its file."""
    params = body_of(SMALL, bare_task(SMALL)).init(jax.random.key(7))
    file = tmp_path_factory.mktemp("body") / "backbone.npz"
    write_body(file, params, np.linspace(0, 1, FEATURES))
    return params, file


def on_body(learner, file, **inner):
    config = changed(SMALL, {"learner": learner, "inner": inner})
    return replace(config, inner=config.inner.with_backbone(str(file)))


@pytest.mark.parametrize("learner", STARTED)
def test_every_learner_begins_with_the_body(learner, body):
    params, file = body
    config = on_body(learner, file)
    task = build_task(config, Places())
    meta = build_training_learner(config, task).init(KEY)
    while "body" in meta:
        mean, meta = meta.get("mean"), meta["body"]
        if mean is not None:
            np.testing.assert_allclose(mean, np.linspace(0, 1, FEATURES), rtol=1e-6)
    assert relative(meta, params) == 0
    bare = replace(config, inner=config.inner.with_backbone(None))
    without = build_learner(bare, task)
    like = jax.eval_shape(build_learner(config, task).init, KEY)
    assert jax.eval_shape(without.init, KEY) == like, "as a checkpoint is restored"


def test_options_of_a_preset_that_a_baseline_does_not_take_over():
    config = with_learner(SMALL, "baseline")
    assert (config.inner.rate, config.inner.steps) == (0.05, 100)
    assert config.evaluation.steps == 100 and config.outer.steps == 0
    assert config.outer.tasks == SMALL.outer.tasks
    changes = {"inner": {"steps": 7}, "evaluation": {"steps": 8}}
    config = changed(config, changes)
    assert with_learner(config, "baseline") == config
    other = with_learner(config, "baseline++")
    assert (other.inner.steps, other.outer.steps) == (100, 0)
    back = with_learner(config, "maml")
    assert back.outer.steps == Outer.steps and back.inner.steps == 7
    pmf = with_learner(SMALL, "pmf")
    assert (pmf.inner.optimizer, pmf.evaluation.steps) == ("adam", 10)
    assert pmf.outer == SMALL.outer
    for name in STARTED:
        config = with_learner(SMALL, name)
        assert (config.outer.steps == 0) is not LEARNERS[name].trained
        config.check()


def test_a_baseline_is_measured_labelled_with_and_studied(tmp_path, body, capsys):
    _, file = body
    run = tmp_path / "run"
    arguments = ["train", "glyphs", "--learner", "baseline", "--run-dir", str(run)]
    arguments += ["--inner.backbone", str(file), "--model.filters", "4"]
    tested = ["--evaluation.tasks", "2", "--evaluation.steps", "2"]
    tested += ["--evaluation.queries", "2", "--evaluation.inductive-queries", "2"]
    assert main([*arguments, *tested]) == 0
    written = {path.name for path in run.iterdir()}
    assert written == FILES - {"best", "learning_curve.png"} | {"backbone.npz"}
    result = json.loads((run / "evaluation.json").read_text())
    assert result["protocol"]["meta_step"] == 0
    assert len(result["transductive"]["mean"]) == 3
    assert main([*arguments, *tested]) == 0
    assert "is finished" in capsys.readouterr().out

    for name, colour in (("grey", 140), ("light", 220)):
        for i in range(2):
            write_image(tmp_path / "support" / name / f"{i}.png", colour, (28, 28))
    labels = tmp_path / "labels.csv"
    pictures = "--support", str(tmp_path / "support"), "--images"
    asked = *pictures, str(tmp_path / "support"), "--out", str(labels)
    assert main(["label", str(run), *asked]) == 0
    assert len(labels.read_text().splitlines()) == 5

    names = "trajectories", "noise"
    assert main(["study", str(run), "--tasks", "2", "--only", *names]) == 0
    page = (run / "study" / "report.html").read_text()
    assert page.count("Not here: baseline has no inner gradient") == 1


def refusal(capsys, *flags, command="train", name="glyphs"):
    assert main([command, name, "--model.filters", "4", *flags]) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_what_a_run_on_a_body_refuses(tmp_path, body, capsys):
    _, file = body
    run = "--run-dir", str(tmp_path / "run")
    given = "--inner.backbone", str(file)
    for learner in ("baseline", "baseline++", "simple-shot"):
        said = refusal(capsys, *run, "--learner", learner)
        assert said == (
            f"error: {learner} needs a pre-trained backbone: make one with metajax "
            "pretrain, and give it as --inner.backbone DIR"
        )
    learner = "--learner", "pmf"
    wider = "--model.filters", "5"
    said = refusal(capsys, *run, *learner, *given, *wider)
    assert "is the backbone of another model: [0]['kernel'] is [3, 3, 1, 4]" in said
    trained = "--learner", "baseline", *given, "--outer.steps", "9"
    assert refusal(capsys, *run, *trained) == (
        "error: baseline has nothing to meta-train, so --outer.steps must be 0, got 9; "
        "leave it out"
    )
    said = refusal(
        capsys, *run, "--learner", "baseline", command="pretrain", name="omniglot-5w1s"
    )
    assert "--outer.steps must be at least 1 to pre-train a body, got 0" in said
    assert not (tmp_path / "run").exists()


def test_a_body_without_a_mean(tmp_path, body):
    params, _ = body
    write_body(file := tmp_path / "backbone.npz", params)
    config = on_body("simple-shot", file)
    task = build_task(config, Places())
    with pytest.raises(InputError, match="has no mean feature.*--inner.centring supp"):
        build_learner(config, task)
    about_support = on_body("simple-shot", file, centring="support")
    meta = build_learner(about_support, task).init(KEY)
    assert relative(meta["body"]["body"], params) == 0


def test_a_body_of_data_without_validation_classes(tmp_path, capsys):
    for name, colour in (("grey", 140), ("light", 220)):
        for i in range(3):
            write_image(tmp_path / "train" / name / f"{i}.png", colour, (20, 20))
    config = PRESETS["miniimagenet-5w1s-small"]
    data = replace(config.data, ways=2, queries=2, size=16)
    places = Places(images=tmp_path, data_dir=tmp_path / "data")
    training = _training(replace(config, data=data), places)
    assert training.validation is None and training.splits == ("train",)
    said = capsys.readouterr().err
    assert "warning: without validations, so only the last body is kept (" in said


def test_a_mean_of_another_body(body):
    with pytest.raises(InputError, match=r"the mean feature is \[16\] there"):
        read_mean(body[1].parent, FEATURES + 1)
