"""MAML by PyTorch's autograd: a Python loop over tasks, or vmap of the whole gradient.

`grad` outside `vmap` is not here: through batch norm its second-order gradient is
wrong.
"""

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.workloads import OUTER_RATE, Arrays, Workload


def conv4(params, x):
    """The net as functions of a dictionary of tensors; images are channels first."""
    for i in range(4):
        x = F.conv2d(x, params[f"conv{i}_w"], padding=1)
        x = F.batch_norm(
            x, None, None, params[f"conv{i}_scale"], params[f"conv{i}_offset"], True
        )
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(x.flatten(1), params["head_w"], params["head_b"])


def mlp(params, x):
    """Three layers."""
    for i in range(2):
        x = F.relu(F.linear(x, params[f"layer{i}_w"], params[f"layer{i}_b"]))
    return F.linear(x, params["layer2_w"], params["layer2_b"])


def to_torch(name: str, array: np.ndarray, side: int) -> np.ndarray:
    """A weight of the workload in PyTorch's layout."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if name == "head_w":
        rows, ways = array.shape
        array = array.reshape(side, side, -1, ways).transpose(2, 0, 1, 3)
        return array.reshape(rows, ways).T
    return array.T if array.ndim == 2 else array


def from_torch(name: str, array: np.ndarray, side: int) -> np.ndarray:
    """The inverse of `to_torch`."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if name == "head_w":
        ways, rows = array.shape
        array = array.T.reshape(-1, side, side, ways).transpose(1, 2, 0, 3)
        return array.reshape(rows, ways)
    return array.T if array.ndim == 2 else array


class Run:
    """Every rival of PyTorch: leaves with gradients and an Adam over them."""

    def __init__(self, work: Workload, weights: Arrays, episodes: Arrays, dtype, **how):
        self._work, image = work, work.family.image
        self._side = 0 if image is None else image[0] // 16
        self._net, self._loss = (
            (conv4, F.cross_entropy) if image is not None else (mlp, F.mse_loss)
        )
        # Float32 as it is, like every rival: a GPU would round the factors.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._on_gpu = torch.cuda.is_available()
        torch.set_default_device("cuda" if self._on_gpu else "cpu")
        self._params = {
            name: torch.tensor(
                np.ascontiguousarray(to_torch(name, x, self._side), dtype),
                requires_grad=True,
            )
            for name, x in weights.items()
        }
        self._episodes = {}
        for name, x in episodes.items():
            if x.dtype == np.int32:
                self._episodes[name] = torch.tensor(x.astype(np.int64))
                continue
            x = np.moveaxis(x, -1, 2) if x.ndim == 5 else x
            self._episodes[name] = torch.tensor(np.ascontiguousarray(x, dtype))
        self._optimizer = torch.optim.Adam(self._params.values(), lr=OUTER_RATE)
        self._prepare(**how)

    def _prepare(self, over_tasks: str) -> None:
        self._backward = {"loop": self._loop, "vmap": self._vmap}[over_tasks]

    def compile(self) -> float:
        """Nothing to compile."""
        return 0.0

    def steps(self, n: int) -> None:
        """Meta-steps."""
        for _ in range(n):
            self._optimizer.zero_grad()
            self._backward()
            self._optimizer.step()
        if self._on_gpu:
            torch.cuda.synchronize()

    def gradient(self) -> Arrays:
        """The meta-gradient."""
        self._optimizer.zero_grad()
        self._backward()
        return {
            name: from_torch(name, x.grad.numpy(force=True), self._side)
            for name, x in self._params.items()
        }

    def device(self) -> str:
        """Its name."""
        return torch.cuda.get_device_name() if self._on_gpu else "cpu"

    def memory(self) -> dict[str, int | None]:
        """The device's peak; PyTorch counts none on a CPU."""
        peak = torch.cuda.max_memory_allocated() if self._on_gpu else None
        return {"peak": peak, "temporary": None}

    def _support_loss(self, params, x, y):
        return self._loss(self._net(params, x), y)

    def _task(self, i: int) -> dict[str, torch.Tensor]:
        return {name: x[i] for name, x in self._episodes.items()}

    def _loop(self) -> None:
        for i in range(self._work.tasks):
            episode, params = self._task(i), self._params
            for _ in range(self._work.steps):
                loss = self._support_loss(
                    params, episode["support_x"], episode["support_y"]
                )
                gradients = torch.autograd.grad(
                    loss, list(params.values()), create_graph=True
                )
                params = {
                    name: p - self._work.family.inner_rate * g
                    for (name, p), g in zip(params.items(), gradients)
                }
            loss = self._support_loss(params, episode["query_x"], episode["query_y"])
            (loss / self._work.tasks).backward()

    def _vmap(self) -> None:
        from torch.func import grad, vmap

        def task_loss(params, episode):
            for _ in range(self._work.steps):
                gradients = grad(self._support_loss)(
                    params, episode["support_x"], episode["support_y"]
                )
                params = {
                    name: p - self._work.family.inner_rate * gradients[name]
                    for name, p in params.items()
                }
            return self._support_loss(params, episode["query_x"], episode["query_y"])

        detached = {name: x.detach() for name, x in self._params.items()}
        gradients = vmap(grad(task_loss), (None, 0))(detached, self._episodes)
        for name, x in self._params.items():
            x.grad = gradients[name].mean(0)
