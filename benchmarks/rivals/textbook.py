"""MAML as a tutorial writes it in JAX: no library, `jax.grad` of an unrolled loop."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.workloads import OUTER_RATE, Arrays, Workload


def conv4(params, x):
    """Convolution, batch norm, ReLU, max pooling; four times; a linear head."""
    for i in range(4):
        x = lax.conv_general_dilated(
            x,
            params[f"conv{i}_w"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) * lax.rsqrt(variance + 1e-5)
        x = jax.nn.relu(x * params[f"conv{i}_scale"] + params[f"conv{i}_offset"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(x.shape[0], -1) @ params["head_w"] + params["head_b"]


def mlp(params, x):
    """Three layers."""
    for i in range(2):
        x = jax.nn.relu(x @ params[f"layer{i}_w"] + params[f"layer{i}_b"])
    return x @ params["layer2_w"] + params["layer2_b"]


def cross_entropy(outputs, targets):
    """The mean of minus the log-probability of the label."""
    logs = jax.nn.log_softmax(outputs)
    return -jnp.take_along_axis(logs, targets[:, None], 1).mean()


def mse(outputs, targets):
    """The mean squared error."""
    return ((outputs - targets) ** 2).mean()


class Run:
    """Every rival of JAX: weights and episodes as arrays, a jitted step."""

    def __init__(self, work: Workload, weights: Arrays, episodes: Arrays, dtype, **how):
        self._optimizer = optax.adam(OUTER_RATE)
        self._params = self._convert(
            {name: jnp.asarray(x, dtype) for name, x in weights.items()}
        )
        self._episodes = {
            name: jnp.asarray(x, None if x.dtype == np.int32 else dtype)
            for name, x in episodes.items()
        }
        self._state = self._optimizer.init(self._params)
        self._value_and_grad = self._differentiate(work, **how)

        def step(params, state, episodes):
            loss, gradient = self._value_and_grad(params, episodes)
            updates, state = self._optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, loss

        self._meta_step = step
        self._step: Any = jax.jit(step, donate_argnums=(0, 1))

    def _convert(self, params):
        return params

    def _restore(self, gradient):
        return gradient

    def _differentiate(self, work: Workload, over_tasks: str, inner: str = "unrolled"):
        net, loss = (conv4, cross_entropy) if work.kind == "conv4" else (mlp, mse)

        def objective(params, x, y):
            return loss(net(params, x), y)

        def descend(params, episode):
            gradient = jax.grad(objective)(
                params, episode["support_x"], episode["support_y"]
            )
            return jax.tree.map(
                lambda p, g: p - work.family.inner_rate * g, params, gradient
            )

        def task_loss(params, episode):
            if inner == "scan":
                params, _ = lax.scan(
                    lambda p, _: (descend(p, episode), None), params, length=work.steps
                )
            else:
                for _ in range(work.steps):
                    params = descend(params, episode)
            return objective(params, episode["query_x"], episode["query_y"])

        def mapped(params, episodes):
            gradients = lax.map(
                lambda e: jax.value_and_grad(task_loss)(params, e), episodes
            )
            return jax.tree.map(lambda x: x.mean(0), gradients)

        def vmapped(params, episodes):
            losses = jax.vmap(task_loss, (None, 0))(params, episodes)
            return losses.mean()

        return {"map": mapped, "vmap": jax.value_and_grad(vmapped)}[over_tasks]

    def compile(self, *more) -> float:
        """Compiles the step; seconds."""
        began = time.perf_counter()
        lowered = self._step.lower(self._params, self._state, self._episodes, *more)
        self._step = lowered.compile()
        return time.perf_counter() - began

    def steps(self, n: int) -> None:
        """Meta-steps, each its own dispatch, as a tutorial's loop has them."""
        for _ in range(n):
            self._params, self._state, loss = self._step(
                self._params, self._state, self._episodes
            )
            loss.block_until_ready()

    def gradient(self) -> Arrays:
        """The meta-gradient."""
        _, gradient = jax.jit(self._value_and_grad)(self._params, self._episodes)
        return {k: np.asarray(x) for k, x in self._restore(gradient).items()}

    def device(self) -> str:
        """Its name."""
        return jax.devices()[0].device_kind

    def memory(self) -> dict[str, int | None]:
        """The device's peak, and what the step allocates beside its arguments."""
        stats = jax.local_devices()[0].memory_stats() or {}
        return {
            "peak": stats.get("peak_bytes_in_use"),
            "temporary": self._step.memory_analysis().temp_size_in_bytes,
        }
