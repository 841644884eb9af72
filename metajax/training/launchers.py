"""How many processes a launcher started to train together, and how many JAX has."""

import os
import sys
from typing import Any

import jax

from metajax.errors import InputError

# As Kubeflow Trainer sets them; JAX reads only the first.
ADDRESS = "JAX_COORDINATOR_ADDRESS"
COUNT, INDEX = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def check_world() -> None:
    """Checks that JAX connects the processes that were started to train together.

    Otherwise each would train by itself, and all of them the same. Ray's `JaxTrainer`
    does not connect workers on a CPU, nor do its other trainers.

    Fewer than JAX has are none of its own: outside a worker, some versions of Ray say
    that there is one.

    SLURM, MPI and torchrun are not asked: processes that they start, or that inherit
    their environment, may be runs of a sweep. There, a run directory has one writer.

    Raises:
      InputError: if JAX has fewer processes.
    """
    workers = _ray_workers()
    if workers > jax.process_count():
        raise InputError(
            f"Ray Train started {workers} workers, of which JAX connects "
            f"{jax.process_count()}, so each would train by itself; call "
            "jax.distributed.initialize in each of them first, or start one"
        )
    count = _number(COUNT) if COUNT in os.environ else 1
    if count > jax.process_count():
        raise InputError(
            f"{COUNT} is {count}, and JAX connects {jax.process_count()}, so each "
            "would train by itself; start metajax train with --coordinator auto, call "
            f"jax.distributed.initialize first in a program, or unset {COUNT}"
        )


def from_environment() -> dict[str, Any]:
    """What to give to `jax.distributed.initialize` that it does not read itself.

    Returns:
      The number of processes and which one this is, if the environment has both and
      the address; otherwise nothing, and JAX asks the cluster.

    Raises:
      InputError: if one of them is not a whole number.
    """
    if not all(name in os.environ for name in (ADDRESS, COUNT, INDEX)):
        return {}
    return {
        "num_processes": _number(COUNT),
        "process_id": _number(INDEX),
        "cluster_detection_method": "deactivate",
    }


def _ray_workers() -> int:
    """How many workers Ray Train started; 1 if this is none of them."""
    train: Any = sys.modules.get("ray.train")  # as in every worker
    if train is None:
        return 1
    try:
        return train.get_context().get_world_size()
    except (RuntimeError, DeprecationWarning):  # the driver's process; a trial of Tune
        return 1


def _number(name: str) -> int:
    text = os.environ[name]
    if text.isdecimal():
        return int(text)
    raise InputError(f"{name} must be a whole number, got {text!r}; set it or unset it")
