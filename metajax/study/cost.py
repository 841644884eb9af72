"""What a configuration will cost, before it is run."""

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from metajax._pytrees.constant import completed, learnt
from metajax.checks import check_count
from metajax.study.tasks import count_tasks
from metajax.training.cutting import Chunk, check_chunk, cut, here, mapped_work
from metajax.training.state import TrainState, init_state
from metajax.training.step import Step, train_step
from metajax.types import Episode, Learner, LearnerSchedule, learner_at

MEMINFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
UNKNOWN_BYTES = 2**34  # of a device that does not tell
REPEATS = 5  # of a timed program, of which the median counts


class Plan(NamedTuple):
    """The memory and the time of a meta-step on this device.

    Attributes:
      steps: inner steps K.
      tasks: tasks a meta-batch.
      chunk: tasks at a time.
      devices: that share them.
      state_bytes: of meta-parameters, optimizer state and the meta-batch.
      temporary_bytes: what the compiled meta-step needs beside them, its results too.
      bytes_per_task: by how much that grows with each task more at a time.
      bytes_per_step: by how much with each inner step more.
      available_bytes: of the device; on a CPU, the memory that can be had now.
      largest_at_once: the largest number of tasks at a time that fits.
      largest_meta_batch: the largest meta-batch that fits, in chunks.
      seconds: of a meta-step, from timed ones.
      seconds_per_step: of an inner step of the whole meta-batch, there and back.

    `print` shows it as a table.
    """

    steps: int
    tasks: int
    chunk: int
    devices: int
    state_bytes: int
    temporary_bytes: int
    bytes_per_task: int
    bytes_per_step: int
    available_bytes: int
    largest_at_once: int
    largest_meta_batch: int
    seconds: float
    seconds_per_step: float

    @property
    def fits(self) -> bool:
        """Whether the meta-step fits in memory."""
        return self.state_bytes + self.temporary_bytes <= self.available_bytes

    def __str__(self) -> str:
        mib = 2**20
        fits = "fits" if self.fits else "does NOT fit"
        devices = f"{self.devices} device" + "s" * (self.devices > 1)
        rows = [
            ("inner steps", f"{self.steps}"),
            (
                "tasks a meta-batch",
                f"{self.tasks}, {self.chunk} at a time on {devices}",
            ),
            ("memory, state and episodes", f"{self.state_bytes / mib:.1f} MiB"),
            ("memory, a meta-step", f"{self.temporary_bytes / mib:.1f} MiB"),
            ("  each task more at a time", f"{self.bytes_per_task / mib:.2f} MiB"),
            ("  each inner step more", f"{self.bytes_per_step / mib:.3f} MiB"),
            (
                "memory of the device",
                f"{self.available_bytes / mib:.0f} MiB: it {fits}",
            ),
            ("most tasks at a time", f"{self.largest_at_once}"),
            ("largest meta-batch, in chunks", f"{self.largest_meta_batch}"),
            ("time, a meta-step", f"about {1e3 * self.seconds:.1f} ms"),
            ("  each inner step", f"about {1e3 * self.seconds_per_step:.1f} ms"),
        ]
        # A learner without an inner loop has none to speak of.
        told = [row for row in rows if self.steps or "inner step" not in row[0]]
        return "\n".join(f"{name:<32}{value}" for name, value in told)


