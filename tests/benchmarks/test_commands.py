"""The suite's rivals that need no torch compute one and the same gradient."""

import importlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import (
    figure,
    kills,
    labelling,
    many_chips,
    roofline,
    soak,
    suite,
    target_worker,
    targets,
    workloads,
)
from benchmarks.command import run_command
from benchmarks.errors import UsageError
from benchmarks.rivals import RIVALS
from metajax.data import ImageStore
from metajax.errors import InputError
from metajax.experiments.learners import LEARNERS
from metajax.ops.estimate import equations
from tests.helpers import relative

pytestmark = pytest.mark.usefixtures("relaxed")

WORK = workloads.workload("w3-2steps-3tasks")
OF_JAX = [name for name, rival in RIVALS.items() if "torch" not in rival.module]
OTHER = ("metajax, first order", "metajax, bfloat16")  # not the exact gradient


def run(name):
    rival = RIVALS[name]
    module = importlib.import_module(f"benchmarks.rivals.{rival.module}")
    arrays = workloads.weights(WORK), workloads.episodes(WORK)
    return module.Run(WORK, *arrays, np.float64, **rival.settings)


@pytest.mark.parametrize("name", [n for n in OF_JAX if n not in OTHER])
def test_exact_rivals_agree(float64, name):
    distance = relative(run(name).gradient(), run("textbook JAX, vmap").gradient())
    assert distance < 1e-12


@pytest.mark.parametrize("name", OTHER)
def test_other_gradients_are_told_apart(float64, name):
    assert relative(run(name).gradient(), run("metajax").gradient()) > 1e-3


@pytest.mark.parametrize("name", ["metajax, one device", "textbook JAX, vmap"])
def test_meta_steps_change_the_weights(float64, name):
    rival = run(name)
    before = rival.gradient()
    assert rival.compile() > 0
    rival.steps(2)
    assert relative(rival.gradient(), before) > 1e-3


def test_workloads_have_names():
    work = workloads.workload("w1-2steps-3tasks-16filters")
    assert (work.steps, work.tasks, work.family.filters) == (2, 3, 16)
    assert workloads.weights(work)["conv3_w"].shape == (3, 3, 16, 16)
    for wrong in (
        "w1-0steps-1tasks",
        "w4-1steps-1tasks",
        "w1-1steps",
        "w3-1steps-1tasks-8filters",
    ):
        with pytest.raises(UsageError, match="w1-5steps-4tasks"):
            workloads.workload(wrong)


def test_a_rival_that_cannot_start_is_told():
    with suite.Worker("nobody", "w3-1steps-1tasks", "cpu") as worker:
        with pytest.raises(suite.Absent, match="its process ended"):
            worker.ask("ready")


def test_a_record_is_drawn(tmp_path):
    def rows(seconds):
        timed = {"steps_s": [seconds, 2 * seconds], "peak": 1e9}
        return {"metajax": timed, "textbook JAX, vmap": timed}

    names = "w1-1steps-4tasks", "w1-5steps-4tasks", "w1-5steps-8tasks"
    results = {name: rows(i + 1.0) for i, name in enumerate(names)}
    results |= {"w1-5steps-4tasks-16filters": rows(0.5), "w3-5steps-25tasks": rows(9.0)}
    steps = figure.along("inner steps", results)
    assert list(steps) == [1, 5] and steps[5] == results["w1-5steps-4tasks"]
    assert list(figure.along("filters", results)) == [16, 64]
    (tmp_path / "record.json").write_text(json.dumps({"results": results}))
    figure.main(figure.Settings(tmp_path / "record.json", tmp_path / "speed.png"))
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_products_are_counted():
    x, kernel = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 5))

    def net(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=layout
        )
        return jax.lax.map(lambda row: row @ jnp.ones((5, 7)), y.reshape(-1, 16, 5))

    found = [n * roofline.operations(each) for each, n in equations(net, x, kernel)]
    forward = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert [n for n in found if n] == [forward, 2 * (2 * 16 * 7) * 5]


