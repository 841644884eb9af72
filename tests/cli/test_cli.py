"""The command, in this process and, where it is killed, in another."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from metajax._files.lock import only_writer
from metajax.cli.main import main
from metajax.cli.runs import parse_run
from metajax.data.sets import cifar_builder, omniglot_builder
from metajax.errors import InputError
from metajax.evaluation.scores import evaluate
from metajax.experiments import domains, forms, restoring, results, run
from metajax.experiments.augmenting import Augment
from metajax.experiments.build import (
    build_learner,
    build_task,
    build_training_episodes,
    build_training_learner,
)
from metajax.experiments.config import Config, with_learner
from metajax.experiments.interrupt import Signals, interrupted_at_once
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import ResNet12Model
from metajax.experiments.presets import DESCRIPTIONS, PRESETS
from metajax.experiments.tasks import Places
from metajax.ops import tune
from metajax.ops.tuned import taken
from metajax.training.checkpoints import Checkpoints
from tests.helpers import (
    FILES,
    SMALL,
    cifar_files,
    small_parts,
    write_archives,
    write_image,
    write_tar,
)

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

QUICK = ["--outer.tasks", "2", "--evaluation.tasks", "4"]


@pytest.fixture(autouse=True)
def heeds_interrupts():
    """Ctrl-C, which a script's background jobs, and so the tests in one, ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 4)


def sinusoid(folder, steps=6, *more):
    arguments = ["train", "sinusoid", "--run-dir", str(folder)]
    return main([*arguments, "--outer.steps", str(steps), *QUICK, *more])


