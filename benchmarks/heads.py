"""Closed-form heads: our small systems and our SVM against libraries', on one work.

    python -m benchmarks.heads [--tasks 8] [--rounds 9]

The gradient of a scalar of the head with respect to the support set's features, of all
tasks under vmap: ridge regression by elimination and by LAPACK, and the multi-class SVM
by our interior point and by qpax's (`pip install qpax`; left out if it is not there).
Errors are distances from LAPACK's gradient in float64, or the SVM's at a barrier of
1e-10.
"""

import importlib.util
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import run_command
from benchmarks.settings import Count
from benchmarks.timing import timed
from metajax.learners import svm
from metajax.learners.ridge import ridge
from metajax.learners.svm import crammer_singer
from metajax.ops.precision import product
from metajax.types import Array

Head = Callable[[Array, Array], Array]
Sizes = tuple[int, int, int]  # ways, shots, tasks
FEATURES, STRENGTH, PENALTY = 64, 1.0, 0.1


@dataclass(frozen=True)
class Settings:
    """How much is timed, and how often."""

    tasks: Count = 8
    """Tasks under vmap."""
    rounds: Count = 9
    """Timed turns of each head; the table has the median."""


def by_elimination(x: Array, y: Array) -> Array:
    """Ridge regression as `metajax.r2d2` has it."""
    return ridge(x, y, jnp.asarray(STRENGTH, x.dtype))


def by_lapack(x: Array, y: Array) -> Array:
    """The same by Cholesky's decomposition of a library."""
    gram = product(x, x.T) + STRENGTH * jnp.eye(len(x), dtype=x.dtype)
    return product(x.T, jax.scipy.linalg.solve(gram, y, assume_a="pos"))


def by_interior_point(x: Array, y: Array) -> Array:
    """The SVM's weights as `metajax.meta_opt_net` has them."""
    gram = product(x, x.T) + jnp.eye(len(x), dtype=x.dtype)
    return product(x.T, crammer_singer(gram, y, PENALTY))


def by_qpax(x: Array, y: Array) -> Array:
    """The same by a solver of quadratic programs, in its n times ways unknowns."""
    import qpax  # pyright: ignore

    (n, ways), kind = y.shape, x.dtype
    gram = product(x, x.T) + jnp.eye(n, dtype=kind)
    duals = qpax.solve_qp_primal(
        jnp.kron(gram, jnp.eye(ways, dtype=kind)),
        -y.ravel(),
        jnp.kron(jnp.eye(n, dtype=kind), jnp.ones((1, ways), kind)),
        jnp.zeros(n, kind),
        jnp.eye(n * ways, dtype=kind),
        (PENALTY * y).ravel(),
    )
    return product(x.T, duals.reshape(n, ways))


HEADS: dict[str, dict[str, Head]] = {
    "ridge": {"ours": by_elimination, "LAPACK": by_lapack},
    "SVM": {"ours": by_interior_point, "qpax": by_qpax},
}
EXACT = {"ridge": by_lapack, "SVM": by_interior_point}  # the SVM's at a lower barrier


def gradient(head: Head) -> Callable[[Array, Array], Array]:
    """Of the squares of all tasks' weights, with respect to their features."""

    def value(x: Array, y: Array) -> Array:
        return jnp.sum(jax.vmap(head)(x, y) ** 2)

    return jax.jit(jax.grad(value))


def work(ways: int, shots: int, tasks: int, dtype: type) -> tuple[Array, Array]:
    """Features about the size of a batch-normed body's, and labels."""
    n = ways * shots
    x = jax.random.normal(jax.random.key(0), (tasks, n, FEATURES)) / 4
    y = jnp.broadcast_to(jnp.eye(ways)[jnp.arange(n) % ways], (tasks, n, ways))
    return x.astype(dtype), y.astype(dtype)


def errors(
    heads: Mapping[str, Head], exact: Head, sizes: Sizes
) -> dict[str, tuple[float, ...]]:
    """The relative distances of gradients from the exact one, in 64 and in 32 bits."""
    with jax.enable_x64(True):
        x, y = work(*sizes, np.float64)
        with (
            mock.patch.object(svm, "BARRIER", 1e-10),
            mock.patch.object(svm, "STEPS", 60),
        ):
            right = gradient(exact)(x, y)
        jax.clear_caches()

        def distance(head: Head, dtype: type) -> float:
            ours = gradient(head)(x.astype(dtype), y.astype(dtype)).astype(np.float64)
            return float(jnp.linalg.norm(ours - right) / jnp.linalg.norm(right))

        kinds = np.float64, np.float32
        return {n: tuple(distance(h, kind) for kind in kinds) for n, h in heads.items()}


def times(heads: Mapping[str, Head], rounds: int, sizes: Sizes) -> dict[str, float]:
    """Median milliseconds a gradient in float32, in turn."""
    x, y = work(*sizes, np.float32)

    def waiting(head: Head) -> Callable[[], Array]:
        run = gradient(head)
        return lambda: jax.block_until_ready(run(x, y))

    run = {name: waiting(head) for name, head in heads.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in heads}
    for turn in range(rounds + 1):
        for name in heads:
            taken = timed(run[name])
            if turn:  # the first one compiles
                milliseconds[name].append(1e3 * taken)
    return {name: statistics.median(each) for name, each in milliseconds.items()}


def main(settings: Settings) -> None:
    """Prints the table."""
    print("| head, ways x shots | by | ms a gradient | error, float64 | float32 |")
    print("|---|---|---|---|---|")
    for kind, heads in HEADS.items():
        there = dict(heads)
        if not importlib.util.find_spec("qpax"):
            there.pop("qpax", None)
        for ways, shots in ((5, 1), (5, 5), (20, 5)):
            sizes = ways, shots, settings.tasks
            off = errors(there, EXACT[kind], sizes)
            for name, ms in times(there, settings.rounds, sizes).items():
                double, single = (f"{error:.1e}" for error in off[name])
                row = f"{kind}, {ways} x {shots} | {name} | {ms:.2f}"
                print(f"| {row} | {double} | {single} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.heads", __doc__))