def test_a_roofline_is_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(roofline.COPIED, True, 2**12)
    paths = tmp_path / "record.json", tmp_path / "roofline.png"
    roofline.main(roofline.Settings("w3", (1, 2), (1, 4), 0.01, 64, *paths))
    record = json.loads(paths[0].read_text())
    one, two = record["costs"]["1"], record["costs"]["2"]
    forward = 2 * (40 + 40 * 40 + 40)  # of an example, of 10 + 10
    assert two["products"] > one["products"] > 20 * forward
    assert two["written"] > one["written"]
    assert all(rate > 0 for rate in record["tasks_per_second"]["2"].values())
    roofs = roofline.roofs(record, "1")
    assert roofs["products"] == record["rates"]["products"] / one["products"]
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_what_compilers_say_is_kept_and_tabled(tmp_path, capsys, monkeypatch):
    def compiled(work, chip, program, settings):
        share = 0.5 if program == "ours" else 1.0
        figures = dict.fromkeys((name for name, *_ in targets.COLUMNS), 4e9 * share)
        line = dict(name="copy.1", opcode="copy", times=3, cycles=0, bytes=8)
        line |= {"operation": "jit(step)/add"}
        more = {"collectives": {"all-reduce": 1}, "dearest": [line]}
        return (
            figures
            | more
            | ({"cycles": 0, "account_bytes": None} if "h" in chip else {})
        )

    monkeypatch.setattr(targets, "_in_a_process", compiled)
    monkeypatch.setattr(targets, "check_compiler", lambda chip: None)
    record = str(tmp_path / "record.json")
    for chips in (("v5e",), ("h200",)):
        argv = ["w3-1steps-2tasks", "--for", *chips, "--to", record, "--rounds", "3"]
        assert run_command(targets.main, targets.Settings, "targets", "", argv) == 0
    told = capsys.readouterr().out
    assert "| w3-1steps-2tasks | v5e | ours | 2,000 | 2 | 2 |" in told
    assert told.count("| | ours / textbook, highest |") == 2
    assert "**0.50**" in told and "1 all-reduce" in told and "`jit(step)/add`" in told
    kept = json.loads((tmp_path / "record.json").read_text())["results"]
    (rows,) = kept.values()
    assert list(rows) == ["v5e", "h200"] and list(rows["v5e"]) == list(targets.PROGRAMS)
    assert rows["v5e"]["ours"]["compile_s"] == 3 * [2e9]


def test_many_absent_chips_are_tabled(tmp_path, capsys, monkeypatch):
    def compiled(name, devices, tasks, program):
        facts = dict(devices=len(devices), tasks_each=tasks // len(devices), chunk=4)
        facts |= dict(collectives={"all-reduce": 1}, temporary_bytes=3 * 2**20)
        return facts | dict(allowed_bytes=4 * 2**20, all_at_once=tasks < 99)

    monkeypatch.setattr(many_chips, "compiled", compiled)
    monkeypatch.setattr(many_chips.targets, "devices", lambda name: range(16))
    record = tmp_path / "record.json"
    names = "w3-1steps-64tasks", "w3-1steps-1600tasks"
    argv = [*names, "--for", "v5e:4x4", "--to", str(record)]
    assert run_command(many_chips.main, many_chips.Settings, "chips", "", argv) == 0
    told = capsys.readouterr().out
    assert "| v5e:4x4 | 16 | 4 | 4 | 1 all-reduce | 3 | 3 | all tasks |" in told
    assert "| v5e:4x4 | 16 | 100 | 4 | 1 all-reduce | 3 | 3 | 75 % |" in told
    assert list(json.loads(record.read_text())) == list(names)


@pytest.mark.parametrize("family", ["w1", "w3"])
@pytest.mark.parametrize("program", [*targets.PROGRAMS, *targets.OTHER])
def test_programs_for_absent_chips_are_of_the_workload(family, program):
    work = workloads.workload(f"{family}-2steps-3tasks")
    learner = target_worker.build(program, work)
    episodes = jax.eval_shape(
        lambda: target_worker.sampler(work)(jax.random.key(0), work.tasks)
    )
    shapes = {name: x.shape for name, x in workloads.episodes(work).items()}
    assert episodes.query.inputs.shape == shapes["query_x"]
    assert episodes.support.targets.shape[:2] == shapes["support_y"][:2]
    meta = jax.eval_shape(lambda: learner.init(jax.random.key(0)))
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(meta))
    weights = sum(x.size for x in workloads.weights(work).values())
    biases = 4 * 64 if program.startswith("textbook") and family == "w1" else 0
    assert count == weights + biases