def error(capsys):
    """The one line of error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


def test_presets_describe_themselves():
    assert set(PRESETS) == set(DESCRIPTIONS)
    for config in PRESETS.values():
        assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_meta_opt_net_is_trained_at_its_authors_shots():
    ours = {n: c for n, c in PRESETS.items() if n.endswith("-resnet12")}
    shots = {name.split("-5w")[0]: c.data.train_shots for name, c in ours.items()}
    assert shots == {"miniimagenet": 15, "fc100": 15, "cifar-fs": 5}


@pytest.mark.parametrize("learner, channels", [("maml", 1), ("cavia", 6)])
def test_a_configuration_of_resnet12(learner, channels):
    model = ResNet12Model((2, 3, 3, 4), pool="flat", norm="task")
    config = with_learner(replace(PRESETS["glyphs"], model=model), learner)
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    built = build_learner(config, build_task(config, Places()), steps=1)
    body = jax.eval_shape(built.init, jax.random.key(0))["body"]
    first = body[0]["convolutions"][0]
    assert first["kernel"].shape == (3, 3, channels, 2) and "slope" in first
    assert len(body) == 4


def test_a_configuration_from_before_augmentation_is_read():
    plain = json.loads(json.dumps(PRESETS["glyphs"].as_dict()))
    del plain["augment"], plain["format"]
    assert Config.from_dict(plain) == PRESETS["glyphs"]
    del plain["inner"]
    with pytest.raises(InputError, match="inner must be an object"):
        Config.from_dict(plain)


def test_a_configuration_from_before_forms_is_of_the_table():
    plain = json.loads(json.dumps(PRESETS["glyphs"].as_dict()))
    del plain["forms"]
    assert Config.from_dict(plain).forms == "table"


def test_tuned_forms(tmp_path, monkeypatch, capsys):
    folder, calls = tmp_path / "run", []

    def timed(*args, **settings):
        calls.append(settings["folder"])
        return tune(*args, **settings, timer=lambda trial: 9.0 - len(trial.form))

    def evaluated(*args, **settings):
        calls.append(taken())
        return evaluate(*args, **settings)

    monkeypatch.setattr(forms, "tune", timed)
    monkeypatch.setattr(results, "evaluate", evaluated)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert sinusoid(folder, 6, "--forms", "tuned") == 0
    assert "timing the forms of operations on cpu" in capsys.readouterr().err
    kept = Checkpoints(folder / "checkpoints").forms()
    assert "product" in {form for _, form in kept.forms}
    assert calls == [tmp_path / "data" / "metajax_forms", kept]
    assert json.loads((folder / "config.json").read_text())["forms"] == "tuned"
    protocol = json.loads((folder / "evaluation.json").read_text())["protocol"]
    assert protocol["forms"] == "tuned"
    assert main(["evaluate", str(folder), "--tasks", "3"]) == 0
    assert calls[2:] == [kept]
    assert sinusoid(folder, 6) == 1 and "forms is 'tuned' there" in error(capsys)
    assert main(["plan", "sinusoid", "--forms", "tuned"]) == 1
    assert "which a plan does not" in error(capsys)


def test_only_the_training_episodes_are_augmented(tmp_path):
    config = replace(PRESETS["glyphs"], augment=Augment("turn-flip", 0.1, "metamix"))
    task = build_task(config, Places())
    drawn = build_training_episodes(config, task)(jax.random.key(0), 1)
    assert drawn.query.targets.shape == (1, 25, 5)  # probabilities
    assert drawn.support.targets.shape == (1, 5)
    plain = build_training_episodes(PRESETS["glyphs"], task)
    assert plain == task.episodes("train", PRESETS["glyphs"].data.queries)


@pytest.mark.parametrize("learner", ["cavia", "maml++", "imaml"])
def test_other_learners_run(tmp_path, learner):
    arguments = "--learner", learner, "--inner.batch", "5", "--data.train-shots", "12"
    assert sinusoid(tmp_path / "run", 2, *arguments) == 0
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert result["protocol"]["learner"] == learner
    assert result["protocol"]["support_examples"] == 10


ONE_PASS = [
    name
    for name, kind in LEARNERS.items()
    if not kind.steps and "classes" in kind.takes and not kind.needs_backbone
]


@pytest.mark.parametrize("name", ONE_PASS)
def test_learners_without_an_inner_loop_build(name):
    """For more ways in training than in testing, with the same meta-parameters."""
    glyphs, any_ways = PRESETS["glyphs"], LEARNERS[name].any_ways
    model = replace(glyphs.model, filters=4, halvings=2)
    family = replace(glyphs.data, train_ways=7 if any_ways else None)
    config = with_learner(replace(glyphs, data=family, model=model), name)
    task = build_task(config, Places())

    def meta_and_loss(learner, split, key):
        one = jax.tree.map(lambda x: x[0], task.episodes(split, 2)(key, 1))
        meta = learner.init(key)
        return meta, learner.loss(meta, one), learner.adapt(meta, one.support)

    training = build_training_learner(config, task)
    testing = build_learner(config, task, steps=3)
    shapes = [
        jax.eval_shape(partial(meta_and_loss, learner, split), jax.random.key(0))
        for learner, split in ((training, "train"), (testing, "test"))
    ]
    assert shapes[0][0] == shapes[1][0]
    assert (shapes[0][2] != shapes[1][2]) == any_ways
    assert shapes[0][1] == shapes[1][1]


def glyphs(folder, *more, learner="prototypical"):
    small = "--model.filters", "2", "--outer.steps", "2", *QUICK
    arguments = ["train", "glyphs", "--learner", learner, "--run-dir", str(folder)]
    return main([*arguments, *small, *more])


def noting(calls, name, function):
    """The function, which adds its name to a list when it is called."""

    def noted(*args):
        calls.append(name)
        return function(*args)

    return noted


def test_a_run_without_an_inner_loop(tmp_path, monkeypatch, capsys):
    flags = "--data.ways", "3", "--data.train-ways", "6"
    assert glyphs(tmp_path / "run", *flags) == 0
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(result["transductive"]["mean"]) == 1
    assert result["protocol"]["support_examples"] == 3
    read = []
    for module, name in ((restoring, "recorded_config"), (domains, "build_task")):
        monkeypatch.setattr(module, name, noting(read, name, getattr(module, name)))
    assert main(["evaluate", str(tmp_path / "run"), "--tasks", "3"]) == 0
    assert read == ["recorded_config", "build_task"], "each once"
    assert len(list((tmp_path / "run").glob("evaluation-test-0steps-3tasks-*"))) == 2
    assert main(["evaluate", str(tmp_path / "run"), "--steps", "2"]) == 1
    assert "--steps is no option with prototypical" in error(capsys)
    assert main(["study", str(tmp_path / "run"), "--only", "orders", "reuse"]) == 1
    assert "prototypical has no inner loop" in error(capsys)


def test_what_is_read_in_order_is_shuffled():
    """A sampler groups by class, which would be learnt."""
    config = with_learner(PRESETS["glyphs"], "mann")
    for split in ("train", "test"):
        episodes = build_task(config, Places()).episodes(split, 2)
        labels = episodes(jax.random.key(0), 20).support.targets
        assert len({tuple(row) for row in labels.tolist()}) > 10
        np.testing.assert_array_equal(np.sort(labels), np.arange(5)[None].repeat(20, 0))


@pytest.mark.parametrize(
    "learner, flags, message",
    [
        ("maml", ["--data.train-ways", "6"], "--data.train-ways is not for maml"),
        ("r2d2", ["--data.train-ways", "0"], "--data.train-ways must be a whole"),
        ("siamese", ["--augment.fewest-ways", "3"], "--augment.fewest-ways is not for"),
        ("r2d2", ["--data.train-ways", "1"], "must be a whole number of at least 2"),
        ("maml", ["--data.ways", "1"], "--data.ways must be a whole number of at"),
        ("r2d2", ["--augment.fewest-ways", "1"], "must be a whole number of at least"),
        ("relation", ["--loss", "sum-over-ways"], "--loss must be mean for these"),
        ("siamese", ["--model.halvings", "5"], "halvings must be at most 4, got 5"),
    ],
)
def test_what_a_learner_does_not_take(tmp_path, capsys, learner, flags, message):
    assert glyphs(tmp_path / "run", *flags, learner=learner) == 1
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "learner, flag",
    [
        ("r2d2", "--inner.batch=3"),
        ("mann", "--evaluation.steps=2"),
        ("mann", "--inner.backbone=x"),
        ("maml", "--inner.backbone=x"),
        ("proto-maml", "--model.head=zero"),
        ("maml", "--inner.damping=1"),
        ("maml", "--inner.multi-step=1"),
        ("meta-sgd", "--inner.optimizer=adam"),
    ],
)
def test_a_learner_has_its_own_options_alone(tmp_path, capsys, learner, flag):
    assert glyphs(tmp_path / "run", flag, learner=learner) == 2
    assert f"{flag.split('=')[0]} is no option" in error(capsys)
    assert not (tmp_path / "run").exists()


def test_regression_has_no_classes(tmp_path, capsys):
    assert sinusoid(tmp_path / "run", 2, "--learner", "r2d2") == 1
    assert "r2d2 learns from tasks of classes, and those of sin" in error(capsys)


def test_a_learner_that_changes_in_training(tmp_path):
    flags = "--inner.first-order", "2", "--inner.multi-step", "3"
    assert sinusoid(tmp_path / "run", 5, "--learner", "maml++", *flags) == 0


def test_a_finished_run_is_lengthened(tmp_path, capsys):
    flat = "--outer.schedule", "constant"
    for steps in (4, 8):
        assert sinusoid(tmp_path / "longer", steps, *flat) == 0
    assert "going on from 4 to 8 meta-steps\n" in capsys.readouterr().err
    assert sinusoid(tmp_path / "whole", 8, *flat) == 0
    assert manifest(tmp_path / "longer") == manifest(tmp_path / "whole")
    short, long, whole = (
        json.loads((tmp_path / name).read_text())["protocol"]["meta_step"]
        for name in (
            "longer/evaluation-step4.json",
            "longer/evaluation.json",
            "whole/evaluation.json",
        )
    )
    assert (short, long, whole) == (4, 8, 8)
    assert (tmp_path / "longer" / "adaptation-step4.png").exists()
    capsys.readouterr()
    assert sinusoid(tmp_path / "longer", 6, *flat) == 1
    assert "outer.steps is 8 there and 6 here" in error(capsys)


def test_other_ways_and_shots_are_evaluated(tmp_path, capsys):
    assert glyphs(tmp_path / "run") == 0
    other = ["evaluate", str(tmp_path / "run"), "--ways", "7", "--shots", "2"]
    assert main([*other, "--tasks", "2"]) == 0
    (path,) = (tmp_path / "run").glob("evaluation-test-*-7ways-2shots-step2.json")
    protocol = json.loads(path.read_text())["protocol"]
    assert (protocol["ways"], protocol["support_examples"]) == (7, 14)
    assert main([*other[:3], "1"]) == 1
    assert "--ways must be a whole number of at least 2" in error(capsys)
    assert glyphs(tmp_path / "maml", learner="maml") == 0
    assert main(["evaluate", str(tmp_path / "maml"), "--shots", "2"]) == 0
    assert main(["evaluate", str(tmp_path / "maml"), "--ways", "7"]) == 1
    assert "--ways must be 5, as the run was trained" in error(capsys)


CONFIGURATIONS = {
    "part.toml": 'preset = "glyphs"\nlearner = "imaml"\n[inner]\nstrength = 3.0\n'
    '[model]\nkind = "resnet12"\nwidths = [2, 2, 2, 2]\n',
    "part.json": '{"preset": "glyphs", "learner": "imaml", "inner": {"strength": 3.0},'
    ' "model": {"kind": "resnet12", "widths": [2, 2, 2, 2]}}',
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_file(tmp_path, name):
    path = tmp_path / name
    path.write_text(CONFIGURATIONS[name])
    config = parsed("train", "--config", str(path), "--inner.damping", "0.5")
    assert (config.inner.strength, config.inner.damping) == (3.0, 0.5)
    assert config.learner == "imaml" and config.model.widths == (2, 2, 2, 2)
    whole = tmp_path / "run" / "config.json"
    whole.parent.mkdir()
    whole.write_text(json.dumps(config.as_dict()))
    for given in (whole, whole.parent):
        assert parsed("train", "--config", str(given)) == config
    other = parsed("train", "--config", str(whole), "--learner", "prototypical")
    assert other == with_learner(config, "prototypical")


def parsed(command, *arguments):
    run = parse_run(command, list(arguments))
    assert run is not None
    return run.config


@pytest.mark.parametrize(
    "text, message",
    [
        ("steps = 3", 'expected preset = "NAME", or a run\'s whole config.json'),
        ("steps = ", "is not a configuration"),
        ('preset = "glyphs"\n[inner]\nstrength = 3.0', "inner has an unknown"),
        ('preset = "glyphs"\n[outer]\nsteps = "x"', "steps of outer must be int"),
        ('preset = "glyphs"\n[outer]\nsteps = -1', "--outer.steps must be a whole"),
        ('preset = "glyps"', "did you mean glyphs?"),
        ('preset = "glyphs"\ninner = 3', "inner must be an object"),
        ('preset = "glyphs"\ninner = {rates = 3}', "did you mean 'rate'?"),
        ('{"preset": "glyphs", "model": {"kind": ["x"]}}', "the kind of model must be"),
        ('{"preset": "glyphs", "learner": ["maml"]}', "no learner"),
        ('{"learner": ["maml"], "data": 1, "model": 1, "inner": 1, "outer": 1, '
         '"evaluation": 1}', "learner must be one of maml"),
        ("[1, 2]", "a configuration must be an object"),
        ("null", "a configuration must be an object"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration(tmp_path, capsys, text, message):
    path = tmp_path / ("part.json" if text[0] in "{[n" else "part.toml")
    path.write_text(text)
    run_dir = "--run-dir", str(tmp_path / "run")
    assert main(["train", "--config", str(path), *run_dir]) in (1, 2)
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


def test_what_a_file_and_the_command_line_ask_for(tmp_path, capsys):
    """They agree on the preset, and a run's directory gives its name."""
    path = tmp_path / "part.toml"
    path.write_text('preset = "sinusoid"\n')
    assert main(["train", "glyphs", "--config", str(path)]) == 1
    assert "it is of preset sinusoid, and glyphs was asked for" in error(capsys)
    assert main(["train", "--config", str(tmp_path / "nowhere")]) == 1
    assert "--config: cannot read" in error(capsys)
    path.write_text('preset = "miniimagenet-5w1s"\n[data]\nkind = "CifarData"\n')
    assert type(parsed("train", "--config", str(path)).data).__name__ == "CifarData"
    run = tmp_path / "own"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(PRESETS["glyphs"].as_dict()))
    for given in (run, run / "config.json"):
        begun = parse_run("train", ["--config", str(given)])
        assert begun is not None and begun.run_dir.name == "own"
    old = PRESETS["glyphs"].as_dict() | {"outer": {"first_order": 3, "steps": 7}}
    del old["format"]
    (run / "config.json").write_text(json.dumps(old))
    assert parsed("train", "--config", str(run)).inner.first_order == 3
    odd = json.dumps(with_learner(PRESETS["glyphs"], "r2d2").as_dict())
    (run / "config.json").write_text(odd.replace("Conv4Body", "Conv4Model"))
    assert main(["train", "--config", str(run)]) == 1
    assert "the kind of model must be Conv4Body with r2d2" in error(capsys)


