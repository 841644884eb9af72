"""The schedule of the GPU's measurements: its budget, its failures and its record."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

import metajax as mj
from benchmarks.gpu import ahead, child, forms, rendering, schedule, sections, sizes
from benchmarks.gpu.schedule import Section, SectionError, TimeUpError
from benchmarks.rivals import RIVALS
from benchmarks.suite import Absent
from benchmarks.workloads import workload

ROOT = Path(__file__).parents[2]
# What is declared as needed and that a machine with a GPU may lack.
LACKING = (
    *("tensorflow_datasets", "importlib_resources", "array_record", "grain"),
    *("tensorboardX", "tyro", "torch"),
)


class Clock:
    """A clock that only sections move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(sections, seconds, behave, write=lambda record: None):
    """The record, and the budget that each section was given."""
    clock, budgets = Clock(), {}

    def start(section, budget):
        budgets[section.name] = budget
        for took, result in behave(section.name, budget):
            clock.now += took
            yield result

    try:
        record = schedule.run_sections(sections, seconds, start, {}, write, clock=clock)
    except KeyboardInterrupt:
        record = None
    return record, budgets


def three(least=1.0):
    return [Section(name, name.upper(), 1.0, least) for name in "abc"]


def test_time_that_is_left_over_is_shared():
    def behave(name, budget):
        yield (3.0 if name == "a" else budget), ("key", 1)

    record, budgets = run(three(), 30.0, behave)
    assert budgets == {"a": 10.0, "b": 13.5, "c": 13.5}
    states = [entry["state"] for entry in record["sections"].values()]
    assert states == [schedule.DONE] * 3
    assert record["sections"]["b"]["seconds"] == 13.5


def test_a_section_that_does_not_fit_says_so():
    sections = [Section("a", "A", 1.0, 8.0), Section("b", "B", 1.0, 5.0)]

    def behave(name, budget):
        yield budget, ("key", 1)

    record, budgets = run(sections, 10.0, behave)
    assert budgets == {"a": 8.0}  # its least, though its share would be 5
    skipped = record["sections"]["b"]
    assert skipped["state"] == schedule.SKIPPED
    assert skipped["why"] == "2 s left, it needs 5"


def test_a_failure_is_recorded_and_the_rest_goes_on():
    def behave(name, budget):
        yield 1.0, ("first", {"row": {"x": 1}})
        if name == "a":
            raise ValueError("wrong\nin two lines")
        if name == "b":
            raise TimeUpError("its 10 s were up")

    record, _ = run(three(), 30.0, behave)
    entries = record["sections"]
    assert entries["a"]["state"] == schedule.FAILED
    assert entries["a"]["why"] == "ValueError: wrong"
    assert entries["b"]["state"] == schedule.STOPPED
    assert entries["c"]["state"] == schedule.DONE
    assert all(
        entry["results"] == {"first": {"row": {"x": 1}}} for entry in entries.values()
    )


def test_the_record_is_whole_after_each_result():
    written = []

    def behave(name, budget):
        yield 1.0, ("one", {"row": {"x": 1}})
        yield 1.0, ("one", {"row": {"x": 2}})

    def write(record):
        written.append(json.loads(json.dumps(record)))
        rendering.markdown(TITLES | record)

    record, _ = run(three(), 30.0, behave, write)
    assert written[-1] == record
    assert written[0]["sections"]["a"]["results"]["one"] == {"row": {"x": 1}}
    assert written[0]["sections"]["a"]["state"] == schedule.STOPPED  # so far
    assert len(written) == 3 * 3


def test_an_interruption_leaves_a_whole_record():
    written = []

    def behave(name, budget):
        yield 1.0, ("one", 1)
        if name == "b":
            raise KeyboardInterrupt

    def write(record):
        written.append(json.loads(json.dumps(record)))

    record, _ = run(three(), 30.0, behave, write)
    assert record is None
    entries = written[-1]["sections"]
    assert list(entries) == ["a", "b"]
    assert entries["b"]["state"] == schedule.STOPPED
    assert entries["b"]["why"] == "the run was interrupted"
    assert entries["b"]["results"] == {"one": 1}


TITLES = {"title": "Everything", "command": "python", "began": "today"}
SAY = "import json, sys, time; say = lambda *x: print(json.dumps(x), flush=True); "


def results(code, seconds, tmp_path):
    command = [sys.executable, "-c", SAY + code]
    return child.results(command, seconds, tmp_path / "log", os.environ)


def test_results_come_as_they_are_printed(tmp_path):
    code = "say('a', 1); say('b', [2.5])"
    assert list(results(code, 20.0, tmp_path)) == [("a", 1), ("b", [2.5])]


def test_a_process_that_fails_says_why(tmp_path):
    code = "say('a', 1); raise ValueError('no such chip')"
    seen = results(code, 20.0, tmp_path)
    assert next(seen) == ("a", 1)
    with pytest.raises(SectionError, match="ValueError: no such chip"):
        next(seen)
    with pytest.raises(SectionError, match="ended with status -9"):
        list(results("import os; os.kill(os.getpid(), 9)", 20.0, tmp_path))


