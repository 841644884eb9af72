"""Tasks a second against the meta-batch and the inner steps, under two roofs.

    python -m benchmarks.roofline [--family w1] [--to RECORD.json --figure FIGURE.png]

Meta-steps of `metajax` on the suite's work, in dispatches as `fit` makes them; all
devices of the machine share the tasks. The roofs are measured in the same run: the rate
of large float32 products, over the products that a task's exact meta-gradient is made
of (the textbook's, in which nothing is computed twice); and the rate of copying, over
twice all that the meta-step writes if nothing is fused, as what is written is read.
Fusion alone gets above the second.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rivals import ours, textbook
from benchmarks.settings import Amount, Count, Counts, NewFile, one_of
from benchmarks.timing import timed
from benchmarks.workloads import FAMILIES, Workload, episodes, weights, workload
from metajax.ops.estimate import equations, written_bytes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
# Of the factors, and bytes; larger off the CPU, where a call's start costs more.
SIDES, COPIED = {True: 4096, False: 8192}, {True: 2**28, False: 2**31}


@dataclass(frozen=True)
class Settings:
    """What is measured, and where it goes."""

    family: Annotated[str, one_of("family", FAMILIES)] = "w1"
    """Family of the work: w1, w2 or w3."""
    steps: Counts = (1, 5, 10)
    """Numbers of inner steps."""
    tasks: Counts = tuple(4**n for n in range(7))
    """Numbers of tasks in a meta-batch."""
    seconds: Amount = 3.0
    """Least seconds of meta-steps for each point, of which the median turn counts."""
    side: Count | None = None
    """Rows of the square matrices whose product is timed; by default 4096 on a CPU and
    8192 elsewhere."""
    to: NewFile | None = None
    """File to write the record to, as JSON."""
    figure: NewFile | None = None
    """File to draw the figure in, such as roofline.png."""


class Cost(NamedTuple):
    """Of one task's meta-gradient.

    Attributes:
      products: floating-point operations of its products.
      written: bytes of every array of ours, fused or not.
    """

    products: int
    written: int


class Textbook(textbook.Run):
    """The plainest way to the gradient, to be counted."""

    def products(self) -> int:
        """Floating-point operations of all products, those with padding included."""
        counted = equations(self._value_and_grad, self._params, self._episodes)
        return sum(times * operations(each) for each, times in counted)


class Ours(ours.Run):
    """What is timed."""

    def written(self) -> int:
        """Bytes of every array."""
        return written_bytes(self._value_and_grad, self._params, self._episodes)


def operations(equation: Any) -> int:
    """Of a product or a convolution: two for each multiplication; 0 of others."""
    kind, settings = equation.primitive.name, equation.params
    if kind not in ("dot_general", "conv_general_dilated"):
        return 0
    left, right = (var.aval.shape for var in equation.invars)
    if kind == "dot_general":
        (contracted, _), _ = settings["dimension_numbers"]
        summed = np.prod([left[axis] for axis in contracted], dtype=int)
    else:
        summed = np.prod(right) // right[settings["dimension_numbers"].rhs_spec[0]]
    return 2 * int(summed) * int(np.prod(equation.outvars[0].aval.shape))


def cost(family: str, steps: int) -> Cost:
    """Of a task."""
    one = workload(f"{family}-{steps}steps-1tasks")
    products = _run(Textbook, one, over_tasks="map").products()
    return Cost(products, _run(Ours, one).written())


def _run(kind: type, work: Workload, **how: Any) -> Any:
    return kind(work, weights(work), episodes(work), np.dtype("float32"), **how)


def tasks_per_second(work: Workload, seconds: float) -> float:
    """The median of five turns."""
    run = _run(Ours, work)
    run.compile()
    run.steps(1)
    each = timed(lambda: run.steps(1))
    steps = max(1, round(seconds / 5 / each))
    return work.tasks * steps / float(np.median(_turns(lambda: run.steps(steps))))


def _turns(call: Callable[[], None]) -> list[float]:
    return [timed(call) for _ in range(5)]


def rates(side: int | None = None, copied: int | None = None) -> dict[str, float]:
    """Floating-point operations, and bytes read and written, a second; all devices.

    The best of five turns, of arrays that are on every device.
    """
    return {"products": product_rate(side), "bytes": copy_rate(copied)}


def product_rate(
    side: int | None = None, precision: str = "highest", dtype: str = "float32"
) -> float:
    """Floating-point operations a second of products of square matrices."""
    side = side or SIDES[_on_cpu()]

    def product(x: jax.Array) -> jax.Array:
        return jnp.dot(x, x, precision=precision)

    return jax.local_device_count() * 2 * side**3 / _best(product, (side, side), dtype)


def copy_rate(copied: int | None = None) -> float:
    """Bytes read and written a second by a sum with a constant."""
    copied = copied or COPIED[_on_cpu()]
    seconds = _best(lambda x: x + 1, (copied // 4,), "float32")
    return jax.local_device_count() * 2 * copied / seconds


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _best(function: Callable, shape: tuple[int, ...], dtype: str) -> float:
    x = jax.pmap(lambda key: jax.random.normal(key, shape, dtype))(
        jax.random.split(jax.random.key(0), jax.local_device_count())
    )
    run = jax.pmap(function)
    jax.block_until_ready(run(x))
    return min(_turns(lambda: jax.block_until_ready(run(x))))


def measure(
    settings: Settings, seen: Callable[[dict[str, Any]], None] = lambda record: None
) -> dict[str, Any]:
    """The record: the machine, its rates, and the tasks a second of every point.

    Args:
      settings: what to measure.
      seen: called with the record so far after every point.
    """
    record: dict[str, Any] = {
        "family": settings.family,
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "rates": rates(settings.side),
        "costs": {},
        "tasks_per_second": {},
    }
    for steps in settings.steps:
        record["costs"][str(steps)] = cost(settings.family, steps)._asdict()
        points = record["tasks_per_second"][str(steps)] = {}
        for tasks in settings.tasks:
            work = workload(f"{settings.family}-{steps}steps-{tasks}tasks")
            try:
                points[str(tasks)] = tasks_per_second(work, settings.seconds)
            except jax.errors.JaxRuntimeError as error:  # no room for so many
                print(f"{work.name}: {str(error).splitlines()[0][:120]}", flush=True)
                break
            print(f"{work.name}: {points[str(tasks)]:.4g} tasks/s", flush=True)
            seen(record)
    return record


def roofs(record: Mapping[str, Any], steps: str) -> dict[str, float]:
    """Tasks a second, at most, by products and by copying without fusion."""
    costs, rate = record["costs"][steps], record["rates"]
    return {
        "products": rate["products"] / max(1, costs["products"]),
        "bytes": rate["bytes"] / (2 * costs["written"]),
    }


def draw(record: Mapping[str, Any], path: Path) -> None:
    """A line for each number of inner steps, with its roofs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (steps, points), colour in zip(record["tasks_per_second"].items(), COLOURS):
        x = [int(tasks) for tasks in points]
        name = f"{steps} inner step{'s' if steps != '1' else ''}"
        axes.plot(x, list(points.values()), "o-", color=colour, ms=4, label=name)
        for roof, style in zip(roofs(record, steps).values(), ("--", ":")):
            axes.axhline(roof, color=colour, ls=style, lw=1)
    axes.plot([], [], "k--", lw=1, label="roof: products")
    axes.plot([], [], "k:", lw=1, label="roof: copying, unfused")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("tasks a meta-batch")
    axes.set_ylabel("tasks a second")
    axes.set_title(f"{record['family']}, {record['devices']} x {record['device']}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(settings: Settings) -> None:
    """Measures, prints, writes and draws."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    record = measure(settings)
    for steps in record["costs"]:
        rates = roofs(record, steps)
        text = ", ".join(f"{roof} {rate:.4g}" for roof, rate in rates.items())
        print(f"roofs at {steps} steps, tasks/s: {text}")
    if settings.to is not None:
        settings.to.write_text(json.dumps(record, indent=1) + "\n")
    if settings.figure is not None:
        draw(record, settings.figure)


if __name__ == "__main__":
    import sys

    from benchmarks.command import run_command

    sys.exit(run_command(main, Settings, "benchmarks.roofline", __doc__))