def test_a_preset_has_options_for_every_learner():
    """Of one that takes no inner steps, those of the preset that it comes from."""
    config = parsed("train", "omniglot-20w1s-prototypical", "--learner", "maml")
    assert (config.inner.rate, config.inner.steps) == (0.1, 5)
    assert config.evaluation.steps == 5 and config.data.train_ways == 60


@pytest.mark.parametrize("term", [None, "xterm"])
def test_no_colours_are_wanted(monkeypatch, capsys, term):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    with pytest.raises(SystemExit):
        main(["train", "glyphs", "--help"])
    assert "\x1b[" not in capsys.readouterr().out
    assert os.environ.get("TERM") == term


def test_help_that_is_cut_short_ends_quietly():
    command = f"{sys.executable} -m metajax train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: metajax train") and not done.stderr


def test_the_first_format_of_configurations_is_read():
    """Every learner had the options of all."""
    new = with_learner(PRESETS["glyphs"], "prototypical")
    plain = json.loads(json.dumps(PRESETS["glyphs"].as_dict()))
    del plain["format"], plain["inner"]["first_order"]
    plain["inner"] |= {"strength": 2.0, "damping": 0.0, "backbone": None}
    plain["outer"] |= {"first_order": 0, "multi_step": 0}
    assert Config.from_dict(plain) == PRESETS["glyphs"]
    assert Config.from_dict(plain | {"learner": "prototypical"}) == new
    with pytest.raises(InputError, match="inner has an unknown 'strength'"):
        Config.from_dict(plain | {"format": 2})
    with pytest.raises(InputError, match="format must be 2 or older"):
        Config.from_dict(plain | {"format": 3})


