"""`metajax study` and `metajax plan`, as a person would run them."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import jax
import pytest

from benchmarks import task_map
from metajax.cli.main import main
from metajax.experiments import run as run_module
from metajax.experiments import study
from metajax.experiments.build import build_task
from metajax.experiments.config import with_learner
from metajax.experiments.owned import run_of
from metajax.experiments.presets import PRESETS
from metajax.experiments.record import Examples
from metajax.experiments.study import DIAGNOSTICS
from metajax.experiments.tasks import Places
from metajax.types import LabelledValues
from tests.helpers import write_image

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

SMALL = [
    *("--model.hidden", "8", "8", "--inner.steps", "2"),
    *("--outer.steps", "20", "--outer.tasks", "4", "--evaluation.tasks", "4"),
    *("--evaluation.steps", "3", "--evaluation.queries", "12"),
]


def trained(directory, *flags):
    assert main(["train", "sinusoid", "--run-dir", str(directory), *SMALL, *flags]) == 0
    return directory


class Links(HTMLParser):
    """Everything that a page would load, and its anchors."""

    def __init__(self):
        super().__init__()
        self.loaded, self.anchors, self.targets = [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.loaded += [named[n] for n in ("src", "srcset") if n in named]
        if tag in ("link", "script", "iframe"):
            self.loaded.append(tag)
        if "href" in named:
            self.anchors.append(named["href"])
        if "id" in named:
            self.targets.append("#" + named["id"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("study") / "run")


def test_every_diagnostic_is_on_the_page(run, capsys):
    assert main(["study", str(run), "--tasks", "4"]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (run / "study" / "report.html").read_text()
    page = Links()
    page.feed(text)
    # Sine waves have no classes, and so no map.
    assert len(page.loaded) == len(DIAGNOSTICS) - 1 and text.count("Not here") == 1
    assert "Not here: the Fisher information is of a classifier" in text
    assert all(
        source.startswith("data:image/svg+xml;base64,") for source in page.loaded
    )
    assert page.anchors == page.targets == [f"#{name}" for name in DIAGNOSTICS]
    assert re.search(r'class="remark">The best mean score, [\d.]+, is at rate', text)
    numbers = json.loads((run / "study" / "study.json").read_text())
    drawn = [name for name in DIAGNOSTICS if name != "tasks"]
    assert list(numbers) == drawn
    curve = numbers["trajectories"]["query_loss"]
    assert curve["axes"] == ["task", "step"]
    assert len(curve["values"]) == 4 and len(curve["values"][0]) == 4
    for name in drawn:
        assert (run / "study" / f"{name}.svg").read_text().startswith("<?xml")
        assert (run / "study" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_everything_that_a_run_writes_is_its_own(run):
    assert main(["study", str(run), "--tasks", "3", "--only", "contributions"]) == 0
    assert main(["evaluate", str(run), "--seed", "5"]) == 0
    written = [path for path in run.rglob("*") if path.is_file()]
    assert {run / "study" / "study.json", run / "evaluation.txt"} < {*written}
    assert [path for path in written if run_of(path) != run.resolve()] == []


def test_other_data_have_a_page_of_their_own(run, monkeypatch, capsys):
    page = run / "study" / "report.html"
    before = page.read_bytes() if page.exists() else None
    why = "/of/birds is not the data of it"
    other = Examples("/of/birds", "0123456789", why, foreign=True, named=True)
    monkeypatch.setattr(study, "examples", lambda *_: other)
    assert main(["study", str(run), "--tasks", "3", "--only", "contributions"]) == 0
    said = capsys.readouterr()
    assert "the page has a folder of its own" in said.err
    assert f"restoring {run}, and sampling 3 tasks\n" in said.err
    assert "studying contributions (1 of 1)\n" in said.err
    text = (run / "study-birds-01234567" / "report.html").read_text()
    assert "/of/birds" in text and "20 of 20" in text
    assert (page.read_bytes() if page.exists() else None) == before


def test_what_a_learner_has_not_is_said(tmp_path):
    flags = ["--learner", "reptile", "--inner.rate", "0.02"]
    directory = trained(tmp_path / "run", *flags)
    names = ["orders", "noise", "contributions"]
    assert main(["study", str(directory), "--tasks", "3", "--only", *names]) == 0
    text = (directory / "study" / "report.html").read_text()
    missing = re.findall("Not here: ([^.]*)", text)
    assert missing == ["reptile has no inner gradient that is differentiated"] * 2
    numbers = json.loads((directory / "study" / "study.json").read_text())
    assert list(numbers) == ["contributions"]


def test_a_map_of_a_run_without_an_inner_loop(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "VALIDATION_TASKS", 2)
    images, directory = tmp_path / "images", tmp_path / "run"
    for split in ("train", "validation", "test"):
        for number, name in enumerate("abcdefgh"):
            group = "Greek" if name < "e" else "Latin"
            for k in range(5):
                path = images / split / group / name / f"{k}.png"
                write_image(path, 20 * number + 4 * k, size=(16, 16))
    places = ["--images", str(images), "--data-dir", str(tmp_path / "data")]
    flags = [
        *("--learner", "r2d2", "--data.ways", "2", "--data.queries", "1"),
        *("--data.size", "16", "--model.filters", "2", "--evaluation.queries", "1"),
        *("--outer.steps", "1", "--outer.tasks", "2", "--evaluation.tasks", "2"),
    ]
    argv = ["train", "miniimagenet-5w1s", *flags, *places]
    assert main([*argv, "--run-dir", str(directory)]) == 0
    only = ["--tasks", "4", "--only", "tasks", "reuse"]
    assert main(["study", str(directory), *only, *places]) == 0
    text = (directory / "study" / "report.html").read_text()
    assert "Not here: r2d2 has no inner loop on examples to look into" in text
    assert text.count("Not here") == 1
    numbers = json.loads((directory / "study" / "study.json").read_text())
    assert numbers["tasks"]["groups"] == ["Greek"] * 2 + ["Latin"] * 2
    assert "Two tasks of one group are nearer than two of different ones with" in text
    said = capsys.readouterr().out
    assert "1 of 2 diagnostics are not for this run: r2d2 has no inner loop" in said
    own = Places(images=images, data_dir=tmp_path / "data")
    settings = task_map.Settings(directory, tasks=4, examples=2, places=own)
    task_map.main(replace(settings, to=tmp_path / "map.png"))
    assert "4 tasks of 2 groups: " in capsys.readouterr().out
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--only", "colours"], "there is no diagnostic 'colours'; there are traj"),
        (["--tasks", "1"], "--tasks must be a whole number of at least 2, got 1"),
    ],
)
def test_bad_input(run, capsys, flags, said):
    assert main(["study", str(run), *flags]) == 1
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["study", str(tmp_path)]) == 1
    assert "is not a run directory" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_plan_says_what_fits(capsys):
    assert main(["plan", "sinusoid", *SMALL]) == 0
    said, progress = capsys.readouterr()
    assert re.search("tasks a meta-batch +4, ", said)
    parts = [line.split()[0] for line in progress.splitlines()]
    assert parts == ["sampling", "compiling", "timing"]
    assert re.search(r"largest meta-batch, in chunks +\d{3,}", said)
    assert "it fits" in said and said.count("inner step") == 3


def test_a_plan_is_of_the_devices_that_are_asked_for(capsys, monkeypatch):
    asked = []

    def planned(*_, devices, **__):
        asked.append(devices)
        return SimpleNamespace(seconds=0.0)

    monkeypatch.setattr(study.study, "plan", planned)
    for flags in ([], ["--devices", "1"]):
        assert main(["plan", "sinusoid", *flags]) == 0
    assert asked == [None, 1]


def test_a_plan_of_a_learner_without_an_inner_loop(capsys):
    argv = ["plan", "glyphs", "--learner", "prototypical", "--outer.tasks", "2"]
    assert main([*argv, "--model.filters", "4"]) == 0
    said = capsys.readouterr().out
    assert "it fits" in said and "inner step" not in said


def test_a_plan_of_an_unknown_preset(capsys):
    assert main(["plan", "sinusoidal"]) == 2
    assert "did you mean sinusoid?" in capsys.readouterr().err


def test_a_plan_for_a_chip_that_is_not_here(capsys, monkeypatch):
    devices = [SimpleNamespace(device_kind="NVIDIA H200", platform="gpu")] * 8
    monkeypatch.setattr(study.targets, "devices", lambda name: devices)
    monkeypatch.setattr(study.study, "plan_for", lambda *_, **settings: (_, settings))
    argv = ["plan", "sinusoid", "--for", "h200:8", "--devices", "4"]
    assert main([*argv, "--precision", "bfloat16"]) == 0
    said = capsys.readouterr().out
    assert "'tasks': 25" in said and "'precision': 'bfloat16'" in said
    assert said.count("device_kind") == 4
    assert main([*argv[:-1], "9"]) == 1
    assert "--devices must be of the 8 of h200:8, got 9" in capsys.readouterr().err


def test_a_plan_for_an_unknown_chip(capsys):
    assert main(["plan", "sinusoid", "--for", "h20"]) == 1
    assert "did you mean h200?" in capsys.readouterr().err
    argv = ["plan", "sinusoid", "--for", "h200", "--coordinator", "auto"]
    assert main(argv) == 1
    assert "is for metajax train" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["meta-sgd", "maml++"])
def test_a_learnt_rate_is_not_called_unstable(name):
    config = with_learner(PRESETS["glyphs"], name)
    run = study.Studied(config, *[None] * 5)
    assert study._instability(run, None) == ""


def test_a_support_set_without_labels_is_judged_by_the_loss():
    config = PRESETS["fields-glyphs-classes"]
    config = replace(config, data=replace(config.data, classes=2, drawings=4, size=8))
    task = build_task(config, Places())
    tasks = task.episodes("train", 4)(jax.random.key(0), 2)
    run = study.Studied(config, task, None, tasks, None, 3)
    assert run.metric.name == "values_mse"
    support, query = jax.tree.map(lambda x: x[0], tasks)
    guess = LabelledValues(query.targets.values, query.targets.labels)
    assert run.metric(guess, query.targets) == 0
    assert run.metric(LabelledValues(support.targets + 2, None), support.targets) == 4
