"""The zoo: what it publishes is what was trained, and its index says what it is."""

import hashlib
import json

import pytest

from benchmarks import zoo
from benchmarks.zoo import ROWS, Settings, configuration, main, readme
from metajax.cli.main import main as metajax
from tests.benchmarks.test_papers import TINY


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_run(name):
    configuration(name).check()
    assert configuration(name).learner == name.rpartition("-")[2]


@pytest.mark.usefixtures("relaxed")
def test_a_zoo_is_built_of_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ROWS", {"waves": ("sinusoid", TINY)})
    to, runs = tmp_path / "zoo", tmp_path / "runs"
    main(Settings(to, runs, ("waves",)))
    assert sorted(path.name for path in to.iterdir()) == [
        "README.md",
        "waves.md",
        "waves.safetensors",
        "zoo.json",
    ]
    index = json.loads((to / "zoo.json").read_text())["runs"]
    entry, content = index["waves"], (to / "waves.safetensors").read_bytes()
    result = json.loads((runs / "waves" / "evaluation.json").read_text())
    assert entry["mean"] == result["transductive"]["mean"][-1]
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["meta_steps"] == 2 and entry["parameters"] == 4 + 4 + 4 + 1
    assert f"{entry['mean']:.4f} ±" in (to / "README.md").read_text()
    before = (runs / "waves" / "metrics.jsonl").stat().st_mtime_ns
    main(Settings(to, runs, ("waves",)))  # a finished run is published as it is
    assert (runs / "waves" / "metrics.jsonl").stat().st_mtime_ns == before
    assert json.loads((to / "zoo.json").read_text())["runs"] == index
    assert metajax(["evaluate", str(to / "waves.safetensors"), "--tasks", "3"]) == 0


def test_the_readme_labels_with_a_run_of_its_kind():
    entry = {
        **dict(file="a.safetensors", kind="classes", learner="maml", parameters=1),
        **dict(meta_steps=1, test_tasks=2, metric="accuracy", shown="9", bytes=1),
    }
    assert "metajax label a.safetensors --support DIR" in readme({"a": entry})
    masks = readme({"a": entry | {"kind": "masks"}})
    assert "metajax label a.safetensors --support DIR --images DIR --masks" in masks
    assert "metajax label" not in readme({"a": entry | {"kind": "numbers"}})
