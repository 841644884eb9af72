"""Every form of each operation, timed at the shapes of Conv4."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import metajax as mj
from benchmarks.errors import one_line
from benchmarks.timing import timed
from benchmarks.workloads import FAMILIES, QUERIES, WAYS
from metajax.ops import tuning

Form = Callable[..., jax.Array]
TURNS, TURN = 5, 0.02  # of each form, and seconds


class Shape(NamedTuple):
    """A layer of a meta-batch: a convolution, a kernel a task, padded to its images."""

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
    def pooled(self) -> tuple[int, ...]:
        """Of the results, pooled."""
        tasks, examples, height, width, filters = self.outputs
        return tasks, examples, height // 2, width // 2, filters

    @property
    def features(self) -> int:
        """Of an image's results, pooled."""
        return int(np.prod(self.pooled[2:]))

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


Shapes = tuple[tuple[int, ...], tuple[int, ...]] | tuple[tuple[int, ...]]


class Op(NamedTuple):
    """An operation at the shapes of a layer.

    Attributes:
      run: `run(layer) -> function` of a task's arrays.
      arguments: `arguments(layer)`, the shapes of all tasks' arrays.
      operations: `operations(layer)`, of floating point; 0 where memory decides.
      lax: `run` for XLA's own convolution, if it is one.
    """

    run: Callable[[Shape], Form]
    arguments: Callable[[Shape], Shapes]
    operations: Callable[[Shape], int] = lambda layer: 0
    lax: Callable[[Shape], Form] | None = None


def candidates(op: Op, shape: Shape) -> dict[str, Form]:
    """The forms to choose from, each a function of all tasks' arrays.

    Args:
      op: of `OPS` or `HEAD`.
      shape: of the layer.

    Returns:
      What `metajax.ops` takes by its table, XLA's own convolution if it is one, and
      every other form in `metajax.ops.forms.FORMS` that can be taken.
    """
    ours = jax.vmap(op.run(shape))
    like = [jax.ShapeDtypeStruct(x, jnp.float32) for x in op.arguments(shape)]
    # The last is the operation itself; pooling's derivatives begin with pooling.
    *_, trials = tuning.trials_of(ours, *like).values()
    forms: dict[str, Form] = {"metajax.ops": ours}
    if op.lax is not None:
        forms["lax, grouped"] = jax.vmap(op.lax(shape))
    return forms | {each.form: each.run for each in trials[1:]}


def _lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout, precision="highest"
    )


def _of_images(y: Form, shape: Shape) -> Form:
    x = jax.ShapeDtypeStruct(shape.images[1:], jnp.float32)
    return lambda ct, k: jax.linear_transpose(lambda x: y(x, k), x)(ct)[0]


def _of_kernel(y: Form, shape: Shape) -> Form:
    kernel = jax.ShapeDtypeStruct(shape.kernels[1:], jnp.float32)
    return lambda x, ct: jax.linear_transpose(lambda k: y(x, k), kernel)(ct)[0]


def _pool_tangent(x: jax.Array, tangent: jax.Array) -> jax.Array:
    return jax.jvp(mj.ops.max_pool, (x,), (tangent,))[1]


def _pool_cotangent(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    return jax.vjp(mj.ops.max_pool, x)[1](cotangent)[0]


def _of_dense_kernel(shape: Shape) -> Form:
    kernel = jax.ShapeDtypeStruct((shape.features, WAYS), jnp.float32)
    ours = mj.ops.linear
    return lambda x, ct: jax.linear_transpose(lambda k: ours(x, k), kernel)(ct)[0]


def _convolution(
    transposed: Callable[[Form, Shape], Form], arguments: Callable[[Shape], Shapes]
) -> Op:
    return Op(
        partial(transposed, mj.ops.conv2d),
        arguments,
        lambda layer: layer.operations,
        partial(transposed, _lax),
    )


OPS = {
    "forward": _convolution(lambda y, _: y, lambda s: (s.images, s.kernels)),
    "images' cotangent": _convolution(_of_images, lambda s: (s.outputs, s.kernels)),
    "kernel's cotangent": _convolution(_of_kernel, lambda s: (s.images, s.outputs)),
    "pooling": Op(lambda _: mj.ops.max_pool, lambda s: (s.outputs,)),
    "pooling's tangent": Op(lambda _: _pool_tangent, lambda s: (s.outputs, s.outputs)),
    "pooling's cotangent": Op(
        lambda _: _pool_cotangent, lambda s: (s.outputs, s.pooled)
    ),
}
# Of the dense layer after the last one.
HEAD = {
    "dense kernel's cotangent": Op(
        _of_dense_kernel,
        lambda s: ((*s.images[:2], s.features), (*s.images[:2], WAYS)),
        lambda s: 2 * s.tasks * s.examples * s.features * WAYS,
    )
}


def time_forms(shapes: Sequence[Shape]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Times the forms of each shape in turns, once all are compiled.

    Args:
      shapes: the most valuable first.

    Yields:
      A row's name, and milliseconds of each form, or why it has none, with the largest
      relative distance between the results of two.
    """
    cases = [(shape, *named) for shape in shapes for named in OPS.items()]
    cases += [(shapes[-1], *named) for named in HEAD.items()]
    arguments = [_arguments(op, shape) for shape, _, op in cases]
    forms = [candidates(op, shape) for shape, _, op in cases]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            {name: pool.submit(_compiled, form, args) for name, form in each.items()}
            for each, args in zip(forms, arguments)
        ]
    for (shape, name, op), args, each in zip(cases, arguments, jobs):
        height, width, channels = shape.image
        row = compared({form: job.result() for form, job in each.items()}, args)
        yield (
            f"{shape.tasks} x {shape.examples} of {height}x{width}x{channels} to "
            f"{shape.filters}, {name}",
            row | {"GFLOP": op.operations(shape) / 1e9},
        )


def _arguments(op: Op, shape: Shape) -> list[jax.Array]:
    # On the host, as a device would compile a program for each shape; a few numbers
    # again and again, as many take seconds.
    generator = np.random.default_rng(0)
    return [
        jnp.asarray(np.resize(generator.standard_normal(2**16, np.float32), size))
        for size in op.arguments(shape)
    ]


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
