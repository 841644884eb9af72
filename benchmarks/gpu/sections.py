"""The sections, each of which measures in a process of its own.

    python -m benchmarks.gpu.sections NAME gpu SECONDS

prints results as they come, each a line of JSON, `[key, value]`: a key is a table's
title, and its value the rows so far, `{row: {column: number}}`.
"""

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from benchmarks import suite
from benchmarks.errors import Parser, one_line
from benchmarks.gpu.ahead import Program, compile_ahead
from benchmarks.gpu.job import Job
from benchmarks.gpu.machine import machine
from benchmarks.gpu.schedule import Section
from benchmarks.gpu.sizes import Transformer
from benchmarks.workloads import workload

ALL = [
    Section("machine", "The machine", 15, 10),
    Section("gradient", "The gradient against float64", 75, 20),
    Section("forms", "Forms of each layer", 50, 15),
    Section("rivals", "Rivals in turns", 190, 30),
    Section("first-order", "Exact over first order", 35, 20),
    Section("precision", "Precisions", 40, 20),
    Section("roofline", "Tasks a second against the meta-batch", 60, 20),
    Section("mixed", "Mixed against reverse mode on a transformer", 35, 15),
    Section("first-step", "Time to the first step", 45, 15),
]
AHEAD = 0.5  # of a section's time, at most, for compiling
LEAST = 8.0  # seconds: less is not enough to start any process


