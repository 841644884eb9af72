"""Which forms a run takes: those that it began with, or those that it begins with."""

from collections.abc import Callable
from functools import partial

from metajax.errors import InputError
from metajax.ops import Tuned, tune
from metajax.ops.tuning import user_folder
from metajax.training.processes import FirstWrites, text_from_first

Tuner = Callable[..., Tuned]


def tuner_of(forms: str | Tuner) -> Tuner | None:
    """What times forms; None for the table's.

    Args:
      forms: see `metajax.fit`.

    Raises:
      InputError: if it is neither of the names nor a function.
    """
    if forms == "table":
        return None
    if forms == "tuned":
        return partial(tune, folder=user_folder())
    if not callable(forms):
        raise InputError(
            f'forms must be "table", "tuned" or a function that tunes, got {forms!r}'
        )
    return forms


def forms_of(
    checkpoints: FirstWrites | None, choose: Callable[[], Tuned] | None
) -> Tuned | None:
    """The forms of a run, alike in all processes; None for the table's.

    Args:
      checkpoints: where they are kept, if anywhere.
      choose: called in the first process if none are kept; None for the table's.
    """
    if checkpoints is not None:
        return checkpoints.forms(choose)
    if choose is None:
        return None
    return Tuned.from_text(text_from_first(lambda: choose().as_text()))
