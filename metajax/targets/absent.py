"""Devices that are not here, for which their compiler is: nothing runs on them."""

import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies

from metajax.checks import check_known
from metajax.errors import InputError
from metajax.targets.chips import CHIPS, Chip
from metajax.targets.cuda import Cuda

NEEDS = 'pip install "metajax[targets]"'
# Read when the TPU's library is loaded: no chip is looked for, and others may compile.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
COMPILERS = {"tpu": ("libtpu",), "gpu": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
# A device is a chip, of two cores too, as where JAX runs on it.
CONFIGURED = {name: {"chip_config_name": "megacore"} for name in ("v4", "v5p")}
MOST_GPUS = 8  # of a host


def devices(name: str) -> list[Any]:
    """Devices of a kind that is not here.

    They can be given wherever a device is asked for, `NamedSharding` or
    `metajax.train_step(devices=...)`, and what is lowered for them can be compiled.

    Args:
      name: a chip and how many: "v5e:4x4" is a slice of 16 TPUs, "h200:8" a host of 8
        GPUs, "v5e" and "h200" one of them. The chips are those of
        `metajax.targets.CHIPS`.

    Returns:
      The devices.

    Raises:
      InputError: if the chip is unknown, its compiler is not installed, or there is no
        such topology.

    >>> devices("h20")
    Traceback (most recent call last):
    metajax.errors.InputError: no chip 'h20'; did you mean h200? there are v4, v5e, ...
    """
    chip, grid = chip_named(name)
    check_compiler(name)
    if chip.cuda and grid and not (grid.isdecimal() and 1 <= int(grid) <= MOST_GPUS):
        raise InputError(
            f"expected at most {MOST_GPUS} GPUs of one host, as {_example(chip)}, got "
            f"{name}"
        )
    jax.local_devices(backend="cpu")  # so that JAX knows its plug-ins
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        return _gpus(chip, chip.cuda, grid) if chip.cuda else _tpus(chip, grid)
    except NotImplementedError as error:  # no GPU is here, and JAX was asked for one
        raise InputError(
            f"JAX did not load the compiler for {name}; set JAX_PLATFORMS=cpu before "
            "JAX starts"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(
            f"the compiler refused {name} ({said}); expected a topology such as "
            f"{_example(chip)}"
        ) from error


def check_compiler(name: str) -> None:
    """Checks that the compiler for a kind of device is installed.

    Raises:
      InputError: if it is not, or there is no such chip.
    """
    chip, _ = chip_named(name)
    if not any(importlib.util.find_spec(each) for each in COMPILERS[chip.platform]):
        raise InputError(f"the compiler for {name} is not installed; {NEEDS}")


def chip_named(name: str) -> tuple[Chip, str]:
    """The chip and the topology, "" for one device, of such a name as "v5e:4x4".

    Raises:
      InputError: if there is none.
    """
    chip, _, grid = name.partition(":")
    return CHIPS[check_known("chip", chip, CHIPS)], grid


def _tpus(chip: Chip, grid: str) -> list[Any]:
    named = f"{chip.name}:{grid or chip.grid}"
    absent = topologies.get_topology_desc(named, "tpu", **CONFIGURED.get(chip.name, {}))
    return list(absent.devices if grid else absent.devices[:1])


def _gpus(chip: Chip, cuda: Cuda, grid: str) -> list[Any]:
    shape = f"1x1x{grid or 1}"  # slices, hosts, and devices of a host
    topology = topologies.get_topology_desc(
        platform="cuda",
        topology_name=shape,
        target_config=cuda.config(chip.kind, chip.memory_bytes, chip.bandwidth),
        topology=shape,
    )
    return list(topology.devices)


def _example(chip: Chip) -> str:
    return f"{chip.name}:{chip.grid or MOST_GPUS}"
