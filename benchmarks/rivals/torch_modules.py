"""The net as a `torch.nn.Module`, for the libraries that want one."""

from collections.abc import Mapping

import torch
from torch import nn

from benchmarks.rivals import torch_autograd
from benchmarks.workloads import OUTER_RATE


class Net(nn.Module):
    """The functional net over registered parameters."""

    def __init__(self, net, params: Mapping[str, torch.Tensor]):
        super().__init__()
        self._net = net
        for name, tensor in params.items():
            self.register_parameter(name, nn.Parameter(tensor.detach().clone()))

    def forward(self, x):
        """The outputs."""
        return self._net(dict(self.named_parameters(recurse=False)), x)


class Run(torch_autograd.Run):
    """A rival over a module; `_backward` is the library's own."""

    def _prepare(self) -> None:
        self._module = Net(self._net, self._params)
        self._params: dict = dict(self._module.named_parameters())
        self._optimizer = torch.optim.Adam(self._params.values(), lr=OUTER_RATE)