def test_a_soak_tells_growth_from_noise():
    noise = np.random.default_rng(0).normal(0.0, 50.0, 400)

    def rows(growth):
        resident = 1e5 + growth * np.arange(400) + noise
        return [soak.Usage(int(kib), 7, 20, 0, 0) for kib in resident]

    flat, growing = soak.verdict(rows(0.0)), soak.verdict(rows(1.0))
    assert flat.count(": flat") == len(soak.Usage._fields)
    assert growing.count("NOT flat") == 1
    rise, error = soak.slope(np.array([row.resident_kib for row in rows(1.0)]))
    assert abs(rise - 1.0) < 3 * error < 0.3


def test_a_soak_leaves_parts_out(tmp_path):
    soak.work(tmp_path, Console(file=io.StringIO()), ("rows",))
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"metrics.jsonl", "unfinished.npz"}


class Said:
    """A process that has said something."""

    def __init__(self, text):
        self._text = text

    def said(self):
        return self._text


def test_what_a_kill_must_not_do():
    kill = kills.Kill("SIGKILL", "training", True, -9, 200)
    kills.check(Said("step 100/2000 compiling\n"), kill, 100)
    for text, wrong, message in (
        ("step 0/2000 compiling\n", kill, "went on from 0, the newest was 100"),
        ("", kill._replace(kept=0), "a checkpoint was lost"),
        ("Traceback", kill, "Traceback"),
        ("", kill._replace(signal="SIGTERM", status=-15), "training"),
    ):
        with pytest.raises(AssertionError, match=message):
            kills.check(Said(text), wrong, 100)
    assert "| training | 1 | 0 | 1 |" in kills.table([kill])


def test_labelled_drawings_are_mixed_as_label_mixes_them():
    images = np.arange(3, dtype=np.uint8).repeat(20).reshape(3, 20, 1, 1, 1)
    store = ImageStore(images, np.full(3, 20), ("a/1", "a/2", "a/3"))
    support, _, labels = labelling._drawn(store, (3, 4, 5), 0)
    targets = np.asarray(support.targets)
    assert sorted(targets) != targets.tolist() and sorted(labels) == labels.tolist()
    shown = np.asarray(support.inputs).reshape(-1)
    assert all(len(np.unique(shown[targets == k])) == 1 for k in range(3))


def test_labels_without_validation_classes_say_why(tmp_path, monkeypatch):
    class Run:
        inner, outputs = LEARNERS["prototypical"](), 5

    monkeypatch.setattr(labelling, "configured", lambda _: Run)
    monkeypatch.setattr(labelling, "build_task", lambda *_: Run)
    monkeypatch.setattr(labelling, "restored", lambda *_: (None, 0))
    monkeypatch.setattr(labelling.data, "omniglot", lambda *_, **__: None)
    monkeypatch.setattr(labelling, "build_per_query", lambda *_: None)

    def refuse(*_):
        raise InputError("too few")

    monkeypatch.setattr(labelling, "run_validation_tasks", refuse)
    with pytest.raises(InputError, match="too few"):
        labelling.main(labelling.Settings(tmp_path))