def gradient(job: Job) -> None:
    """Relative distances to the textbook's reverse-over-reverse, float64 on the CPU."""
    rows: dict[str, suite.Rows] = {name: {} for name in job.size.gradient}
    pairs = [(name, dtype) for dtype in ("float64", "float32") for name in rows]
    each = max(1, job.size.together // len(pairs))
    lock = Lock()

    def fill(name: str, dtype: str) -> None:
        how = {"dtype": dtype, "together": each}
        for rival, cells in _distances(job, job.size.compared, name, truth[name], how):
            with lock:
                rows[name].setdefault(rival, {}).update(cells)
                job.emit(f"{name}, relative L2 distance", rows[name])

    with ThreadPoolExecutor() as pool:
        truth = {name: pool.submit(_truth, name) for name in rows}
        for done in [pool.submit(fill, *pair) for pair in pairs]:
            done.result()


def forms(job: Job) -> None:
    """Milliseconds of each form of a layer's operations."""
    from benchmarks.gpu.forms import layers, time_forms

    rows = {}
    for family, tasks, examples in job.size.forms:
        for name, row in time_forms(layers(family, tasks, examples=examples)):
            rows[name] = row
            job.emit("milliseconds, float32, a kernel a task", rows)


def rivals(job: Job) -> None:
    """The suite."""
    _time(job, job.size.rivals)


def first_order(job: Job) -> None:
    """The exact gradient's two ways, and the first-order one."""
    names = ("metajax", "metajax, first order", "metajax, reverse")
    _time(job, [(work, names) for work in job.size.few])


def precision(job: Job) -> None:
    """Meta-steps and gradients of fewer bits."""
    names = ("metajax", "metajax, tensorfloat32", "metajax, bfloat16")
    _time(job, [(work, names) for work in job.size.few], share=0.6)
    with ThreadPoolExecutor() as pool:
        for work in job.size.rounded:
            truth = pool.submit(_truth, work)
            rows = {}
            how = {"dtype": "float32", "together": job.size.together}
            for rival, cells in _distances(job, names, work, truth, how):
                rows[rival] = cells
                job.emit(f"{work}, relative L2 distance to float64", rows)


def roofline(job: Job) -> None:
    """Tasks a second, and their share of what the measured rates allow."""
    from benchmarks import roofline as measured

    family, steps, tasks = job.size.roofline
    names = [f"{family}-{steps}steps-{n}tasks" for n in tasks]
    _ahead(job, [("metajax", name) for name in names], job.end)

    def seen(record: dict[str, Any]) -> None:
        roofs = measured.roofs(record, str(steps))
        rows = {}
        points = record["tasks_per_second"][str(steps)]
        for count, rate in sorted(points.items(), key=lambda point: int(point[0])):
            rows[count] = {"tasks/s": rate}
            rows[count] |= {f"of {name}' roof": rate / r for name, r in roofs.items()}
        job.emit(f"{family}, {steps} inner steps, by tasks a meta-batch", rows)

    point = job.size.point_seconds
    settings = measured.Settings(family, (steps,), tasks, point, job.size.side)
    measured.measure(settings, seen)


def mixed(job: Job) -> None:
    """Temporary memory as XLA plans it, and milliseconds."""
    for shape in job.size.transformers:
        _mixed(job, shape)


def first_step(job: Job) -> None:
    """From a process's start to its first meta-step, by what its cache holds."""
    os.environ.pop("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", None)
    for work in job.size.first_step:
        rows = {}
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
            for name, rival in (
                ("metajax, cold", "metajax"),
                ("metajax, warm cache", "metajax"),
                ("torch.autograd loop", "torch.autograd loop"),
            ):
                rows[name] = _from_start(rival, work, job.device)
                job.emit(f"{work}, seconds since the process's start", rows)


def together(calls: Iterable[Callable[[], Any]]) -> None:
    """Calls in threads, for what the compiler's cache keeps; no error ends them."""

    def call(function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:  # it comes again where it is measured
            print(f"compiled ahead: {error}", file=sys.stderr)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(call, calls))


def _truth(work: str) -> np.ndarray:
    ((_, vector),) = suite.gradients([suite.ORACLE], work, "cpu")
    if isinstance(vector, suite.Absent):
        raise vector
    return vector


def _distances(
    job: Job, names: Iterable[str], work: str, truth: Future, how: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells of each rival: its distance, or why it has none."""
    for rival, vector in suite.gradients(names, work, job.device, **how):
        if isinstance(vector, suite.Absent):
            yield rival, {"why": str(vector)}
        else:
            yield rival, {how["dtype"]: suite.distance(vector, truth.result())}


def _ahead(job: Job, programs: Iterable[Program], end: float) -> dict[Program, float]:
    now = time.monotonic()
    until = now + AHEAD * (end - now)
    return compile_ahead(programs, job.device, together=job.size.together, until=until)


def _time(job: Job, works: Iterable[tuple[str, tuple[str, ...]]], share: float = 1.0):
    """Times rivals on each workload that is likely to fit."""
    works, needed, skipped = list(works), {}, []
    end = time.monotonic() + share * job.left
    programs = [(rival, name) for name, names in works for rival in names]
    ahead = _ahead(job, programs, end)

    def seen(name: str, rows: suite.Rows) -> None:
        for rival, row in rows.items():
            if "compile_s" in row:  # by now that of a program in the cache
                row["compile_s"] = ahead.get((rival, name), row["compile_s"])
        job.emit(name, rows)

    for place, (name, names) in enumerate(works):
        kind, began = workload(name).kind, time.monotonic()
        if end - began < max(LEAST, needed.get(kind, 0.0)):
            skipped.append(name)
            job.emit("no time was left for", ", ".join(skipped))
            continue
        until = began + (end - began) / (len(works) - place)
        timing = suite.Timing(job.device, 5, job.size.turn, job.size.rival_seconds)
        suite.time_rivals(name, names, timing, until=until, seen=partial(seen, name))
        needed[kind] = max(needed.get(kind, 0.0), time.monotonic() - began)


def _from_start(rival: str, work: str, device: str) -> dict[str, Any]:
    began, row = time.monotonic(), {}
    with suite.Worker(rival, work, device) as worker:
        for command in ("ready", "compile", "steps 1"):
            try:
                worker.ask(command)
            except suite.Absent as why:
                return row | {"why": str(why)}
            row[command] = time.monotonic() - began
    return row


def _mixed(job: Job, shape: Transformer) -> None:
    import metajax as mj

    transforms = {
        "mixed": mj.mixed,
        "reverse": mj.reverse,
        "kept(reverse)": mj.kept(mj.reverse),
    }
    rows: suite.Rows = {name: {} for name in transforms}
    lock = Lock()

    def compile_(name: str) -> None:
        planned = _temporary(shape, transforms[name], repeats=1)
        with lock:
            rows[name]["temporary MiB"] = planned["temporary MiB"]
            job.emit(shape.title, rows)

    together([partial(compile_, name) for name in transforms])
    for name, grad in transforms.items():
        rows[name] = _temporary(shape, grad, repeats=5)
        job.emit(shape.title, rows)


def _temporary(shape: Transformer, grad: Any, repeats: int) -> dict[str, float]:
    import jax
    import optax

    import metajax as mj
    from benchmarks import large

    work, sgd = shape.work(), optax.sgd(0.01)
    learner = mj.maml(work.model, mj.cross_entropy, sgd, work.steps, grad=grad)
    meta = jax.jit(work.model.init)(jax.random.key(1))
    device, _, ms = large.measured(learner, meta, large.random_episodes(work), repeats)
    return {"temporary MiB": device, "ms": ms}


RUN: dict[str, Callable[[Job], None]] = {
    "machine": machine,
    "gradient": gradient,
    "forms": forms,
    "rivals": rivals,
    "first-order": first_order,
    "precision": precision,
    "roofline": roofline,
    "mixed": mixed,
    "first-step": first_step,
}


def main(name: str, device: str, seconds: float) -> None:
    """Runs a section, whose results alone go to standard output."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(key: str, value: Any) -> None:
        print(json.dumps([key, value]), file=results, flush=True)

    try:
        RUN[name](Job(device, time.monotonic() + seconds, emit))
    except Exception as error:
        traceback.print_exc()
        sys.exit(one_line(error))  # the last line, which is recorded


if __name__ == "__main__":
    parser = Parser("python -m benchmarks.gpu.sections", __doc__)
    parser.add_argument("name", choices=RUN)
    parser.add_argument("device", choices=("gpu", "cpu"))
    parser.add_argument("seconds", type=float)
    main(**vars(parser.parse_args()))
