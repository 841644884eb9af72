"""MAML on policies by PyTorch: 2D navigation, the exact gradient, Adam outside.

A loop over tasks, whose trajectories are stepped together or, as gym's environments
are, one by one; or all tasks at once, by batched matrix products.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SCALE, REACH, NEAR, SPREAD, HALF_LOG_2_PI = 0.1, 0.1, 0.01, 1.0, math.log(math.tau) / 2
Params = list[Tensor]  # kernel, bias, kernel, bias, kernel, bias, log_std


class Work(NamedTuple):
    """The sizes and rates of a meta-step."""

    tasks: int
    trajectories: int
    horizon: int
    discount: float
    inner_rate: float
    outer_rate: float


class Played(NamedTuple):
    """Trajectories, `[..., N, T, ...]`."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor


class Point:
    """One environment, as gym has them."""

    def __init__(self, goal: np.ndarray):
        self._goal, self.done = goal, False

    def reset(self) -> np.ndarray:
        """The first observation."""
        self._at, self.done = np.zeros(2, self._goal.dtype), False
        return self._at

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """The next observation, the reward, and whether the episode ended."""
        if self.done:
            return self._at, 0.0, True
        self._at = self._at + np.clip(SCALE * action, -REACH, REACH)
        x, y = self._at - self._goal
        self.done = bool(abs(x) < NEAR and abs(y) < NEAR)
        return self._at, -math.sqrt(x * x + y * y), self.done


def network(params: Params, x: Tensor) -> Tensor:
    """The means of the actions, of one task or of all."""
    *layers, _ = params
    for i in range(0, 6, 2):
        kernel, bias = layers[i : i + 2]
        if kernel.dim() == 2:
            x = torch.addmm(bias, x, kernel)
        else:
            x = torch.baddbmm(bias.unsqueeze(1), x, kernel)
        x = x.relu() if i < 4 else x
    return x


@torch.no_grad()
def play(params: Params, goal: Tensor, noise: Tensor) -> Played:
    """Trajectories, all of them at each step; the noise is `[T, ..., N, 2]`."""
    std = params[-1].exp().unsqueeze(-2)
    x, steps = torch.zeros_like(noise[0]), []
    alive = torch.ones(x.shape[:-1], dtype=torch.bool)
    for z in noise:
        action = torch.addcmul(network(params, x), std, z)
        moved = x + (SCALE * action).clamp_(-REACH, REACH)
        away = moved - goal.unsqueeze(-2)
        reward = -torch.linalg.vector_norm(away, dim=-1) * alive
        steps.append((x, action, reward, alive))
        x = torch.where(alive.unsqueeze(-1), moved, x)
        alive = alive & ~(away.abs() < NEAR).all(-1)
    seen, actions, *rest = (list(column) for column in zip(*steps))
    return Played(*(torch.stack(y, -2) for y in (seen, actions)), *_stacked(rest))


@torch.no_grad()
def play_gym(params: Params, goal: Tensor, noise: Tensor) -> Played:
    """The same, one environment after another at each step."""
    std, points = params[-1].exp(), [Point(goal.numpy()) for _ in noise[0]]
    x, steps = torch.from_numpy(np.stack([point.reset() for point in points])), []
    for z in noise:
        action, alive = network(params, x) + std * z, [not p.done for p in points]
        moved = [point.step(a) for point, a in zip(points, action.numpy())]
        reward = torch.tensor([each[1] for each in moved], dtype=x.dtype)
        steps.append((x, action, reward, torch.tensor(alive)))
        x = torch.from_numpy(np.stack([each[0] for each in moved]))
    seen, actions, *rest = (list(column) for column in zip(*steps))
    return Played(*(torch.stack(y, -2) for y in (seen, actions)), *_stacked(rest))


def _stacked(columns: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(column, -1) for column in columns]


