"""MAML by `higher`, as its example has it: a functional copy of the module a task."""

import higher
import torch

from benchmarks.rivals import torch_modules


class Run(torch_modules.Run):
    """Innerloop contexts over tasks."""

    def _prepare(self) -> None:
        super()._prepare()
        self._inner = torch.optim.SGD(
            self._module.parameters(), lr=self._work.family.inner_rate
        )

    def _backward(self) -> None:
        for i in range(self._work.tasks):
            episode = self._task(i)
            with higher.innerloop_ctx(
                self._module, self._inner, copy_initial_weights=False
            ) as (net, inner):
                for _ in range(self._work.steps):
                    inner.step(
                        self._loss(net(episode["support_x"]), episode["support_y"])
                    )
                loss = self._loss(net(episode["query_x"]), episode["query_y"])
                (loss / self._work.tasks).backward()
