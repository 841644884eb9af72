"""Runs on a pre-trained body: what they begin with, and those that train nothing."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.evaluation.result import Score
from metajax.experiments import run
from metajax.experiments.backbone import (
    BEST,
    FILE,
    digest,
    read_body,
    read_mean,
    write_body,
)
from metajax.experiments.best import best_checkpoint
from metajax.experiments.build import (
    build_learner,
    build_task,
    build_training_learner,
)
from metajax.experiments.config import changed, with_learner
from metajax.experiments.evaluating import EvaluatingSteps
from metajax.experiments.labelled import bare_task, body_of
from metajax.experiments.learners import LEARNERS
from metajax.experiments.outer import Outer
from metajax.experiments.presets import PRESETS
from metajax.experiments.pretrain import _training, pretrain
from metajax.experiments.tasks import Places
from metajax.training.averaging import averaged
from metajax.training.state import init_state
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
    assert (config.inner.rate, config.inner.steps) == (0.05, 10)
    assert config.evaluation.steps == 10 and config.outer.steps == 0
    assert config.outer.tasks == SMALL.outer.tasks
    changes = {"inner": {"steps": 7}, "evaluation": {"steps": 8}}
    config = changed(config, changes)
    assert with_learner(config, "baseline") == config
    other = with_learner(config, "baseline++")
    assert (other.inner.steps, other.outer.steps) == (10, 0)
    back = with_learner(config, "maml")
    assert back.outer.steps == Outer.steps
    assert back.inner == LEARNERS["maml"]()
    assert back.evaluation.steps == EvaluatingSteps.steps
    assert with_learner(other, "meta-baseline").inner.scale == 10
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
    assert result["protocol"]["backbone_digest"] == digest(file)
    assert len(result["transductive"]["mean"]) == 3
    assert main([*arguments, *tested]) == 0
    assert "is finished" in capsys.readouterr().out

    for name, colour in (("grey", 140), ("light", 220)):
        for i in range(2):
            write_image(tmp_path / "support" / name / f"{i}.png", colour, (28, 28 + i))
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
    assert said == (
        "error: --outer.steps must be at least 1 to pre-train a body, got 0; leave out "
        "--learner and --outer.steps"
    )
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
            write_image(tmp_path / "train" / name / f"{i}.png", colour, (20, 20 + i))
    config = PRESETS["miniimagenet-5w1s-small"]
    data = replace(config.data, ways=2, queries=2, size=16)
    places = Places(images=tmp_path, data_dir=tmp_path / "data")
    config = replace(config, data=data)
    training = _training(config, places)
    assert training.validation is None and training.splits == ("train",)
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == (
        "warning: these data have no validation split, so there are no validations, "
        "and only the last body is kept"
    )


def on_two_classes(folder):
    """A configuration of two classes a split, their place, and the last picture's."""
    for split in ("train", "validation"):
        for colour in (140, 220):
            for i in range(3):
                place = folder / split / f"{split}{colour}" / f"{i}.png"
                write_image(place, colour, (20, 20 + i))
    config = PRESETS["miniimagenet-5w1s-small"]
    config = replace(config, data=replace(config.data, ways=2, queries=2, size=16))
    return config, Places(images=folder, data_dir=folder / "data"), place


def test_what_is_wrong_with_validations_stops_a_run(tmp_path):
    config, places, damaged = on_two_classes(tmp_path)
    with pytest.raises(InputError, match=r"--data.shots \+ --evaluation.queries"):
        _training(config, places)
    few = replace(config, evaluation=replace(config.evaluation, queries=2))
    assert _training(few, places).splits == ("train", "validation")
    damaged.write_bytes(b"no picture")
    with pytest.raises(InputError, match="2.png"):
        _training(few, places)


def test_the_best_body_is_of_the_best_row(tmp_path, monkeypatch):
    config, places, _ = on_two_classes(tmp_path)
    scores = iter([0.4, 0.7, 0.6])
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: scored(next(scores)))
    config = replace(
        config,
        model=replace(config.model, filters=2),
        evaluation=replace(config.evaluation, queries=2),
    )
    directory = tmp_path / "body"
    for steps in (1, 2, 3):  # a validation each
        longer = replace(config, outer=replace(config.outer, steps=steps))
        pretrain(longer, directory, places)
    training = _training(config, places)
    init = partial(init_state, training.learner, config.outer.build())
    like = jax.eval_shape(init, jax.random.key(0))
    state = best_checkpoint(directory).restore(like)
    assert state is not None and int(state.step) == 2
    body, _ = training.model.parts
    last, best = (read_body(directory / name, body) for name in (FILE, BEST))
    assert relative(best, averaged(state)["body"]) == 0 < relative(last, best)


def scored(value):
    """A result with a score."""
    score = Score(*(np.array([value]) for _ in Score._fields))
    return SimpleNamespace(transductive=score)


def test_a_mean_of_another_body(body):
    with pytest.raises(InputError, match=r"the mean feature is \[16\] there"):
        read_mean(body[1].parent, FEATURES + 1)
