"""Our exact meta-gradient against peers' float64 gradients on the same fixed work.

    python -m benchmarks.peer_gradients INPUTS GRADS WORKLOAD ...

INPUTS holds `weights_*.npz` and `episodes_*.npz`, GRADS the peers' gradients, called
`WORKLOAD__PEER.npz`. A workload `w1_s1_k5_b4` is family w1, 1 shot, 5 inner steps, 4
tasks; w1 is Conv4-64 with max pooling on 28x28x1 at inner rate 0.4, w2 Conv4-32 on
84x84x3 at 0.01, w3 the sinusoid MLP at 0.01. Prints the relative L2 distance of our
whole gradient to each peer's.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Folder, each
from metajax.errors import InputError
from metajax.types import Batch, Episode, Params

FAMILIES = {"w1": ("omniglot", 0.4), "w2": ("mini", 0.01), "w3": ("sine", 0.01)}
EPISODES = {"w1": "omniglot_5w{}s", "w2": "mini_5w{}s", "w3": "sine_{}s"}


def _match(workload: str) -> re.Match[str]:
    match = re.fullmatch(r"(w[123])_s(\d+)_k(\d+)_b(\d+)", workload)
    if match is None:
        raise InputError(f"no workload {workload!r}; expected one like w1_s1_k5_b4")
    return match


@dataclass(frozen=True)
class Settings:
    """Which gradients are compared, and on what."""

    inputs: tyro.conf.Positional[Folder]
    """Folder of weights_*.npz and episodes_*.npz."""
    grads: tyro.conf.Positional[Folder]
    """Folder of the peers' gradients, WORKLOAD__PEER.npz."""
    workloads: tyro.conf.Positional[
        Annotated[tuple[str, ...], each("workload", lambda flag, name: _match(name))]
    ]
    """Workloads, such as w1_s1_k5_b4."""


def main(settings: Settings) -> None:
    """Prints our distance to every peer's gradient of each workload."""
    jax.config.update("jax_enable_x64", True)
    for workload in settings.workloads:
        _compare(settings.inputs, settings.grads, workload)


def _compare(inputs: Path, grads: Path, workload: str) -> None:
    ours = _gradient(inputs, workload)
    for path in sorted(grads.glob(f"{workload}__*.npz")):
        theirs = dict(np.load(path))
        a, b = (
            np.concatenate([g[k].ravel() for k in sorted(theirs)])
            for g in (ours, theirs)
        )
        distance = np.linalg.norm(a - b) / np.linalg.norm(b)
        print(f"{workload} {path.stem.split('__')[1]:32} {distance:.2e}")


def _gradient(inputs: Path, workload: str) -> dict[str, np.ndarray]:
    match = _match(workload)
    family, (shots, steps, tasks) = match[1], map(int, match.groups()[1:])
    name, rate = FAMILIES[family]
    weights = dict(np.load(inputs / f"weights_{name}.npz"))
    stored = np.load(inputs / f"episodes_{EPISODES[family].format(shots)}.npz")
    cut = {
        key: jnp.asarray(
            stored[key][:tasks], np.int32 if _labels(stored[key]) else float
        )
        for key in ("x_spt", "y_spt", "x_qry", "y_qry")
    }
    episodes = Episode(
        Batch(cut["x_spt"], cut["y_spt"]), Batch(cut["x_qry"], cut["y_qry"])
    )
    model, loss = mj.mlp(dtype=jnp.float64), mj.mse
    if family != "w3":
        filters, shape = weights["conv0_w"].shape[-1], stored["x_spt"].shape[2:]
        model = mj.conv4(5, filters, image_shape=shape, dtype=jnp.float64)
        loss = mj.cross_entropy
    learner = mj.maml(model, loss, optax.sgd(rate), steps)

    def batch_loss(meta: Params) -> jax.Array:
        # One task at a time: 32 float64 tasks would not fit a laptop.
        return jnp.mean(jax.lax.map(lambda e: learner.loss(meta, e)[0], episodes))

    gradient = jax.jit(jax.grad(batch_loss))(_params(weights, family))
    return _canonical(gradient, weights, family)


def _labels(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.integer)


def _params(weights: dict[str, np.ndarray], family: str) -> Params:
    arrays = {key: jnp.asarray(value, float) for key, value in weights.items()}
    if family == "w3":
        *body, head = (
            dict(kernel=arrays[f"fc{i}_w"], bias=arrays[f"fc{i}_b"]) for i in range(3)
        )
        return dict(body=body, head=head)
    blocks = [
        dict(
            kernel=arrays[f"conv{i}_w"],
            scale=arrays[f"bn{i}_g"],
            offset=arrays[f"bn{i}_b"],
        )
        for i in range(4)
    ]
    return dict(body=blocks, head=dict(kernel=arrays["fc_w"], bias=arrays["fc_b"]))


def _canonical(
    gradient: Params, weights: dict[str, np.ndarray], family: str
) -> dict[str, np.ndarray]:
    """The peers' names. They have a bias before batch norm; its gradient is zero."""
    body, head = gradient["body"], gradient["head"]
    if family == "w3":
        layers = [*body, head]
        named = {f"fc{i}_w": layer["kernel"] for i, layer in enumerate(layers)}
        named |= {f"fc{i}_b": layer["bias"] for i, layer in enumerate(layers)}
    else:
        named = {"fc_w": head["kernel"], "fc_b": head["bias"]}
        for i, block in enumerate(body):
            named[f"conv{i}_w"] = block["kernel"]
            named[f"conv{i}_b"] = np.zeros_like(weights[f"conv{i}_b"])
            named[f"bn{i}_g"], named[f"bn{i}_b"] = block["scale"], block["offset"]
    return {key: np.asarray(value, float) for key, value in named.items()}


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.peer_gradients", __doc__))
