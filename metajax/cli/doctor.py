"""`metajax doctor`: what is installed and there, and whether gradients are right."""

import platform
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metajax
from metajax.errors import InputError
from metajax.experiments.families import PREPARED
from metajax.gradients import exact, reverse
from metajax.learners import maml
from metajax.losses import cross_entropy, mse
from metajax.models import conv4, mlp
from metajax.study.cost import available_bytes
from metajax.types import (
    Array,
    Batch,
    Episode,
    GradTransform,
    Learner,
    Loss,
    Model,
    Params,
)

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
NEEDED = {
    "tensorflow-datasets": "Omniglot and CIFAR need it",
    "array_record": "Omniglot and CIFAR need it",
    "flatbuffers": "metajax label --export needs it",
}
# Of float64: two ways to the same gradient, and the gradient's own difference quotient.
SAME, NEAR = 1e-10, 1e-6
STEP = 1e-5  # of the difference quotient
RATE, STEPS = 0.1, 2


def doctor(data_dir: Path | None = None) -> bool:
    """Prints what it finds; whether all is well.

    Args:
      data_dir: the folder of prepared data; TFDS's own by default.

    Returns:
      Whether the gradients are right.
    """
    print(f"metajax {metajax.__version__}, Python {platform.python_version()}")
    print(f"{platform.system()} {platform.release()}, {platform.machine()}")
    for name in (*PACKAGES, *NEEDED):
        print(f"  {name:<22}{_version(name)}")
    print(f"devices ({jax.default_backend()})")
    for device in jax.local_devices():
        print(f"  {device}: {device.device_kind}")
    print(f"  {available_bytes() / 2**30:.1f} GiB of memory free")
    print("data")
    for name in PREPARED:
        print(f"  {name}: {_where(name, data_dir)}")
    print("the exact meta-gradient, in float64")
    began = time.perf_counter()
    well = all([_check(*case) for case in _cases()])
    print(f"{'well' if well else 'NOT well'}, in {time.perf_counter() - began:.0f} s")
    return well


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        needed = NEEDED.get(name)
        return f"not installed{f' ({needed})' if needed else ''}"


def _where(name: str, data_dir: Path | None) -> str:
    try:
        return f"prepared in {PREPARED[name].find(data_dir)}"
    except InputError as error:
        return str(error)


def _cases() -> list[tuple[str, Model, Loss, Episode]]:
    x = np.random.default_rng(0)
    images = [Batch(x.normal(size=(n, 16, 16, 1)), np.arange(n) % 3) for n in (3, 6)]
    waves = [Batch(x.normal(size=(n, 1)), x.normal(size=(n, 1))) for n in (5, 10)]
    return [
        ("mlp", mlp(1, (20, 20), 1, activation=jnp.tanh), mse, Episode(*waves)),
        (
            "conv4",
            conv4(3, 4, "stride", image_shape=(16, 16, 1)),
            cross_entropy,
            Episode(*images),
        ),
    ]


def _check(name: str, model: Model, loss: Loss, numbers: Episode) -> bool:
    """Whether the exact gradient is that of reverse over reverse, and of the loss."""
    with jax.enable_x64(True):
        wide = lambda x: jnp.asarray(x, float if x.dtype.kind == "f" else jnp.int32)  # noqa: E731
        episode = jax.tree.map(wide, numbers)
        theta = jax.tree.map(wide, model.init(jax.random.key(0)))

        def learner(grad: GradTransform) -> Learner:
            return maml(model, loss, optax.sgd(RATE), STEPS, grad=grad)

        def value(params: Params) -> Array:
            return learner(exact).loss(params, episode)[0]

        ours, truth = (
            jax.jit(jax.grad(lambda p, g=g: learner(g).loss(p, episode)[0]))(theta)
            for g in (exact, reverse)
        )
        way = optax.tree.scale(1 / optax.tree.norm(truth), truth)
        ends = [
            jax.jit(value)(optax.tree.add_scale(theta, h, way)) for h in (STEP, -STEP)
        ]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        size = optax.tree.norm(truth)
        off = float(optax.tree.norm(optax.tree.sub(ours, truth)) / size)
        away = float(jnp.abs(optax.tree.vdot(ours, way) - slope) / size)
    well = off < SAME and away < NEAR
    print(
        f"  {name:<6} to reverse over reverse {off:.0e}, to a difference quotient "
        f"{away:.0e}{'' if well else ': WRONG'}"
    )
    return well
