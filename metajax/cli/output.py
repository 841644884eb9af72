"""How a command prints the result of a run."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from metajax.training.processes import is_first


@dataclass(frozen=True)
class Output:
    """What standard output is for."""

    json: bool = False
    """Print the result as one line of JSON on standard output, and everything else on
    standard error."""

    def of_run(self, run: Path, measured: Callable[[], Path]) -> None:
        """Measures a run, and prints its result where JSON was asked for.

        Args:
          run: its directory, or its published file.
          measured: measures it, and returns the file of the result.
        """
        with redirect_stdout(sys.stderr) if self.json else nullcontext():
            path = measured()
        if self.json and is_first():
            result = json.loads(path.read_bytes())
            result.pop("sha256", None)
            print(json.dumps({"run": str(run), "file": str(path), **result}))

    def of_sweep(self, directory: Path, swept: Callable[[], object]) -> None:
        """Runs a sweep, and prints its table, or its file where JSON was asked for.

        Args:
          directory: the folder of the sweep.
          swept: runs it.
        """
        with redirect_stdout(sys.stderr):
            swept()
        if self.json:
            rows = json.loads((directory / "sweep.json").read_bytes())
            print(json.dumps({"sweep": str(directory), **rows}))
        else:
            print((directory / "sweep.txt").read_text(), end="")
            print(f"written to {directory / 'sweep.json'}, drawn in sweep.png")