def test_sinusoid_run(tmp_path, capsys):
    assert sinusoid(tmp_path / "run") == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(found["transductive"]["mean"]) == 11
    protocol = dict(
        metric="mse", tasks=4, steps=10, split="test", shots=10, queries=100
    )
    assert protocol.items() <= found["protocol"].items()
    table = (tmp_path / "run" / "evaluation.txt").read_text()
    assert table in capsys.readouterr().out

    # Another protocol leaves the run's own evaluation alone.
    before = (tmp_path / "run" / "evaluation.json").read_text()
    assert (
        main(["evaluate", str(tmp_path / "run"), "--steps", "2", "--tasks", "3"]) == 0
    )
    assert (tmp_path / "run" / "evaluation.json").read_text() == before
    (other,) = (tmp_path / "run").glob("evaluation-test-2steps-3tasks-*.json")
    assert json.loads(other.read_text())["protocol"]["steps"] == 2


def test_the_best_checkpoint_is_evaluated(tmp_path, monkeypatch, capsys):
    folder, scales = tmp_path / "run", iter([1.0, 0.0, 1.0])

    def second_is_best(*args, seed, **settings):
        found = evaluate(*args, seed=seed, **settings)
        if seed != run.VALIDATION_SEED:
            return found
        scale = next(scales)
        score = found.transductive
        return found._replace(transductive=score._replace(mean=scale * score.mean))

    monkeypatch.setattr(run, "evaluate", second_is_best)
    assert sinusoid(folder, 300) == 0
    assert newest(folder) == 300
    assert main(["evaluate", str(folder), "--checkpoint", "best"]) == 0
    (path,) = folder.glob("evaluation-best-test-*.json")
    found, own = (
        json.loads(file.read_text()) for file in (path, folder / "evaluation.json")
    )
    assert found["protocol"]["checkpoint"] == "best, after 200 meta-steps"
    assert "checkpoint" not in own["protocol"]
    assert found["transductive"] != own["transductive"]
    shutil.rmtree(folder / "best")
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--checkpoint", "best"]) == 1
    assert "has no checkpoint of a validation yet" in error(capsys)


