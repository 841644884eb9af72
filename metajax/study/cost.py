"""What a configuration will cost, measured before it is run."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from metajax._pytrees.constant import completed, learnt
from metajax.checks import check_count
from metajax.study.tasks import leading_axis
from metajax.training.cutting import Chunk, Cut, check_chunk, cut, here, mapped_work
from metajax.training.state import TrainState, init_state
from metajax.training.step import MakeStep, Step, train_step
from metajax.types import Learner, LearnerSchedule, PyTree, learner_at

MEMINFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
UNKNOWN_BYTES = 2**34  # the memory of a device that does not report its own
REPEATS = 5  # runs of a timed program, of which the median counts


class Plan(NamedTuple):
    """The memory and the time of a meta-step on this device.

    Attributes:
      steps: inner steps K.
      tasks: tasks of a meta-batch.
      chunk: tasks at a time on each device.
      devices: devices that share the tasks.
      state_bytes: size of meta-parameters, optimizer state and the meta-batch.
      temporary_bytes: memory of the compiled meta-step beside them, with its results.
      bytes_per_task: growth of `temporary_bytes` with each further task at a time.
      bytes_per_step: growth of `temporary_bytes` with each further inner step.
      available_bytes: memory of the device; of a CPU, what is free now.
      largest_at_once: largest number of tasks at a time that fits.
      largest_meta_batch: largest meta-batch that fits, in chunks.
      seconds: time of a meta-step, estimated from shorter ones.
      seconds_per_step: time of an inner step of the whole meta-batch and of its
        derivative.

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
        # A learner without an inner loop has no inner steps to report.
        shown = [row for row in rows if self.steps or "inner step" not in row[0]]
        return "\n".join(f"{name:<32}{value}" for name, value in shown)


