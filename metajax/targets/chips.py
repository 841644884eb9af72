"""Accelerators by name: their memory and the rates that their makers publish.

| memory, bandwidth and rates of | source |
|---|---|
| TPU v4, v5e, v5p, v6e | cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e |
| A100, 40 and 80 GB | NVIDIA, "A100 Tensor Core GPU" data sheet, SXM |
| H100 | NVIDIA, "H100 Tensor Core GPU" data sheet, SXM |
| H200 | NVIDIA, "H200 Tensor Core GPU" data sheet, SXM |
| B200 | NVIDIA, "HGX B200" data sheet, an eighth of its eight GPUs |
| L4 | NVIDIA, "L4 Tensor Core GPU" data sheet |
| T4 | NVIDIA, "T4 Tensor Core GPU" data sheet |
| RTX 4090 | NVIDIA, "Ada GPU Architecture", appendix |

Cores, clocks and caches are those of XLA's sources,
`xla/backends/gpu/target_config/specs`.

Where XLA has no such file of a GPU, its data sheet and, by compute capability, CUDA's
programming guide say the same. NVIDIA's rates are without sparsity. A TPU multiplies
bfloat16 only: float32 at precision "highest" takes six such passes, at "high" three.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from metajax.targets.cuda import Cuda

Platform = Literal["tpu", "gpu"]
TERA, GIGA, GIB = 1e12, 1e9, 2**30
# Products of bfloat16 that a TPU takes for one product of each precision.
PASSES = {"float32": 6, "tensorfloat32": 3, "bfloat16": 1}
GPU_SHARE = 0.75  # the share of a GPU's memory that JAX takes by default
UNKNOWN_BYTES = 2**34  # the memory of a device that does not report its own


@dataclass(frozen=True)
class Chip:
    """A kind of accelerator.

    Attributes:
      name: as people call it, "v5e" or "h200".
      kind: as JAX calls it, a device's `device_kind`.
      platform: "tpu" or "gpu".
      memory_bytes: size of its main memory.
      bandwidth: peak bandwidth of that memory, in bytes a second.
      rates: peak floating-point operations a second of products, by precision;
        "float32" is that of products exact to float32.
      grid: a TPU's smallest topology, such as "2x2".
      cuda: what XLA's compiler must know of an NVIDIA GPU.
    """

    name: str
    kind: str
    platform: Platform
    memory_bytes: int
    bandwidth: float
    rates: Mapping[str, float]
    grid: str = ""
    cuda: Cuda | None = None

    @property
    def usable_bytes(self) -> int:
        """The part of its memory that JAX takes by default."""
        share = GPU_SHARE if self.platform == "gpu" else 1
        return int(share * self.memory_bytes)

    def own_precision(self, precision: str) -> str:
        """The precision that products have: float32 where the chip lacks another.

        >>> CHIPS["t4"].own_precision("bfloat16"), CHIPS["l4"].own_precision("bfloat16")
        ('float32', 'bfloat16')
        """
        return precision if precision in self.rates else "float32"

    def rate(self, precision: str) -> float:
        """Operations a second of products in `own_precision`."""
        return self.rates[self.own_precision(precision)]

    def floor(self, operations: float, moved: float, precision: str) -> float:
        """The seconds that a program takes at least, by the published rates.

          max(operations / rate, bytes / bandwidth)

        No program reaches both rates, so it is a floor and no forecast.

        Args:
          operations: floating-point operations of products.
          moved: bytes read and written.
          precision: "float32", "tensorfloat32" or "bfloat16"; of one that the chip does
            not have, float32's rate.

        >>> round(1e3 * CHIPS["v5e"].floor(1.97e12, 819e9, "bfloat16"))
        1000
        """
        return max(operations / self.rate(precision), moved / self.bandwidth)


def _tpu(
    name: str, kind: str, memory: float, bandwidth: float, bfloat16: float, grid: str
) -> Chip:
    """Memory in GiB, bandwidth in GB/s, rates in Tflop/s."""
    rate = bfloat16 * TERA
    rates = {precision: rate / passes for precision, passes in PASSES.items()}
    return Chip(
        name, kind, "tpu", int(memory * GIB), bandwidth * GIGA, rates, grid=grid
    )


def _gpu(
    name: str,
    kind: str,
    memory: int,
    bandwidth: float,
    cuda: Cuda,
    **rates: float,
) -> Chip:
    """Memory in bytes, bandwidth in GB/s, rates in Tflop/s."""
    by_precision = {precision: rate * TERA for precision, rate in rates.items()}
    return Chip(name, kind, "gpu", memory, bandwidth * GIGA, by_precision, cuda=cuda)


_HOPPER = dict(float32=67.0, tensorfloat32=494.7, bfloat16=989.4)
_AMPERE = dict(float32=19.5, tensorfloat32=156.0, bfloat16=312.0)
_A100 = Cuda((8, 0), 108, 1.41, 41943040)
_H100 = Cuda((9, 0), 132, 1.98, 52428800)
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu("v4", "TPU v4", 32, 1228, 275, "2x2x1"),
        _tpu("v5e", "TPU v5 lite", 16, 819, 197, "2x2"),
        _tpu("v5p", "TPU v5", 95, 2765, 459, "2x2x1"),
        _tpu("v6e", "TPU v6 lite", 32, 1638, 918, "2x2"),
        _gpu("a100", "NVIDIA A100-SXM4-80GB", 85100068864, 2039, _A100, **_AMPERE),
        _gpu("a100-40", "NVIDIA A100-SXM4-40GB", 42331013120, 1555, _A100, **_AMPERE),
        _gpu("h100", "NVIDIA H100 80GB HBM3", 84942979072, 3350, _H100, **_HOPPER),
        _gpu("h200", "NVIDIA H200", 151397597184, 4800, _H100, **_HOPPER),
        _gpu(
            "b200",
            "NVIDIA B200",
            191514411008,
            7700,
            Cuda((10, 0), 148, 1.965, 132644864),
            float32=75.0,
            tensorfloat32=1125.0,
            bfloat16=2250.0,
        ),
        _gpu(
            "l4",
            "NVIDIA L4",
            24 * GIB,
            300,
            Cuda((8, 9), 58, 2.04, 48 * 2**20),
            float32=30.3,
            tensorfloat32=60.0,
            bfloat16=121.0,
        ),
        _gpu(
            "t4",
            "Tesla T4",
            16 * GIB,
            320,
            Cuda((7, 5), 40, 1.59, 4 * 2**20),
            float32=8.1,
        ),
        _gpu(
            "rtx4090",
            "NVIDIA GeForce RTX 4090",
            24 * GIB,
            1008,
            Cuda((8, 9), 128, 2.52, 72 * 2**20),
            float32=82.6,
            tensorfloat32=82.6,
            bfloat16=165.2,
        ),
    )
}


def chip_of(device: Any) -> Chip | None:
    """The chip that a device of JAX is, here or absent; None of an unknown one."""
    kinds = {chip.kind: chip for chip in CHIPS.values()}
    return kinds.get(device.device_kind)


def usable_bytes(device: Any) -> int:
    """The memory that JAX has of a device, here or absent."""
    chip = chip_of(device)
    known = chip.usable_bytes if chip else UNKNOWN_BYTES
    # An absent device has nothing to tell of its memory.
    stats = device.memory_stats() if device in jax.local_devices() else None
    return (stats or {}).get("bytes_limit", known)
