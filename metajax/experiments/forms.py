"""Which forms of metajax's operations a run takes."""

import sys
from typing import Any, Literal

import jax

from metajax.experiments.config import Config
from metajax.experiments.tasks import Places
from metajax.ops import Tuned, tune
from metajax.ops.tuning import FOLDER
from metajax.training.tuned import Tuner


def forms_of(config: Config, places: Places) -> Literal["table"] | Tuner:
    """What `fit` takes as `forms`: answers are kept beside the prepared data."""
    if config.forms == "table":
        return config.forms

    def tuned(*args: Any) -> Tuned:
        device = jax.devices()[0].device_kind
        print(f"timing the forms of operations on {device}", file=sys.stderr)
        return tune(*args, folder=places.prepared / FOLDER)

    return tuned