class Run:
    """Leaves with gradients and an Adam over them.

    Args:
      work: the work.
      params: kernel and bias of each layer, and log σ.
      form: "loop", "gym" or "batched".
    """

    def __init__(self, work: Work, params: Sequence[np.ndarray], form: str):
        self._work, self._form = work, form
        self._params = [torch.tensor(x, requires_grad=True) for x in params]
        self._optimizer = torch.optim.Adam(self._params, lr=work.outer_rate)
        times = torch.arange(work.horizon, dtype=self._params[0].dtype)
        later = (times[:, None] - times).clamp(min=0)
        self._sums = torch.tril(work.discount**later)

    def step(self, threads: int) -> None:
        """A meta-step with so many threads."""
        torch.set_num_threads(threads)
        work, dtype = self._work, self._params[0].dtype
        goals = torch.rand(work.tasks, 2, dtype=dtype) - 0.5
        shape = 2, work.horizon, work.tasks, work.trajectories, 2
        self._backward(goals, torch.randn(shape, dtype=dtype))
        self._optimizer.step()

    def gradient(self, goals: np.ndarray, noise: np.ndarray) -> list[np.ndarray]:
        """The meta-gradient.

        Args:
          goals: `float[tasks, 2]`.
          noise: of the actions, before the inner step and after,
            `float[2, horizon, tasks, trajectories, 2]`.
        """
        self._backward(torch.tensor(goals), torch.tensor(noise))
        return [x.grad.numpy() for x in self._params]

    def _backward(self, goals: Tensor, noise: Tensor) -> None:
        self._optimizer.zero_grad()
        tasks = self._work.tasks
        if self._form == "batched":
            own = [x.expand(tasks, *x.shape) for x in self._params]
            self._adapted_loss(own, goals, noise).backward()
            return
        for i in range(tasks):
            loss = self._adapted_loss(self._params, goals[i], noise[:, :, i])
            (loss / tasks).backward()

    def _adapted_loss(self, params: Params, goal: Tensor, noise: Tensor) -> Tensor:
        """The loss after the inner step; of several tasks, their mean."""
        play_ = play_gym if self._form == "gym" else play
        loss = self._losses(params, play_(params, goal, noise[0])).sum()
        gradients = torch.autograd.grad(loss, params, create_graph=True)
        rate = self._work.inner_rate
        adapted = [x - rate * g for x, g in zip(params, gradients)]
        return self._losses(adapted, play_(adapted, goal, noise[1])).mean()

    def _losses(self, params: Params, played: Played) -> Tensor:
        """Of each task: minus the mean over steps of ratio times advantage."""
        flat = played.observations.flatten(-3, -2)
        log_std = params[-1].unsqueeze(-2)
        z = (played.actions.flatten(-3, -2) - network(params, flat)) * (-log_std).exp()
        logs = -(0.5 * z**2 + log_std + HALF_LOG_2_PI).sum(-1)
        advantages = self._advantages(played).flatten(-2)
        return -((logs - logs.detach()).exp() * advantages).mean(-1)

    @torch.no_grad()
    def _advantages(self, played: Played) -> Tensor:
        """Returns to go less a linear baseline's, standardized over each task."""
        returns, alive = played.rewards @ self._sums, played.alive.to(self._sums.dtype)
        x = played.observations.clamp(-10, 10)
        time = (torch.arange(x.shape[-2], dtype=x.dtype) / 100).unsqueeze(-1)
        time = time.expand(*x.shape[:-1], 1)
        parts = x, x**2, time, time**2, time**3, torch.ones_like(time)
        features = torch.cat(parts, -1) * alive.unsqueeze(-1)
        flat = features.flatten(-3, -2)
        gram = flat.mT @ flat + 1e-5 * torch.eye(flat.shape[-1], dtype=x.dtype)
        target = flat.mT @ returns.flatten(-2).unsqueeze(-1)
        values = (flat @ torch.linalg.solve(gram, target)).view_as(returns)
        gained, count = (returns - values) * alive, alive.sum((-2, -1), keepdim=True)
        mean = gained.sum((-2, -1), keepdim=True) / count
        centred = (gained - mean) * alive
        square = (centred**2).sum((-2, -1), keepdim=True) / count
        return centred / (square.sqrt() + 1e-8)