def test_a_stopped_evaluation_goes_on(tmp_path, monkeypatch, capsys):
    class Plug:
        """`evaluate`, of two tasks a call, with a signal before the third."""

        def __init__(self, number):
            self.asked, self._number = 0, number

        def __call__(self, *args, stop=lambda: False, **settings):
            def asked():
                self.asked += 1
                if self.asked == 3 and self._number:
                    signal.raise_signal(self._number)
                return stop()

            return evaluate(*args, stop=asked, tasks_per_call=2, **settings)

    def trained(name, number=None, command=None):
        monkeypatch.setattr(results, "evaluate", plug := Plug(number))
        monkeypatch.setattr(run.Validation, "record", lambda *_: None)
        return sinusoid(tmp_path / name, 6, "--evaluation.tasks", "8"), plug.asked

    assert trained("whole") == (0, 4)
    assert trained("broken", signal.SIGTERM) == (143, 3)
    said = capsys.readouterr().err
    assert "stopped after 4 of 8 tasks, and saved; the same command goes on" in said
    partial = tmp_path / "broken" / "evaluation.unfinished.npz"
    assert partial.exists() and not (tmp_path / "broken" / "evaluation.json").exists()
    assert trained("broken", signal.SIGINT) == (0, 2)
    assert not partial.exists()
    whole, broken = (
        (tmp_path / name / "evaluation.json").read_text()
        for name in ("whole", "broken")
    )
    assert whole == broken

    partial.write_bytes(b"")  # killed before it was removed
    assert trained("broken") == (0, 0) and not partial.exists()
    monkeypatch.setattr(results, "evaluate", Plug(signal.SIGINT))
    assert main(["evaluate", str(tmp_path / "broken"), "--seed", "1"]) == 130
    assert "stopped after 4 of 8 tasks, and saved" in capsys.readouterr().err


def test_a_directory_that_was_just_begun_is_taken(tmp_path):
    (tmp_path / ".metajax-12.tmp").write_text("{")
    run.claim(tmp_path, PRESETS["sinusoid"])
    assert restoring.recorded_config(tmp_path) == PRESETS["sinusoid"]


def test_regression_is_not_augmented(tmp_path, capsys):
    for flags in (["--augment.mix", "mixup"], ["--augment.classes", "turn"]):
        assert sinusoid(tmp_path / "run", 2, *flags) == 1
        assert "--augment is for classes of images" in error(capsys)
        assert not (tmp_path / "run").exists()


def test_omniglot_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(SMALL))
    archives = write_archives(tmp_path / "archives")
    places = ["--archives", str(archives), "--data-dir", str(tmp_path / "data")]
    assert main(["data", "prepare", "omniglot", *places]) == 0
    assert "omniglot test: 2 characters" in capsys.readouterr().out
    arguments = ["train", "omniglot-5w1s-small", "--run-dir", str(tmp_path / "run")]
    small = ["--model.filters", "4", "--outer.steps", "2", "--data.queries", "2"]
    small += ["--data.ways", "4", "--evaluation.queries", "2", *QUICK, *places]
    assert main([*arguments, *small, "--stream"]) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "stream" not in json.dumps(found), "it is no part of what a run is"
    assert found["protocol"]["ways"] == 4 and found["protocol"]["split"] == "test"