def test_a_process_is_ended_with_all_that_it_started(tmp_path):
    code = (
        "import subprocess; p = subprocess.Popen(['sleep', '60']); say('pid', p.pid);"
        "time.sleep(60)"
    )
    seen = results(code, 1.5, tmp_path)
    _, pid = next(seen)
    with pytest.raises(TimeUpError, match="its 2 s were up"):
        next(seen)
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("a process of the section goes on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_whole_record(tmp_path, number):
    # No GPU and no JAX: the first section says what the machine is, then is stopped.
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", "--to", str(tmp_path / "to")],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    record = tmp_path / "to" / "gpu.json"
    for _ in range(600):
        if record.exists():
            break
        time.sleep(0.05)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    entry = json.loads(record.read_text())["sections"]["machine"]
    assert entry["state"] == schedule.STOPPED
    assert "python" in entry["results"]["versions"]
    assert "the run was interrupted" in (tmp_path / "to" / "gpu.md").read_text()
    assert "the run was interrupted" in printed


def test_a_record_is_rendered():
    rows = {
        "metajax": {"steps_s": [0.001, 0.002], "compile_s": 1.0, "peak": 1e6},
        "textbook JAX, map": {"steps_s": [], "compile_s": 2.0},
        "higher": {"steps_s": [], "absent": "ModuleNotFoundError: higher"},
    }
    entry = {
        "title": "Rivals",
        "state": "failed",
        "why": "no room",
        "seconds": 3.0,
        "results": {
            "w3": rows,
            "rates": {"copying": {"GB/s": 1234.5678}, "products": {"TFLOP/s": None}},
            "no time was left for": "w1",
        },
    }
    text = rendering.markdown(TITLES | {"sections": {"rivals": entry}})
    assert "Failed, 3 s: no room." in text
    assert "| metajax | 1.5 (1.2-1.8) | 1.00 | 1.0 | 1 | not compared |" in text
    assert "| textbook JAX, map | | | 2.0 | | |" in text
    assert "Left out: higher (ModuleNotFoundError: higher)." in text
    assert "| copying | 1235 |  |" in text
    assert "No time was left for: w1." in text


def test_all_workloads_and_rivals_exist():
    for size in sizes.SIZES.values():
        pairs = dict(size.rivals)
        for name in (
            *pairs,
            *size.gradient,
            *size.few,
            *size.rounded,
            *size.first_step,
        ):
            workload(name)
        known = set(RIVALS)
        assert known.issuperset(size.compared)
        assert all(known.issuperset(names) for names in pairs.values())
    assert set(sections.RUN) == {section.name for section in sections.ALL}


def test_forms_agree_and_are_timed(monkeypatch):
    monkeypatch.setattr(forms, "TURN", 0.0)
    shape = forms.Shape(2, 3, (5, 6, 4), 7)
    rows = dict(forms.time_forms([shape]))
    assert len(rows) == 7
    timed = {op: set() for op in ("forward", "images", "kernel", "pooling", "dense")}
    for name, row in rows.items():
        assert row["metajax.ops"] > 0 and row["distance"] < 1e-5, name
        assert all(isinstance(x, float) for x in row.values()), row
        op = name.split(", ")[1].split("'")[0].split()[0]
        if "lax, grouped" in row:
            assert row["GFLOP"] == 2 * 2 * 3 * 5 * 6 * 7 * 9 * 4 / 1e9
        timed[op] |= row.keys() - {"metajax.ops", "lax, grouped", "distance", "GFLOP"}
    valid = mj.ops.forms.FORMS
    names = {"forward": "y", "images": "x", "kernel": "w"}
    operations = {op: f"convolution {name}" for op, name in names.items()}
    operations |= {"pooling": "pooling", "dense": "linear w"}
    for op, operation in operations.items():
        # Less the table's own, and Winograd's tiles, which are too large.
        assert len(timed[op]) == len(valid[operation].keys() - {"winograd"}) - 1, op


def test_a_form_that_fails_has_a_reason(monkeypatch):
    def broken(x, y):
        raise ValueError("no algorithm\nat all")

    def twice(x, y):
        return 2 * mj.ops.conv2d(x, y)

    def candidates(op, shape):
        return {"ours": jax.vmap(mj.ops.conv2d), "twice": jax.vmap(twice), "": broken}

    monkeypatch.setattr(forms, "TURN", 0.0)
    monkeypatch.setattr(forms, "OPS", {"forward": forms.OPS["forward"]})
    monkeypatch.setattr(forms, "HEAD", {})
    monkeypatch.setattr(forms, "candidates", candidates)
    row = dict(forms.time_forms([forms.Shape(1, 1, (3, 3, 1), 2)])).popitem()[1]
    assert row[""] == "ValueError: no algorithm" and row["ours"] > 0
    assert row["distance"] == pytest.approx(1.0)


def test_nothing_optional_is_imported():
    modules = (
        "benchmarks.gpu.__main__",
        "benchmarks.gpu.sections",
        "benchmarks.worker",
    )
    used = ("benchmarks.rivals.ours", "benchmarks.roofline", "benchmarks.large")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({LACKING}))\n"
        + "".join(f"import {name}\n" for name in (*modules, *used))
        # It is refused once JAX has a device.
        + "import jax; jax.config.update('jax_num_cpu_devices', 3)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


class Compiler:
    """A worker of which some programs never come to an end."""

    def __init__(self, rival, work, device):
        self._endless, self._killed = work == "endless", threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def kill(self):
        self._killed.set()

    def ask(self, command):
        if self._endless:
            assert self._killed.wait(20.0)
            raise Absent
        return 1.5


def test_programs_are_compiled_ahead_while_there_is_time(monkeypatch):
    monkeypatch.setattr(ahead, "Worker", Compiler)
    works = ("endless", "short")
    programs = [(rival, w) for w in works for rival in ("metajax", "higher")]
    until = time.monotonic() + 0.3
    took = ahead.compile_ahead(programs, "gpu", together=2, until=until)
    assert took == {("metajax", "short"): 1.5}
    assert not ahead.compile_ahead(programs, "gpu", together=2, until=until)
