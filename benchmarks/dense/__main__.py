"""Baselines of segmentation and detection that learn nothing.

    python -m benchmarks.dense --archives DIR [--tasks 1000] [--to RECORD.json]

AP50 of template matching on the test scenes of the preset omniglot-scenes-3w1s, with
its interval over tasks: the row beside the detectors that `metajax train` makes.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import metajax
from benchmarks.command import run_command
from benchmarks.dense.template import MOST, template_detector
from metajax._files.writing import write_whole
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from metajax.metrics import average_precision

PRESET = "omniglot-scenes-3w1s"


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    archives: Path | None = None
    """Folder of images_background.zip and images_evaluation.zip."""
    tasks: int = 1000
    """Test tasks."""
    seed: int = 0
    """Random seed for sampling test tasks."""
    to: Path | None = None
    """File to keep the record in."""


def main(settings: Settings) -> None:
    """Prints a row, and keeps its record."""
    config = PRESETS[PRESET]
    task = config.data.build(Places(archives=settings.archives))
    evaluation = metajax.evaluate(
        template_detector(config.data.ways, config.data.size),
        {},
        task.episodes("test", config.evaluation.queries),
        average_precision(config.data.ways, 0.5, most=MOST),
        tasks=settings.tasks,
        seed=settings.seed,
        inductive_queries=1,
        protocol={"preset": PRESET, "learner": "template matching"},
    )
    print(metajax.report(evaluation))
    if settings.to is not None:
        value, interval = (x[-1].item() for x in evaluation.transductive[:2])
        row = {"ap50": value, "interval": interval, **evaluation.protocol}
        write_whole(settings.to, json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.dense", __doc__))
