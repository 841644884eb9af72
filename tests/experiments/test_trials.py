"""Runs of policies, from the presets through the command."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax import rl
from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments import interrupt, run, study, trial_figures
from metajax.experiments.best import best_checkpoint
from metajax.experiments.build import build_training_learner
from metajax.experiments.config import Config, with_learner, with_model
from metajax.experiments.families import BanditData, MdpData, NavigationData
from metajax.experiments.families import trials as family
from metajax.experiments.interrupt import Stopped
from metajax.experiments.learners.policies import MamlRl
from metajax.experiments.networks import GRUModel, MLPModel
from metajax.experiments.outer import Outer
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from metajax.training import dispatching
from metajax.types import Learner
from tests.helpers import FILES, write_image

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

OF_TRIALS = [n for n, config in PRESETS.items() if "trials" in config.inner.takes]
OUTER = Outer(steps=4, tasks=4)


def small(name, data, model, **inner):
    """A preset's learner on tiny tasks."""
    config = PRESETS[name]
    return replace(
        config,
        data=data,
        model=model,
        inner=replace(config.inner, **inner),
        outer=OUTER,
        evaluation=replace(config.evaluation, tasks=6),
    )


RUNS = {
    "bandit": small("rl2-bandit-5a10", BanditData(3, 3), GRUModel(4), epochs=2),
    "mdp": small("rl2-mdp-10e", MdpData(3, 2, 2, 2), GRUModel(4), epochs=2),
    "navigation": small(
        "maml-navigation",
        NavigationData(horizon=3),
        MLPModel((4,)),
        trajectories=2,
        epochs=2,
    ),
}
STEPS = {"bandit": 3, "mdp": 2, "navigation": 4}  # that are evaluated
METRICS = {"bandit": "total_return", "mdp": "total_return", "navigation": "return"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 4)
    monkeypatch.setattr(trial_figures, "DRAWN", 4)
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


def same(a, b):
    return all(map(np.array_equal, *map(jax.tree.leaves, (a, b))))


class StopsAfter(interrupt.Signals):
    """Asks to stop, once it was asked so often."""

    def __init__(self, count):
        super().__init__()
        self.left = count

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_stopped_resumed_lengthened_and_evaluated(
    name, tmp_path, monkeypatch, capsys
):
    config, whole, parts = RUNS[name], tmp_path / "whole", tmp_path / "parts"
    run.train(config, whole, Places())
    assert {path.name for path in whole.iterdir()} == FILES
    assert run.configured(whole) == config
    result = json.loads((whole / "evaluation.json").read_text())
    assert len(result["transductive"]["mean"]) == STEPS[name]
    assert np.isfinite(result["transductive"]["interval"]).all()
    assert result["protocol"]["metric"] == METRICS[name]
    rows = [json.loads(x) for x in (whole / "metrics.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert all(np.isfinite(row[METRICS[name]]) for row in rows)

    short = replace(config, outer=replace(config.outer, steps=2))
    with monkeypatch.context() as patched:
        patched.setattr(run, "Signals", lambda: StopsAfter(1))
        with pytest.raises(Stopped, match="after 1 of 2"):
            run.train(short, parts, Places())
    run.train(short, parts, Places())
    run.train(config, parts, Places())
    assert same(learnt(parts)[0], learnt(whole)[0]) and learnt(parts)[1] == 4
    left = {path.name for path in parts.iterdir()}
    assert left >= FILES | {"evaluation-step2.json", "adaptation-step2.png"}
    assert best_checkpoint(parts).steps()

    capsys.readouterr()
    run.train(config, parts, Places())
    assert "is finished" in capsys.readouterr().out
    changes = run.Changes({"tasks": 4, "seed": 1})
    run.evaluate_run(whole, changes, "validation", Places())
    assert list(whole.glob("evaluation-validation-*4tasks-seed1-*.json"))


@pytest.fixture(scope="module")
def bandit(tmp_path_factory):
    """A run that is trained."""
    folder = tmp_path_factory.mktemp("runs") / "bandit"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "VALIDATION_TASKS", 2)
        patched.setattr(trial_figures, "DRAWN", 2)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            run.train(RUNS["bandit"], folder, Places())
    return folder


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--queries", "3"], "--queries is no option with rl2; leave it out"),
        (["--inductive-queries", "3"], "--inductive_queries is no option with rl2"),
        (["--steps", "3"], "--steps is no option with rl2; leave it out"),
        (["--ways", "3"], "--ways is not for tasks of bandit"),
        (["--shots", "3"], "--shots is not for tasks of bandit"),
        (["--tasks", "1"], "--tasks must be a whole number of at least 2, got 1"),
        (["--images", "x"], "a run of trials is evaluated on its own"),
    ],
)
def test_what_an_evaluation_does_not_take(bandit, capsys, flags, message):
    assert main(["evaluate", str(bandit), *flags]) == 1
    assert message in error(capsys)


