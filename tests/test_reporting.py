import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import metajax as mj
from metajax.reporting import JsonLines, Progress, TensorBoard, progress, read_rows
from metajax.training.state import TrainState


def at(step):
    return TrainState((), (), jnp.int32(step))


METRICS = {"loss": np.array([1.0, 3.0]), "accuracy": np.array([0.5, 0.7])}


def test_rows_are_means_with_intervals(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.start(at(0))
    lines.record(at(2), METRICS)
    (row,) = read_rows(tmp_path / "metrics.jsonl")
    assert row["step"] == 2 and row["split"] == "train"
    assert row["loss"] == 2.0 and row["accuracy"] == 0.6
    np.testing.assert_allclose(row["loss_interval"], 1.959964 * 2**0.5 / 2**0.5)


def test_a_row_is_json_whatever_its_numbers(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write({"step": 1, "nested": {"numbers": [1.0, float("nan"), float("inf")]}})
    text = (tmp_path / "metrics.jsonl").read_text()
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert row == {"step": 1, "nested": {"numbers": [1.0, None, None]}}


def test_resuming_removes_the_rows_past_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.start(at(0))
    for step in (2, 4, 6):
        lines.record(at(step), METRICS)
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # a write that was cut short
    lines.start(at(4))
    lines.record(at(6), METRICS)
    assert [row["step"] for row in read_rows(path)] == [2, 4, 6]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_tensorboard_events(tmp_path):
    with TensorBoard(tmp_path) as events:
        events.start(at(0))
        events.record(at(2), METRICS)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert b"train/loss" in content and b"train/accuracy" in content


def show(terminal, **settings):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with Progress(10, 4, console=console, **settings) as progress:
        progress.start(at(0))
        progress.record(at(2), METRICS)
        progress.record(at(10), METRICS)
    return file.getvalue()


def test_plain_lines_where_there_is_no_terminal():
    lines = show(terminal=False).splitlines()
    lines = [line for line in lines if line.strip()]
    assert len(lines) == 3 and "\x1b" not in "".join(lines)
    assert lines[0] == "step 0/10 compiling"
    assert lines[1].startswith("step 2/10  loss 2.0000  accuracy 0.6000  ")
    assert lines[2].startswith("step 10/10") and lines[2].endswith("0:00:00 left")


def test_values_read_as_their_metric_formats_them():
    text = show(terminal=False, metrics={"accuracy": mj.accuracy, "loss": mj.mse})
    assert "loss 2.0000  accuracy 60.00 %  " in text


def test_the_rate_is_without_the_first_dispatch(monkeypatch):
    """In which JAX compiles."""
    clock = iter([0.0, 100.0, 101.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = show(terminal=False).splitlines()
    assert "0 tasks/s  0:06:40 left" in lines[1] and "32 tasks/s" in lines[2]


def test_a_bar_on_a_terminal():
    assert "\x1b[" in show(terminal=True) and "tasks/s" in show(terminal=True)
