"""How far the meta-gradient of fewer bits is from the float64 one.

    python -m benchmarks.precision [--seeds 20] [--steps 5]

Conv4-16 on 28x28 images, 5-way 1-shot, 5 queries a class, inner SGD at 0.1; once smooth
(softplus, average pooling) and once with ReLU and max pooling, whose kinks rounding
flips. Ours in each precision and the textbook's in float32, relative to the textbook's
in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import metajax as mj
from benchmarks.settings import Count
from benchmarks.workloads import WAYS
from metajax.types import Batch, Episode

FILTERS, RATE, SHOTS, QUERIES = 16, 0.1, 1, 5


@dataclass(frozen=True)
class Settings:
    """How many trials, and of how many inner steps."""

    seeds: Count = 20
    """Trials, each of weights and episodes of its own."""
    steps: Count = 5
    """Inner steps."""


def textbook(params: Any, x: jax.Array, *, smooth: bool) -> jax.Array:
    """The net of `lax` alone."""
    for block in params["blocks"]:
        x = lax.conv_general_dilated(
            x,
            block["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        x = mj.ops.batch_norm(x, block["scale"], block["offset"])
        if smooth:
            x = average_pool(jax.nn.softplus(x))
        else:
            window = (1, 2, 2, 1)
            x = lax.reduce_window(
                jax.nn.relu(x), -jnp.inf, lax.max, window, window, "VALID"
            )
    x = x.reshape(x.shape[0], -1)
    return jnp.matmul(x, params["head"], precision="highest")


def ours(params: Any, x: jax.Array, *, smooth: bool) -> jax.Array:
    """The net of `metajax.ops`."""
    for block in params["blocks"]:
        x = mj.ops.conv2d(x, block["kernel"])
        x = mj.ops.batch_norm(x, block["scale"], block["offset"])
        if smooth:
            x = average_pool(jax.nn.softplus(x))
        else:
            x = jax.nn.relu(mj.ops.max_pool(x))
    return mj.ops.linear(x.reshape(x.shape[0], -1), params["head"])


def average_pool(x: jax.Array) -> jax.Array:
    """Of 2x2 windows."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def init(generator: np.random.Generator) -> Any:
    """Glorot's uniform weights."""

    def glorot(*shape: int) -> np.ndarray:
        fans = np.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return generator.uniform(-1.0, 1.0, shape) * np.sqrt(6.0 / fans)

    blocks = [
        {
            "kernel": glorot(3, 3, channels, FILTERS),
            "scale": np.ones(FILTERS),
            "offset": np.zeros(FILTERS),
        }
        for channels in (1, FILTERS, FILTERS, FILTERS)
    ]
    return {"blocks": blocks, "head": glorot(FILTERS, WAYS)}


def episode(generator: np.random.Generator) -> Episode:
    """A prototype a class, and noise."""
    prototypes = generator.uniform(size=(WAYS, 1, 28, 28, 1))

    def batch(count: int) -> Batch:
        noise = generator.normal(0.0, 0.3, (WAYS, count, 28, 28, 1))
        labels = np.repeat(np.arange(WAYS, dtype=np.int32), count)
        return Batch((prototypes + noise).reshape(-1, 28, 28, 1), labels)

    return Episode(batch(SHOTS), batch(QUERIES))


def gradient(model: mj.Model, steps: int) -> Callable[[Any, Episode], Any]:
    """Of the meta-loss of `metajax.maml`."""
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(RATE), steps)
    return jax.jit(jax.grad(lambda meta, e: learner.loss(meta, e)[0]))


def oracle(apply: Callable, steps: int) -> Callable[[Any, Episode], Any]:
    """The textbook's: a Python loop of `jax.grad`."""

    def loss(params: Any, batch: Batch) -> jax.Array:
        return mj.cross_entropy(apply(params, batch.inputs), batch.targets)

    def outer(params: Any, e: Episode) -> jax.Array:
        for _ in range(steps):
            gradient = jax.grad(loss)(params, e.support)
            params = jax.tree.map(lambda p, g: p - RATE * g, params, gradient)
        return loss(params, e.query)

    return jax.jit(jax.grad(outer))


def flat(tree: Any) -> np.ndarray:
    """As one vector of float64."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in leaves])


def main(settings: Settings) -> None:
    """Prints the median and the largest distance over the seeds."""
    print(f"on {jax.devices()[0].device_kind}, {settings.seeds} seeds")
    print("| net | form | median | largest |\n|---|---|---|---|")
    for kind, smooth in (("smooth", True), ("ReLU, max pooling", False)):
        net = partial(ours, smooth=smooth)
        model = mj.Model(lambda key: None, net)
        forms = {
            f"metajax, {precision}": gradient(
                mj.in_precision(model, precision), settings.steps
            )
            for precision in ("float32", "tensorfloat32", "bfloat16")
        }
        truth = oracle(partial(textbook, smooth=smooth), settings.steps)
        forms["textbook, float32"] = truth
        distances = {form: [] for form in forms}
        for seed in range(settings.seeds):
            generator = np.random.default_rng(seed)
            arrays = init(generator), episode(generator)
            with jax.enable_x64(True):
                right = flat(truth(*jax.tree.map(jnp.asarray, arrays)))
            single = jax.tree.map(
                lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, arrays
            )
            for form, function in forms.items():
                error = flat(function(*single)) - right
                size = np.linalg.norm(error) / np.linalg.norm(right)
                distances[form].append(size)
        for form, values in distances.items():
            middle, most = np.median(values), np.max(values)
            print(f"| {kind} | {form} | {middle:.1e} | {most:.1e} |", flush=True)


if __name__ == "__main__":
    import sys

    from benchmarks.command import run_command

    sys.exit(run_command(main, Settings, "benchmarks.precision", __doc__))
