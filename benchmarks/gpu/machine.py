"""The chip, its clocks, and the rates that it reaches."""

import subprocess
from typing import Any

from benchmarks import suite
from benchmarks.gpu.job import Job

QUERIED = (
    "name,driver_version,memory.total,pstate,clocks.sm,clocks.mem,clocks.max.sm,"
    "clocks.max.mem,power.draw,power.limit,temperature.gpu"
)


def machine(job: Job) -> None:
    """The chip, the driver, the versions, clocks, and what the chip reaches."""
    job.emit("versions", _as_rows(suite.machine()))
    job.emit("at rest", _as_rows(clocks()))
    import jax
    from jax.extend.backend import get_backend

    from benchmarks import roofline

    device = jax.local_devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    facts = {
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "memory for arrays, GiB": memory and memory / 2**30,
        "backend": get_backend().platform_version.replace("\n", ", "),
    }
    job.emit("JAX", _as_rows(facts))
    kinds = {
        "float32": ("highest", "float32"),
        "tensorfloat32": ("tensorfloat32", "float32"),
        "bfloat16": ("default", "bfloat16"),
    }
    rates = {}
    for name, how in kinds.items():
        rates[f"products, {name}, TFLOP/s"] = (
            roofline.product_rate(job.size.side, *how) / 1e12
        )
        job.emit("measured rates", _as_rows(rates))
    rates["copying, GB/s read and written"] = roofline.copy_rate() / 1e9
    job.emit("measured rates", _as_rows(rates))
    job.emit("at work", _as_rows(clocks()))


def clocks() -> dict[str, str]:
    """What `nvidia-smi` reads, by name; why not, where it does not."""
    command = ["nvidia-smi", f"--query-gpu={QUERIED}", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"nvidia-smi": type(error).__name__}
    first = (run.stdout.splitlines() or [run.stderr])[0]
    if run.returncode:
        return {"nvidia-smi": first.strip()}
    return dict(zip(QUERIED.split(","), map(str.strip, first.split(","))))


def _as_rows(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"": value} for name, value in facts.items()}
