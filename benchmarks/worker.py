"""One rival on one workload in a process of its own, which reads commands.

    python -m benchmarks.worker RIVAL WORKLOAD float32 cpu

Each line of standard input is `ready` (answered by the device once the work is set up),
`compile`, `gradient FILE`, `steps N` (answered by the seconds a step) or `memory`; each
answer is a line of JSON.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.errors import Parser, UsageError, exit_status, one_line
from benchmarks.rivals import RIVALS


def main(name: str, work: str, dtype: str, device: str) -> None:
    """Serves until the input ends; an error is the last answer."""
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        _serve(_start(name, work, dtype, device), say)
    except Exception as error:
        say({"error": one_line(error)})
        raise


def _start(name: str, work: str, dtype: str, device: str) -> Any:
    rival = RIVALS[name]
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # All rivals live at once: none may take the memory of a device for itself.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    os.environ["JAX_ENABLE_X64"] = str(dtype == "float64")
    os.environ["JAX_NUM_CPU_DEVICES"] = str(rival.devices)
    task = workloads.workload(work)
    return importlib.import_module(f"benchmarks.rivals.{rival.module}").Run(
        task,
        workloads.weights(task),
        workloads.episodes(task),
        np.dtype(dtype),
        **rival.settings,
    )


def _serve(run: Any, say: Callable[[Any], None]) -> None:
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "ready":
            answer = run.device()
        elif command == "compile":
            answer = run.compile()
        elif command == "gradient":
            np.savez(arguments[0], **run.gradient())
            answer = "done"
        elif command == "steps":
            began = time.perf_counter()
            run.steps(int(arguments[0]))
            answer = (time.perf_counter() - began) / int(arguments[0])
        elif command == "memory":
            answer = run.memory()
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answer["peak"] = answer["peak"] or resident
        else:
            raise UsageError(f"no command {command!r}")
        say(answer)


if __name__ == "__main__":
    parser = Parser("python -m benchmarks.worker", __doc__)
    parser.add_argument("name", choices=RIVALS, metavar="RIVAL")
    parser.add_argument("work", metavar="WORKLOAD")
    parser.add_argument("dtype", choices=("float32", "float64"))
    parser.add_argument("device", choices=("cpu", "gpu"))
    asked = vars(parser.parse_args())
    sys.exit(exit_status(lambda: main(**asked)))
