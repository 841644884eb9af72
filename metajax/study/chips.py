"""What a run would need on a chip that is not at hand."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from metajax.checks import check_count
from metajax.data.staging import Drawn, staged
from metajax.errors import InputError
from metajax.targets import Chip, Compiled, chip_of, compile_for
from metajax.training.cutting import Chunk, Cut, check_chunk
from metajax.training.feeding import feed
from metajax.training.programs import many_steps
from metajax.training.state import init_state
from metajax.training.step import MakeStep, cut_of, train_step
from metajax.types import Learner, LearnerSchedule, Sampler

GIB = 2**30
# The search for the largest meta-batch stops after so many programs, or if one fills
# this share of the memory.
TRIES, FILLED = 4, 0.95
TOO_LARGE = "RESOURCE_EXHAUSTED"  # in a compiler's error for too large a program


class ChipPlan(NamedTuple):
    """What a meta-step needs of each device that is not here.

    Attributes:
      chip: the kind of device.
      devices: how many share the tasks.
      tasks: tasks a meta-batch.
      chunk: of those of a device, how many at a time.
      argument_bytes: of arguments and results on a device, the data included.
      temporary_bytes: what the compiled dispatch needs beside them.
      usable_bytes: of the device's memory.
      largest_at_once: the largest meta-batch that fits, all its tasks at once.
      largest_bytes: what the program compiled for it takes on a device.
      operations: floating-point operations of products of a device, a meta-step.
      moved_bytes: that it reads and writes of its memory, a meta-step.
      precision: of products.

    `print` shows it as a table.
    """

    chip: Chip
    devices: int
    tasks: int
    chunk: int
    argument_bytes: int
    temporary_bytes: int
    usable_bytes: int
    largest_at_once: int
    largest_bytes: int
    operations: int
    moved_bytes: int
    precision: str

    @property
    def fits(self) -> bool:
        """Whether the meta-step fits in memory."""
        return self.argument_bytes + self.temporary_bytes <= self.usable_bytes

    @property
    def floor(self) -> float:
        """The seconds of a meta-step at least, by the chip's published rates."""
        return self.chip.floor(self.operations, self.moved_bytes, self.precision)

    def __str__(self) -> str:
        fits = "fits" if self.fits else "does NOT fit"
        own = self.chip.own_precision(self.precision)
        rates = (
            f"{self.chip.rate(self.precision) / 1e12:.4g} Tflop/s ({own}), "
            f"{self.chip.bandwidth / 1e9:.0f} GB/s"
        )
        rows = [
            ("chips that share the tasks", f"{self.devices} x {self.chip.kind}"),
            ("tasks a meta-batch", f"{self.tasks}, {self.chunk} at a time on each"),
            ("memory, arguments and results", f"{self.argument_bytes / GIB:.3f} GiB"),
            ("memory, temporary", f"{self.temporary_bytes / GIB:.3f} GiB"),
            ("memory that JAX has", f"{self.usable_bytes / GIB:.1f} GiB: it {fits}"),
            (
                "largest meta-batch at once",
                f"{self.largest_at_once}: {self.largest_bytes / GIB:.3g} GiB, compiled",
            ),
            ("  a larger one", "in chunks of as many, --outer.tasks-per-chunk"),
            ("products of a device", f"{self.operations / 1e9:.3g} Gflop a meta-step"),
            ("bytes of a device", f"{self.moved_bytes / 1e9:.3g} GB, estimated"),
            ("floor, no forecast", f"{1e3 * self.floor:.3g} ms a meta-step"),
            ("  by published rates of", rates),
        ]
        return "\n".join(f"{name:<32}{value}" for name, value in rows)


def compile_dispatch(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler,
    devices: Sequence[Any],
    *,
    tasks: int,
    tasks_per_chunk: Chunk = "auto",
    make_step: MakeStep = train_step,
) -> tuple[Compiled, Cut]:
    """Compiles what `metajax.fit` runs, for devices that are not here.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: what `fit` samples meta-batches of.
      devices: of `metajax.targets.devices`.
      tasks: tasks a meta-batch.
      tasks_per_chunk: see `metajax.train_step`.
      make_step: see `metajax.fit`.

    Returns:
      The program of one meta-step, sampling and update included, and how it cuts the
      meta-batch.
    """
    sampler, key = staged(episodes), jax.random.key(0)
    state = jax.eval_shape(lambda: init_state(learner, optimizer, key))
    batch = Drawn(sampler.fetched_like(tasks), sampler)
    shape = cut_of(learner, state.meta, batch, tasks_per_chunk, devices)
    used = devices[: shape.devices]
    step = make_step(learner, optimizer, tasks_per_chunk=tasks_per_chunk, devices=used)
    fed = feed(sampler, key, tasks=tasks, most=1)
    run = many_steps(step, tasks=tasks, most=1)
    return compile_for(used, run, state, sampler, key, 1, fed.like), shape


