"""MAML by torchopt, as its few-shot example has it: `MetaSGD` and restored states."""

import torchopt

from benchmarks.rivals import torch_modules


class Run(torch_modules.Run):
    """A differentiable SGD over the module."""

    def _prepare(self) -> None:
        super()._prepare()
        self._inner = torchopt.MetaSGD(self._module, lr=self._work.family.inner_rate)

    def _backward(self) -> None:
        net = torchopt.extract_state_dict(self._module, by="reference")
        inner = torchopt.extract_state_dict(self._inner, by="reference")
        for i in range(self._work.tasks):
            episode = self._task(i)
            for _ in range(self._work.steps):
                loss = self._loss(
                    self._module(episode["support_x"]), episode["support_y"]
                )
                self._inner.step(loss)
            loss = self._loss(self._module(episode["query_x"]), episode["query_y"])
            torchopt.recover_state_dict(self._module, net)
            torchopt.recover_state_dict(self._inner, inner)
            (loss / self._work.tasks).backward()