def test_a_run_of_trials_labels_nothing_and_is_not_studied(bandit, tmp_path, capsys):
    for name in "ab":
        write_image(tmp_path / name / "0.png", 9)
    flags = "--support", str(tmp_path), "--images", str(tmp_path)
    assert main(["label", str(bandit), *flags, "--out", str(tmp_path / "x.csv")]) == 1
    assert "a run of BanditData and GRUModel takes no pictures" in error(capsys)
    assert main(["study", str(bandit)]) == 1
    assert "no inner loop on examples to look into" in error(capsys)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "rl2-bandit-5a10 --learner maml",
            "values or masks or boxes, and those of bandit",
        ),
        ("glyphs --learner rl2", "rl2 learns from tasks of trials, and those of glyph"),
        ("sinusoid --learner maml-rl", "learns from tasks of trials, and those of sin"),
        ("rl2-bandit-5a10 --model conv4", "conv4 is not for reinforcement learning"),
        ("rl2-mdp-10e --model resnet12", "resnet12 is not for reinforcement learning"),
        ("glyphs --model gru", "--model gru does not take inputs of shape (28, 28, 1)"),
        ("sinusoid --model gru", "--model gru does not classify, nor regress; tak"),
        (
            "rl2-bandit-5a10 --learner maml-rl --model mlp",
            "--model mlp acts by what it observes, and there is nothing",
        ),
        ("rl2-bandit-5a10 --data.arms 0", "--data.arms must be a whole number"),
        ("rl2-mdp-10e --data.horizon 0", "--data.horizon must be a whole number"),
        ("maml-navigation --data.reach 0", "--data.reach must be"),
        ("maml-navigation --inner.steps -1", "--inner.steps must be a whole number"),
        ("maml-navigation --inner.trajectories 0", "--inner.trajectories must be"),
        ("rl2-bandit-5a10 --inner.epochs 0", "--inner.epochs must be a whole"),
        ("rl2-bandit-5a10 --inner.discount 1.5", "--inner.discount must be"),
        ("maml-navigation --precision bfloat16", "--precision must be float32 for pol"),
        ("maml-navigation --augment.jitter 0.1", "--augment is for classes of images"),
        ("maml-navigation --loss sum-over-ways", "--loss must be mean for these data"),
        ("rl2-bandit-5a10 --images x", "--images is not for bandit; leave it out"),
    ],
)
def test_what_a_run_of_trials_does_not_take(tmp_path, capsys, line, message):
    assert main(["train", *line.split(), "--run-dir", str(tmp_path / "run")]) == 1
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "line, flag",
    [
        ("rl2-bandit-5a10", "--inner.steps=2"),
        ("rl2-bandit-5a10", "--evaluation.queries=2"),
        ("rl2-bandit-5a10", "--data.ways=2"),
        ("rl2-bandit-5a10", "--data.shots=2"),
        ("maml-navigation", "--inner.decay=0.5"),
        ("maml-navigation", "--model.units=5"),
    ],
)
def test_options_of_others(tmp_path, capsys, line, flag):
    assert main(["train", line, flag, "--run-dir", str(tmp_path / "run")]) == 2
    assert f"{flag.split('=')[0]} is no option" in error(capsys)


def test_nothing_is_pretrained_on_trials(tmp_path, capsys):
    arguments = ["pretrain", "rl2-mdp-10e", "--run-dir", str(tmp_path / "run")]
    assert main(arguments) == 1
    assert "no classes that stay" in error(capsys)


@pytest.mark.parametrize("name", OF_TRIALS)
def test_every_preset_builds(name):
    config = PRESETS[name]
    config.check()
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    task = run.build_task(config, Places())
    learner = build_training_learner(config, task)
    assert isinstance(learner, Learner)

    def started(key):
        trial = jax.tree.map(lambda x: x[0], task.episodes("train", 1)(key, 1))
        meta = learner.init(key)
        return meta, learner.adapt(meta, trial.support)

    meta, agent = jax.eval_shape(started, jax.random.key(0))
    assert jax.tree.structure(agent.params) == jax.tree.structure(meta)


def test_every_learner_of_trials_builds_on_a_memory():
    for learner, model in (("maml-rl", "gru"), ("rl2", "gru")):
        config = with_model(with_learner(RUNS["bandit"], learner), model)
        task = run.build_task(config, Places())
        built = run.build_learner(config, task)
        jax.eval_shape(built.init, jax.random.key(0))


def test_the_inner_rate_is_halved_after_the_first_step():
    """As in MAML's paper, section 5.3."""
    rates = [float(MamlRl(rate=0.2).rate_at(k)) for k in range(3)]
    np.testing.assert_allclose(rates, [0.2, 0.1, 0.1])


def test_a_reference_belongs_to_its_own_protocol():
    assert NavigationData().references() == {"oracle": -2.3}
    assert NavigationData(horizon=50).references() == {}
    assert NavigationData(scale=1.0).references() == {}


def test_a_plan_is_of_all_updates(monkeypatch, capsys):
    """What `metajax plan` compiles is what `metajax train` runs."""
    seen = []

    def planned(*_, **settings):
        seen.append(settings["make_step"])
        raise InputError("enough")

    monkeypatch.setattr(study.study, "plan", planned)
    for name, config in RUNS.items():
        with pytest.raises(InputError, match="enough"):
            study.plan_run(config, Places())
        assert seen[-1] == config.inner.planned_step(), name


def test_a_plan(capsys):
    study.plan_run(RUNS["navigation"], Places(), devices=1)
    said = capsys.readouterr().out
    assert "tasks a meta-batch" in said and "time, 4 meta-steps" in said


def test_a_policy_is_of_one_precision():
    with pytest.raises(InputError, match="must be float32"):
        task = run.build_task(RUNS["bandit"], Places())
        family.policy_for(task, GRUModel(4), 0, "bfloat16")
    policy = GRUModel(4).policy(rl.bernoulli_bandit(2))
    assert policy.head.actions == 2