def plan_for(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler,
    devices: Sequence[Any],
    *,
    tasks: int,
    tasks_per_chunk: Chunk = "auto",
    precision: str = "float32",
    make_step: MakeStep = train_step,
    say: Callable[[str], None] = lambda text: None,
) -> ChipPlan:
    """Compiles a run's meta-step for chips that are not here, and reports its needs.

    The largest meta-batch is extrapolated from two compiled programs, as memory grows
    with the tasks of a device; one more is compiled to see that it fits.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: what `fit` samples meta-batches of.
      devices: of `metajax.targets.devices`.
      tasks: tasks a meta-batch.
      tasks_per_chunk: see `metajax.train_step`.
      precision: of products, for the chip's rate; see `metajax.in_precision`.
      make_step: see `metajax.fit`.
      say: called with a line of text before each program is compiled.

    Returns:
      A `ChipPlan`.

    Raises:
      InputError: if the chip is none of `metajax.targets.CHIPS`, a number is out of
        range, or the compiler has no room for the meta-step.
    """
    check_count("tasks", tasks, least=1)
    check_chunk(tasks_per_chunk)
    chip = chip_of(devices[0])
    if chip is None:
        raise InputError(f"no chip is known as {devices[0].device_kind!r}")

    build = partial(
        compile_dispatch, learner, optimizer, episodes, devices, make_step=make_step
    )
    compiled = _compiler(build, devices, say)
    if (first := compiled(tasks, tasks_per_chunk)) is None:
        raise InputError(
            f"a meta-step of {tasks} tasks does not fit {chip.name}; take a smaller "
            "tasks_per_chunk, or fewer tasks"
        )
    return _plan(chip, tasks, precision, *first, compiled, len(devices))


_Compiler = Callable[[int, Chunk], tuple[Compiled, Cut] | None]


def _plan(
    chip: Chip,
    tasks: int,
    precision: str,
    program: Compiled,
    shape: Cut,
    compiled: _Compiler,
    devices: int,
) -> ChipPlan:
    def memory(count: int) -> int | None:
        fitting = compiled(count * devices, None)
        return None if fitting is None else fitting[0].memory_bytes

    start = (shape.chunk, program.memory_bytes)
    most, taken = _largest(memory, start, chip.usable_bytes)
    return ChipPlan(
        chip,
        shape.devices,
        tasks,
        shape.chunk,
        program.argument_bytes,
        program.temporary_bytes,
        chip.usable_bytes,
        most * devices,
        taken,
        program.operations,
        program.program.bytes,
        precision,
    )


def _compiler(
    build: Callable[..., tuple[Compiled, Cut]],
    devices: Sequence[Any],
    say: Callable[[str], None],
) -> _Compiler:
    """`compile_dispatch` of any number of tasks; None where the chip has no room."""
    name = f"{len(devices)} x {chip_of(devices[0]).name}"  # pyright: ignore

    def compiled(count: int, chunk: Chunk) -> tuple[Compiled, Cut] | None:
        say(f"compiling {count} tasks for {name}")
        try:
            return build(tasks=count, tasks_per_chunk=chunk)
        except jax.errors.JaxRuntimeError as error:
            if TOO_LARGE not in str(error):
                raise
            return None

    return compiled


def _largest(
    memory: Callable[[int], int | None], known: tuple[int, int], room: int
) -> tuple[int, int]:
    """The most tasks of a device that fit when compiled, and their bytes.

      memory(c) = fixed + c each, by the two largest programs that fit

    The first attempt is half of what the known program suggests; later attempts follow
    the line through two programs.

    Args:
      memory: the bytes of a program of so many tasks; None if it does not fit.
      known: the tasks and the bytes of a program that was compiled.
      room: the bytes that may be used.
    """
    fitting, above = [known], None
    if known[1] > room:
        return 0, 0
    following = known[0] * room // (2 * max(1, known[1]))
    for _ in range(TRIES):
        count, held = fitting[-1]
        if above is not None:
            following = min(following, (count + above) // 2)
        if held >= FILLED * room or following <= count:
            break
        taken = memory(following)
        if taken is None or taken > room:
            above = following
            continue
        fitting.append((following, taken))
        each = max(1.0, (taken - held) / (following - count))
        following += int((room - taken) / each)
    return fitting[-1]