def plan(
    build: Callable[[int], Learner | LearnerSchedule],
    optimizer: optax.GradientTransformation,
    episodes: PyTree,
    *,
    steps: int,
    tasks_per_chunk: Chunk = "auto",
    devices: int | None = None,
    make_step: MakeStep = train_step,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Compiles a meta-step, reads its memory, and times shorter ones.

      bytes(K, c) from the compiler at (K, c), (K, 2c) and (2K, c), c tasks at a time
      seconds(K) = t_2 + (K - 2) (t_4 - t_2) / 2,   t_k of meta-steps of k inner steps

    The timed meta-steps have at most as many tasks as fill all devices twice. The
    compiler unrolls a loop of one step, so 0 steps and 1 step are timed themselves. The
    compiler's count of operations would not help: it counts a loop once, whatever its
    length.

    Args:
      build: `build(steps) -> learner`, or a schedule of learners.
      optimizer: the outer optimizer.
      episodes: a meta-batch of as many tasks as training will use, of any kind.
      steps: inner steps K; 0 for a learner without an inner loop.
      tasks_per_chunk: see `metajax.train_step`.
      devices: local devices that share the tasks; all by default.
      make_step: see `metajax.fit`.
      say: called with a line of text before each part that takes long.

    Returns:
      `Plan`.

    Raises:
      InputError: if `episodes` is not a meta-batch, or a number is out of range.

    >>> import metajax as mj
    >>> def build(steps):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps)
    >>> episodes = mj.data.sinusoid()(jax.random.key(0), 25)
    >>> cost = plan(build, optax.adam(1e-3), episodes, steps=5)
    >>> cost.tasks, cost.fits
    (25, True)
    """
    check_count("steps", steps, least=0)
    check_chunk(tasks_per_chunk)
    leading_axis(episodes)
    devices = jax.local_device_count() if devices is None else devices
    check_count("devices", devices, least=1)
    learner = build(steps)
    state = init_state(learner, optimizer, jax.random.key(0))
    work = _Work(build, optimizer, episodes, state, make_step)
    shape = work.cut(learner, tasks_per_chunk, devices)
    return _plan(work, steps, shape, say)


def _plan(work: "_Work", steps: int, shape: Cut, say: Callable[[str], None]) -> Plan:
    chunk = shape.chunk
    say(f"compiling meta-steps of {chunk} and {2 * chunk} tasks, to read their memory")
    memory = work.memory(steps, chunk)
    say("timing meta-steps")
    whole_step, per_step = work.seconds(steps, shape)
    # Devices of a CPU share one memory; others have their own.
    sharing = shape.devices if jax.default_backend() == "cpu" else 1
    state_bytes, episode_bytes = (
        _bytes(work.state),
        _bytes(work.episodes) // shape.tasks,
    )
    available = available_bytes()
    free = available - state_bytes
    most_together = free // sharing - memory.fixed(shape.chunk)
    return Plan(
        steps,
        shape.tasks,
        shape.chunk,
        shape.devices,
        state_bytes + shape.tasks * episode_bytes,
        memory.whole * sharing,
        memory.each_task * sharing,
        max(0, memory.each_step) * sharing,
        available,
        max(0, most_together // (memory.each_task + episode_bytes)),
        max(0, (free - memory.whole * sharing) // episode_bytes),
        whole_step,
        per_step,
    )


class _Memory(NamedTuple):
    """Bytes of a compiled meta-step of one chunk: all, a task's, an inner step's."""

    whole: int
    each_task: int
    each_step: int

    def fixed(self, chunk: int) -> int:
        """The part that does not grow with the tasks of a chunk."""
        return max(0, self.whole - chunk * self.each_task)


class _Work(NamedTuple):
    """A meta-step, of any number of inner steps and tasks."""

    build: Callable[[int], Learner | LearnerSchedule]
    optimizer: optax.GradientTransformation
    episodes: PyTree
    state: TrainState
    make_step: MakeStep

    def cut(self, learner: Learner | LearnerSchedule, chunk: Chunk, most: int) -> Cut:
        """How training cuts the meta-batch, on `most` devices at most."""
        one = learner_at(learner, 0).loss

        def loss_gradient(meta: Any, batch: PyTree) -> Any:
            def loss(part: Any) -> Any:
                return jax.vmap(one, (None, 0))(completed(part, meta), batch)[0].sum()

            return jax.grad(loss)(learnt(meta))

        work = mapped_work(loss_gradient, self.state.meta, self.episodes)
        return cut(leading_axis(self.episodes), work, chunk, here(most))

    def memory(self, steps: int, chunk: int) -> _Memory:
        """What the compiler plans for a chunk, by programs of twice as much."""
        whole, double = self._bytes(steps, chunk), self._bytes(steps, 2 * chunk)
        # A loop of one step is no loop to the compiler.
        several = max(2, steps)
        once = whole if several == steps else self._bytes(several, chunk)
        each_step = (self._bytes(2 * several, chunk) - once) // several
        return _Memory(whole, max(1, (double - whole) // chunk), each_step)

    def _bytes(self, steps: int, tasks: int) -> int:
        step = self.make_step(self.build(steps), self.optimizer, tasks_per_chunk=None)
        batch = _resized(self.episodes, tasks)
        program: Any = jax.jit(step).lower(self.state, batch).compile()
        memory = program.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    def seconds(self, steps: int, shape: Cut) -> tuple[float, float]:
        """The seconds of a meta-step, and of each of its inner steps."""
        full = shape.devices * shape.chunk
        batch = _resized(self.episodes, min(shape.tasks, 2 * full))
        # Two rounds of chunks are timed at most, and stand for all of them.
        share = shape.chunks // shape.devices / -(-leading_axis(batch) // full)

        def timed(count: int) -> float:
            how = {"tasks_per_chunk": shape.chunk, "devices": shape.devices}
            step = self.make_step(self.build(count), self.optimizer, **how)
            return share * _seconds(step, self.state, batch)

        short = timed(2)
        per_step = max(0.0, timed(4) - short) / 2
        return short + (steps - 2) * per_step if steps > 1 else timed(steps), per_step


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
    """The free memory of a container; beyond any machine's if it has no limit."""
    limit, used = (CONTAINER / name for name in ("memory.max", "memory.current"))
    try:
        return int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no such files, or "max"
        return sys.maxsize


def _resized(episodes: PyTree, tasks: int) -> PyTree:
    """A meta-batch of so many tasks, repeated from the start where there are fewer."""
    order = np.arange(tasks) % leading_axis(episodes)
    return jax.tree.map(lambda x: x[order], episodes)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _seconds(step: Step, state: TrainState, batch: PyTree) -> float:
    program = jax.jit(step).lower(state, batch).compile()
    state, batch = jax.device_put((state, batch), program.input_shardings[0])
    jax.block_until_ready(program(state, batch))
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(program(state, batch))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