def test_cifar(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_datasets")
    small = dict(zip(cifar_builder.IMAGES, (4, 2)))
    monkeypatch.setattr(cifar_builder, "IMAGES", small)
    path = write_tar(tmp_path / "archives" / cifar_builder.FILE, cifar_files(small))
    prepare = ["data", "prepare", "cifar100", "--archives", str(path.parent)]
    assert main([*prepare, "--data-dir", str(tmp_path / "data")]) == 0
    assert "cifar100 classes: 100 classes" in capsys.readouterr().out
    for name, classes in (("cifar-fs-5w5s", 64), ("fc100-5w5s", 60)):
        places = Places(data_dir=tmp_path / "data")
        task = build_task(PRESETS[name], places)
        assert task.input_shape == (32, 32, 3) and task.outputs == 5
        assert task.joint(8).classes == classes
        drawn = task.episodes("test", 1)(jax.random.key(0), 2)
        assert drawn.support.inputs.shape == (2, 25, 32, 32, 3)
        streamed = build_task(PRESETS[name], replace(places, stream=True))
        again = streamed.episodes("test", 1)(jax.random.key(0), 2)
        np.testing.assert_array_equal(drawn.query.inputs, again.query.inputs)
    with pytest.raises(InputError, match="--images is not for CIFAR-100"):
        build_task(PRESETS["fc100-5w1s"], replace(places, images=tmp_path))


COLOURS = {"teal": (0, 128, 128), "plum": (160, 0, 120), "gold": (230, 190, 0)}


def images(folder, splits=("train", "val", "test")):
    """A folder of three classes a split, four images each."""
    for split in splits:
        for name, colour in COLOURS.items():
            for i in range(4):
                path = folder / split / name / f"{i}.png"
                write_image(path, colour, (20, 20 + i))
    return folder


def mini_imagenet(tmp_path, *more, command="train", run="run"):
    arguments = [command, "miniimagenet-5w1s", "--run-dir", str(tmp_path / run)]
    data = ["--data.ways", "3", "--data.size", "16", "--data.queries", "2"]
    small = ["--model.filters", "2", "--inner.steps", "1", "--outer.steps", "2"]
    tested = ["--evaluation.queries", "2", "--evaluation.steps", "2", *QUICK]
    places = ["--data-dir", str(tmp_path / "data"), *more]
    return main([*arguments, *data, *small, *tested, *places])


def shows(picture, colour):
    """Whether a picture has a patch of the colour."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    return (pixels == np.array(colour)).all(axis=-1).sum() > 1000


def test_a_folder_of_images(tmp_path, capsys):
    places = "--images", str(images(tmp_path / "images"))
    assert mini_imagenet(tmp_path, *places) == 0
    run, kept = tmp_path / "run", tmp_path / "data" / "metajax_images"
    assert {path.name for path in run.iterdir()} == FILES | {"data.json"}
    assert len(list(kept.glob("*.npy"))) == 3, "the decoded images of each split"
    found = json.loads((run / "evaluation.json").read_text())
    protocol = dict(kind="FolderData", ways=3, shots=1, queries=2, size=16, steps=2)
    assert protocol.items() <= found["protocol"].items()
    assert all(shows(run / "adaptation.png", colour) for colour in COLOURS.values())

    assert main(["evaluate", str(run), "--tasks", "3"]) == 1
    assert "expected --images DIR" in error(capsys)
    results = []
    for more in ([], ["--stream"]):
        assert main(["evaluate", str(run), "--tasks", "3", *places, *more]) == 0
        (written,) = run.glob("evaluation-test-2steps-3tasks-*.json")
        results.append(json.loads(written.read_text()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "places, message",
    [
        ([], "expected --images DIR"),
        (["--images", "nowhere"], "a folder of images at nowhere, which is not there"),
        (["--images", "IMAGES", "--data.size", "8"], "need images of at least 16x16"),
        (["--images", "IMAGES"], "no test split in"),
        (
            ["--images", "IMAGES", "--data.shots", "3"],
            "--data.shots + --data.queries must be at",
        ),
    ],
)
def test_a_folder_that_will_not_do(tmp_path, capsys, places, message):
    folder = str(images(tmp_path / "images", splits=("train", "validation")))
    assert mini_imagenet(tmp_path, *(folder if p == "IMAGES" else p for p in places))
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_body_is_trained_and_then_transferred(tmp_path, capsys):
    places = "--images", str(images(tmp_path / "images"))
    transfer = *places, "--learner", "mtl"
    assert mini_imagenet(tmp_path, *transfer) == 1
    assert "needs a pre-trained backbone" in error(capsys)
    assert not (tmp_path / "run").exists()

    assert mini_imagenet(tmp_path, *places, command="pretrain", run="body") == 0
    body = tmp_path / "body"
    assert "a body of 3 classes is in" in capsys.readouterr().out
    for name in ("backbone.npz", "backbone-best.npz"):
        with np.load(body / name, allow_pickle=False) as file:
            assert file["[0]['kernel']"].shape == (3, 3, 3, 2)
            assert file["mean"].shape == (2,) and np.all(np.isfinite(file["mean"]))
    assert {path.name for path in body.iterdir()} > {"best", "metrics.jsonl"}
    transfer += "--inner.backbone", str(body)
    assert mini_imagenet(tmp_path, *transfer) == 0
    kept = tmp_path / "run" / "backbone.npz"
    files = {path.name for path in kept.parent.iterdir()}
    assert files == FILES | {kept.name, "data.json"}
    assert kept.read_bytes() == (body / "backbone.npz").read_bytes()

    other = *transfer, "--model.filters", "3"
    assert mini_imagenet(tmp_path, *other, run="other") == 1
    assert "is the backbone of another model: [0]['kernel'] is [3, 3, 3, 2] there" in (
        error(capsys)
    )
    whole = (body / "backbone.npz").read_bytes()
    for damaged in (b"PK no archive", whole[: len(whole) // 2], b""):
        (body / "backbone.npz").write_bytes(damaged)
        assert mini_imagenet(tmp_path, *transfer, run="other") == 1
        assert "make one with metajax pretrain" in error(capsys)
    # The run has the body that it began with.
    assert main(["evaluate", str(tmp_path / "run"), "--tasks", "3", *places]) == 0
    assert mini_imagenet(tmp_path, *transfer) == 0
    assert sinusoid(tmp_path / "other", 2, "--learner", "mtl") == 1
    assert not (tmp_path / "other").exists()


def test_only_classes_that_stay_are_trained_on(tmp_path, capsys):
    assert main(["pretrain", "glyphs", "--run-dir", str(tmp_path / "run")]) == 1
    assert "these data have no classes that stay" in error(capsys)
    assert not (tmp_path / "run").exists()


def test_every_outer_extra_and_norm_in_one_run(tmp_path, capsys):
    places = "--images", str(images(tmp_path / "images"))
    extras = "--outer.average 0.9 --outer.weight-decay 0.01 --model.norm task"
    varied = "--data.shots 2 --augment.fewest-ways 2 --augment.fewest-shots 1"
    augment = "--augment.classes turn --augment.jitter 0.1 --loss mean"
    given = *places, *f"{extras} {varied} {augment}".split()
    assert mini_imagenet(tmp_path, *given) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    protocol = dict(support_examples=6, norm="task", average=0.9)
    assert protocol.items() <= found["protocol"].items()
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["augment"]
    assert dict(classes="turn", jitter=0.1, fewest_ways=2).items() <= kept.items()
    both = *given, "--augment.mix", "mixup"
    assert mini_imagenet(tmp_path, *both, run="both") == 1
    assert "leave one out" in error(capsys)


def test_what_is_evaluated_is_the_average(tmp_path):
    for name, more in (("plain", ()), ("average", ("--outer.average", "0.9"))):
        assert sinusoid(tmp_path / name, 6, *more) == 0
    plain, average = (
        json.loads((tmp_path / name / "evaluation.json").read_text())["transductive"]
        for name in ("plain", "average")
    )
    assert plain["mean"] != average["mean"]
    train = [
        map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        for name in ("plain", "average")
    ]
    losses = [[r["loss"] for r in rows if r["split"] == "train"] for rows in train]
    assert losses[0] == losses[1] != []


def test_lists_its_data(capsys):
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for name in ("sinusoid", "glyphs", "Omniglot", "--images DIR"):
        assert name in printed


def test_a_finished_run_is_not_done_again(tmp_path, capsys):
    sinusoid(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    assert sinusoid(tmp_path / "run") == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "run" / "evaluation.txt").read_text() in printed
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--inner.rate", "nan", "--inner.rate must be a positive number, got nan"),
        ("--outer.rate", "-3", "--outer.rate must be a positive number, got -3"),
        ("--outer.clip", "0", "--outer.clip must be a positive number, got 0"),
        ("--augment.alpha", "0", "--augment.alpha must be a positive number, got 0"),
        ("--augment.jitter", "1", "--augment.jitter must be at least 0 and below 1"),
        ("--inner.steps", "-1", "--inner.steps must be a whole number of at least 0"),
        (
            "--outer.tasks-per-chunk",
            "0",
            "--outer.tasks-per-chunk must be a whole number",
        ),
    ],
)
def test_bad_numbers_write_nothing(tmp_path, capsys, option, value, message):
    assert sinusoid(tmp_path / "run", 6, option, value) == 1
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


def test_unknown_preset(capsys):
    assert main(["train", "sinusiod"]) == 2
    assert "did you mean sinusoid?" in error(capsys)


MISREAD = {
    "": "Expected one of {train, sweep, pretrain, plan, evaluate, label, study, "
    "publish, data, doctor}",
    "--nope": "Unrecognized options: --nope",
    "train": "expected a preset, as in metajax train glyphs, or --config FILE; metajax "
    "train --help lists the presets",
    "plan --outer.steps 3": "expected a preset, as in metajax plan glyphs, or --config "
    "FILE; metajax plan --help lists the presets",
    "train sinusoid --outer.stepz=3": "Unrecognized options: --outer.stepz=3; did "
    "you mean --outer.steps?",
    "train sinusoid --outer.steps x": "Error parsing --outer.steps: invalid literal "
    "for int() with base 10: 'x'",
    "train sinusoid --outer.steps": "Missing value for argument '--outer.steps'. "
    "Expected 1 values",
    "evaluate": "Missing from metajax evaluate: PATH",
    "evaluate run --split tset": "invalid choice 'tset' for argument '--split'. "
    "Expected one of ('train', 'validation', 'test')",
}


@pytest.mark.parametrize("line", MISREAD)
def test_arguments_that_cannot_be_read_are_one_line(monkeypatch, capsys, line):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {MISREAD[line]}\n")
    assert (os.environ["COLUMNS"], os.environ["TERM"]) == ("40", "xterm")


def test_directory_of_another_configuration(tmp_path, capsys):
    sinusoid(tmp_path / "run")
    before = sorted(p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*"))
    capsys.readouterr()
    assert sinusoid(tmp_path / "run", 6, "--inner.rate", "0.5", "--seed", "1") == 1
    message = error(capsys)
    assert "inner.rate is 0.01 there and 0.5 here" in message and "--run-dir" in message
    assert "seed is 0 there and 1 here" in message
    after = sorted(p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*"))
    assert after == before


def test_directory_of_something_else(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert sinusoid(tmp_path) == 1
    assert "is not a run directory" in error(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_evaluate_what_is_no_run(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "has no config.json" in error(capsys)


@pytest.mark.parametrize(
    "changes, message",
    [
        (["--data.ways", "9"], "--data.ways must be at most the number of classes"),
        (["--data.shots", "6"], "--data.shots + --evaluation.queries must be at most"),
        (["--archives", "nowhere"], "no images_background.zip in nowhere"),
    ],
)
def test_bad_episodes_write_nothing(tmp_path, monkeypatch, capsys, changes, message):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(SMALL))
    archives = write_archives(tmp_path / "archives")
    places = ["--archives", str(archives), "--data-dir", str(tmp_path / "data")]
    arguments = ["train", "omniglot-5w1s-small", "--run-dir", str(tmp_path / "run")]
    base = ["--data.ways", "4", *places, *changes]
    assert main([*arguments, *base]) == 1
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite(tmp_path, capsys):
    assert sinusoid(tmp_path / "run", 40, "--inner.rate", "1e30") == 1
    message = error(capsys)
    assert "is not finite" in message and "lower the inner or the outer rate" in message
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [0]


def test_a_full_disk(small_disk, capsys):
    disk = small_disk(24)
    (disk / "filler").write_bytes(bytes(24 * 1024))
    assert sinusoid(disk / "run") == 1
    assert "No space left" in error(capsys)
    assert [path.name for path in disk.iterdir()] == ["filler"]


STEPS = 10_000


def launch(folder, steps=STEPS, stderr=subprocess.DEVNULL):
    command = [sys.executable, "-m", "metajax", "train", "sinusoid"]
    arguments = ["--run-dir", str(folder), "--outer.steps", str(steps), *QUICK]
    kept = {  # the next process need not compile what this one did
        "JAX_COMPILATION_CACHE_DIR": str(folder.with_name("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=os.environ | kept,
    )


def newest(folder):
    """Step of the newest checkpoint; 0 if there is none."""
    return max(Checkpoints(folder / "checkpoints").steps(), default=0)


def manifest(folder):
    """Step and digest of the newest checkpoint."""
    path = folder / "checkpoints" / str(newest(folder)) / "manifest" / "metadata"
    return json.loads(path.read_text())


def steps_logged(folder):
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["step"] for row in rows]


def test_killed_at_a_random_moment(tmp_path):
    """`kill -9` in a run: it ends in the unbroken run's parameters."""
    whole, broken, chance = tmp_path / "whole", tmp_path / "broken", random.Random(0)
    assert launch(whole).wait() == 0
    process = launch(broken)  # `benchmarks.kills` does it hundreds of times
    while newest(broken) < STEPS // 4:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 1.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = newest(broken)
    assert launch(broken).wait() == 0
    print("killed after checkpoint", reached)
    assert manifest(broken) == manifest(whole)
    assert manifest(broken)["step"] == STEPS and reached > 0
    assert steps_logged(broken) == steps_logged(whole)


def started(folder, steps=STEPS):
    """A process that has trained for a while."""
    process = launch(folder, steps, stderr=subprocess.PIPE)
    rows = folder / "metrics.jsonl"
    while not (rows.exists() and rows.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_stopped_run_is_saved_first(tmp_path, number, status):
    process = started(tmp_path / "run", 100 * STEPS)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == status
    assert b"and saved; the same command goes on" in said and b"Traceback" not in said
    last = steps_logged(tmp_path / "run")[-1]
    assert 0 < newest(tmp_path / "run") == last < 100 * STEPS


def test_a_run_has_one_writer(tmp_path):
    first = started(tmp_path / "run", 100 * STEPS)
    second = launch(tmp_path / "run", 100 * STEPS, stderr=subprocess.PIPE)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 1
    assert b"another process is training in" in said
    first.kill()
    first.communicate()
    with only_writer(tmp_path / "run"):  # the system let go of it
        pass


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_signals_are_as_they_were():
    before = handlers()
    with Signals() as signals:
        assert not signals()
        signal.raise_signal(signal.SIGINT)
        assert signals()
        with pytest.raises(KeyboardInterrupt):  # the second acts as it always did
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_a_scheduler_may_say_it_twice():
    said = []
    before = signal.signal(signal.SIGTERM, lambda *_: said.append("ended"))
    try:
        with Signals() as signals:
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            assert signals() and not said
            with pytest.raises(KeyboardInterrupt):  # a person's still acts
                signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert said == ["ended"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_scheduler_ends_what_ctrl_c_stops(capfd):
    said = []
    before = signal.signal(signal.SIGTERM, lambda *_: said.append("ended"))
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals() and not said
            signal.raise_signal(signal.SIGTERM)
            assert said == ["ended"]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "Ctrl-C to stop at once\n" in capfd.readouterr().err


def test_ctrl_c_is_offered_where_it_acts(capfd):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals():
        signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err == "\nstopping as soon as it is saved\n"


def test_a_signal_that_was_ignored_still_is():
    """As a shell has it for a script's background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = handlers()
    with Signals() as signals, interrupted_at_once():
        signal.raise_signal(signal.SIGINT)
        assert not signals()
    assert handlers() == before


STAND_ALONE = {
    ("train", "sinusoid"): [
        "Random seed for sampling test tasks.",
        "Support points per task in training;",
    ],
    ("train", "glyphs", "--learner", "imaml"): [
        "iMAML: damping added to the Hessian in the conjugate-gradient solve.",
        "iMAML: strength",
    ],
    ("evaluate",): ["Random seed for sampling tasks; the run's by default."],
    ("study",): ["Random seed for sampling validation tasks."],
    ("label",): ["Folder of the run's prepared data, to estimate accuracy"],
}


@pytest.mark.parametrize("command", STAND_ALONE)
def test_lines_of_help_stand_alone(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for line in STAND_ALONE[command]:
        assert line in said
    assert "Of the tasks" not in said and "The same" not in said


WRAPPED = {
    "": [
        "Label a folder of pictures from a few labelled ones, with a",
        "run or a backbone.",
    ],
    "label": [
        "Folder to write: links to the pictures, in one folder",
        "per class. A folder of an earlier command is replaced.",
        "(default: None)",
    ],
    "train sinusoid": [
        'Configuration file in TOML or JSON (preset = "NAME" and what differs',
        "from it), a run's directory, or its config.json; flags override it.",
        "(default: None)",
    ],
}


@pytest.mark.parametrize("command", WRAPPED)
def test_help_is_wrapped_once(command):
    line = [sys.executable, "-m", "metajax", *command.split(), "--help"]
    env = os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(line, env=env, capture_output=True, encoding="utf-8")
    ends = [row.strip("│ ") for row in done.stdout.splitlines()]
    first, *rest = WRAPPED[command]
    (at,) = (i for i, row in enumerate(ends) if row.endswith(first))
    assert ends[at + 1 : at + 1 + len(rest)] == rest and not done.stderr
    assert "\n\n\n" not in done.stdout
