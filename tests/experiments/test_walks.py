"""A new kind of task, with a metric that is no mean, goes through the command."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest

import metajax as mj
from metajax.cli.main import main
from metajax.experiments import config as configuration
from metajax.experiments import run
from metajax.experiments.config import Config
from metajax.experiments.evaluating import EvaluatingSteps
from metajax.experiments.families import Family
from metajax.experiments.learners.loops import Maml
from metajax.experiments.networks import MLPModel
from metajax.experiments.outer import Outer
from metajax.experiments.tasks import Places, Task
from metajax.types import Batch, Episode

pytestmark = pytest.mark.usefixtures("relaxed")


def halves(key, tasks):
    """Points of the plane, on either side of a line through the origin."""

    def one(key):
        normal, *points = (
            jax.random.normal(k, (6, 2)) for k in jax.random.split(key, 3)
        )
        labels = [(x @ normal[0] > 0).astype(jnp.int32) for x in points]
        return Episode(*map(Batch, points, labels))

    return jax.vmap(one)(jax.random.split(key, tasks))


@dataclass(frozen=True)
class HalvesData(Family):
    """Two classes that a line parts, judged by the area under the ROC curve."""

    origin = "halves", "generated on demand"
    shots: int = 6
    queries: int = 6

    def build(self, places):
        self.check_places(places)
        episodes = lambda split, queries: halves  # noqa: E731
        losses = {"mean": mj.cross_entropy}
        return Task(episodes, 2, 2, 6, losses, mj.metrics.auc, (2,), kind="classes")

    def draw(self, task, learner, meta, *, queries, to):
        (to / "adaptation.png").write_bytes(b"drawn")


def test_a_kind_of_task_with_a_metric_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(configuration.KINDS["data"], "HalvesData", HalvesData)
    monkeypatch.setattr(run, "VALIDATION_TASKS", 4)
    config = Config(
        HalvesData(),
        MLPModel((4,)),
        Maml(rate=0.1, steps=1),
        Outer(steps=4, tasks=2),
        EvaluatingSteps(tasks=8, steps=2, inductive_queries=2),
    )
    directory = tmp_path / "run"
    run.train(config, directory, Places())
    said = capsys.readouterr().out
    assert "metric auc" in said and len(said.splitlines()) == 6
    result = json.loads((directory / "evaluation.json").read_text())
    own = mj.evaluate(*learnt(directory), halves, mj.metrics.auc, tasks=8)
    assert result["transductive"]["mean"] == own.transductive.mean.tolist()
    assert (directory / "adaptation.png").read_bytes() == b"drawn"
    assert (directory / "learning_curve.png").exists()
    assert (directory / "best").is_dir()
    assert main(["evaluate", str(directory), "--tasks", "4", "--steps", "1"]) == 0
    assert main(["study", str(directory), "--only", "trajectories"]) == 0
    longer = replace(config, outer=replace(config.outer, steps=6))
    run.train(longer, directory, Places())
    assert (directory / "evaluation-step4.json").exists()


def learnt(directory):
    config = run.configured(directory)
    task = run.build_task(config, Places())
    meta, _ = run.restored(directory, config, task)
    return run.build_learner(config, task, steps=config.evaluation.steps), meta
