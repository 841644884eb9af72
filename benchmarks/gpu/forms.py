"""The forms of a convolution and its transposes, timed at the shapes of Conv4."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import metajax as mj
from benchmarks.errors import one_line
from benchmarks.timing import timed
from benchmarks.workloads import FAMILIES, QUERIES, WAYS

Op = Literal["forward", "images' cotangent", "kernel's cotangent"]
OPS: tuple[Op, ...] = ("forward", "images' cotangent", "kernel's cotangent")
Form = Callable[[jax.Array, jax.Array], jax.Array]
TURNS, TURN = 5, 0.05  # of each form, and seconds


class Shape(NamedTuple):
    """A convolution of a meta-batch, a kernel a task, padded to the images' size."""

    tasks: int
    examples: int
    image: tuple[int, int, int]
    filters: int

    @property
    def images(self) -> tuple[int, ...]:
        """Of the images of all tasks."""
        return self.tasks, self.examples, *self.image

    @property
    def kernels(self) -> tuple[int, ...]:
        """Of the kernels of all tasks."""
        return self.tasks, 3, 3, self.image[2], self.filters

    @property
    def outputs(self) -> tuple[int, ...]:
        """Of the results of all tasks."""
        return *self.images[:-1], self.filters

    @property
    def operations(self) -> int:
        """Floating-point operations of direct products, those with padding included."""
        return 2 * int(np.prod(self.outputs)) * int(np.prod(self.kernels[1:-1]))


def layers(family: str, tasks: int, *, examples: int = WAYS * QUERIES) -> list[Shape]:
    """The four layers of a family's Conv4 on a query set."""
    image, filters = FAMILIES[family].image, FAMILIES[family].filters
    assert image is not None
    height, width, channels = image
    return [
        Shape(tasks, examples, (height >> i, width >> i, depth), filters)
        for i, depth in enumerate((channels, filters, filters, filters))
    ]


def candidates(op: Op, shape: Shape) -> dict[str, Form]:
    """The forms to choose from, each a function of all tasks' arrays.

    Args:
      op: "forward" of images and kernels; "images' cotangent" of results and kernels;
        or "kernel's cotangent" of images and results.
      shape: of the convolution.
    """
    forms = {"metajax.ops": mj.ops.conv2d, "lax, grouped": _lax}
    return {name: jax.vmap(_of_task(op, y, shape)) for name, y in forms.items()}


def _lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout, precision="highest"
    )


def _of_task(op: Op, y: Form, shape: Shape) -> Form:
    if op == "forward":
        return y
    if op == "images' cotangent":
        x = jax.ShapeDtypeStruct(shape.images[1:], jnp.float32)
        return lambda ct, k: jax.linear_transpose(lambda x: y(x, k), x)(ct)[0]
    kernel = jax.ShapeDtypeStruct(shape.kernels[1:], jnp.float32)
    return lambda x, ct: jax.linear_transpose(lambda k: y(x, k), kernel)(ct)[0]


def time_forms(shapes: Sequence[Shape]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Times the forms of each shape in turns, once all are compiled.

    Args:
      shapes: the most valuable first.

    Yields:
      A row's name, and milliseconds of each form, or why it has none, with the largest
      relative distance between the results of two.
    """
    cases: list[tuple[Shape, Op]] = [(shape, op) for shape in shapes for op in OPS]
    arguments = [_arguments(op, shape) for shape, op in cases]
    forms = [candidates(op, shape) for shape, op in cases]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            {name: pool.submit(_compiled, form, args) for name, form in each.items()}
            for each, args in zip(forms, arguments)
        ]
    for (shape, op), args, each in zip(cases, arguments, jobs):
        height, width, channels = shape.image
        name = (
            f"{shape.tasks} x {shape.examples} of {height}x{width}x{channels} to "
            f"{shape.filters}, {op}"
        )
        row = compared({form: job.result() for form, job in each.items()}, args)
        yield name, row | {"GFLOP": shape.operations / 1e9}


def _arguments(op: Op, shape: Shape) -> list[jax.Array]:
    chosen = {
        "forward": (shape.images, shape.kernels),
        "images' cotangent": (shape.outputs, shape.kernels),
        "kernel's cotangent": (shape.images, shape.outputs),
    }[op]
    # On the host, as a device would compile a program for each shape.
    generator = np.random.default_rng(0)
    return [jnp.asarray(generator.standard_normal(size, np.float32)) for size in chosen]


def compared(
    forms: Mapping[str, Any], arguments: Sequence[jax.Array]
) -> dict[str, Any]:
    """Milliseconds of each form, in turns; why not of one that is a text.

    Args:
      forms: compiled functions of the arguments, by name.
      arguments: arrays.
    """
    errors = {name: run for name, run in forms.items() if isinstance(run, str)}
    runs = {name: run for name, run in forms.items() if name not in errors}
    times: dict[str, list[float]] = {name: [] for name in runs}

    def seconds(run: Callable, count: int) -> float:
        def call() -> None:
            for _ in range(count):
                out = run(*arguments)
            out.block_until_ready()

        return timed(call) / count

    counts = {name: max(1, round(TURN / seconds(run, 3))) for name, run in runs.items()}
    for _ in range(TURNS):
        for name, run in runs.items():
            times[name].append(seconds(run, counts[name]))
    row: dict[str, Any] = {n: 1e3 * float(np.median(s)) for n, s in times.items()}
    outputs = (np.asarray(run(*arguments)).ravel() for run in runs.values())
    return row | errors | {"distance": _apart(outputs)}


def _compiled(form: Form, arguments: Sequence[jax.Array]) -> Any:
    """The compiled form, run once; or why there is none."""
    try:
        run = jax.jit(form).lower(*arguments).compile()
        jax.block_until_ready(run(*arguments))
        return run
    except Exception as error:  # a form that a compiler refuses is a result
        return one_line(error)[:80]


def _apart(outputs: Iterator[np.ndarray]) -> float:
    """The largest relative distance to the first."""
    first = next(outputs, None)
    if first is None:
        return 0.0
    size = np.linalg.norm(first)
    return max((float(np.linalg.norm(x - first) / size) for x in outputs), default=0.0)