def plan(
    build: Callable[[int], Learner | LearnerSchedule],
    optimizer: optax.GradientTransformation,
    episodes: Episode,
    *,
    steps: int,
    tasks_per_chunk: Chunk = "auto",
    devices: int | None = None,
) -> Plan:
    """Compiles a meta-step, reads its memory, and times shorter ones.

      bytes(K, c) from the compiler at (K, c), (K, 2c) and (2K, c), c tasks at a time
      seconds(K) = t_2 + (K - 2) (t_4 - t_2) / 2,   t_k of meta-steps of k inner steps

    What is timed has as many tasks as fill all devices twice at most. A loop of one
    step is none to the compiler, so 0 and 1 step are timed as they are. Its own count
    of operations is of no use here: it counts a loop once, whatever its length.

    Args:
      build: `build(steps) -> learner`, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: a meta-batch, of as many tasks as training will take.
      steps: inner steps K; 0 for a learner without an inner loop.
      tasks_per_chunk: see `metajax.train_step`.
      devices: local devices that share the tasks; all by default.

    Returns:
      `Plan`.

    Raises:
      InputError: if `episodes` is not a meta-batch, or a number is out of range.

    >>> import metajax as mj
    >>> def build(steps):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps)
    >>> episodes = mj.data.sinusoid()(jax.random.key(0), 25)
    >>> found = plan(build, optax.adam(1e-3), episodes, steps=5)
    >>> found.tasks, found.fits
    (25, True)
    """
    check_count("steps", steps, least=0)
    check_chunk(tasks_per_chunk)
    tasks = count_tasks(episodes)
    devices = jax.local_device_count() if devices is None else devices
    check_count("devices", devices, least=1)
    learner = build(steps)
    state = init_state(learner, optimizer, jax.random.key(0))

    one = learner_at(learner, 0).loss

    def loss_gradient(meta: Any, batch: Episode) -> Any:
        def loss(part: Any) -> Any:
            return jax.vmap(one, (None, 0))(completed(part, meta), batch)[0].sum()

        return jax.grad(loss)(learnt(meta))

    work = mapped_work(loss_gradient, state.meta, episodes)
    shape = cut(tasks, work, tasks_per_chunk, here(devices))
    chunk = shape.chunk

    @cache
    def temporary(count: int, at_once: int) -> int:
        step = train_step(build(count), optimizer, tasks_per_chunk=None)
        batch = _resized(episodes, at_once)
        program: Any = jax.jit(step).lower(state, batch).compile()
        memory = program.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    whole, double = temporary(steps, chunk), temporary(steps, 2 * chunk)
    several = max(2, steps)  # a loop of one step is no loop to the compiler
    each_step = (temporary(2 * several, chunk) - temporary(several, chunk)) // several
    each_task = max(1, (double - whole) // chunk)
    fixed = max(0, whole - chunk * each_task)
    of_state, one_episode = _bytes(state), _bytes(episodes) // tasks
    available = available_bytes() - of_state
    resident = of_state + tasks * one_episode
    # Devices of a CPU have one memory; others have their own.
    together = shape.devices if jax.default_backend() == "cpu" else 1
    free_at_once = (available // together - fixed) // (each_task + one_episode)
    longest = (available - whole * together) // one_episode

    full = shape.devices * chunk
    timed = _resized(episodes, min(tasks, 2 * full))
    share = shape.chunks // shape.devices / -(-count_tasks(timed) // full)

    def seconds(count: int) -> float:
        step = train_step(
            build(count), optimizer, tasks_per_chunk=chunk, devices=shape.devices
        )
        return share * _seconds(step, state, timed)

    short = seconds(2)
    per_step = max(0.0, seconds(4) - short) / 2
    whole_step = short + (steps - 2) * per_step if steps > 1 else seconds(steps)
    return Plan(
        steps,
        tasks,
        chunk,
        shape.devices,
        resident,
        whole * together,
        each_task * together,
        max(0, each_step) * together,
        available + of_state,
        max(0, free_at_once),
        max(0, longest),
        whole_step,
        per_step,
    )


def available_bytes() -> int:
    """The memory that a program may take on the first device."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats.get("bytes_limit", UNKNOWN_BYTES) - stats.get("bytes_in_use", 0)
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if MEMINFO.exists():
        rows = (line.split() for line in MEMINFO.read_text().splitlines())
        free = 1024 * next(int(row[1]) for row in rows if row[0] == "MemAvailable:")
    return min(free, _container_bytes())


def _container_bytes() -> int:
    """What is left of a container's memory; more than there can be, without a limit."""
    limit, used = (CONTAINER / name for name in ("memory.max", "memory.current"))
    try:
        return int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no such files, or "max"
        return sys.maxsize


def _resized(episodes: Episode, tasks: int) -> Episode:
    """As many tasks as wanted; those that are wanting come again from the start."""
    order = np.arange(tasks) % count_tasks(episodes)
    return jax.tree.map(lambda x: x[order], episodes)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _seconds(step: Step, state: TrainState, batch: Episode) -> float:
    program = jax.jit(step).lower(state, batch).compile()
    state, batch = jax.device_put((state, batch), program.input_shardings[0])
    jax.block_until_ready(program(state, batch))
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(program(state, batch))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
