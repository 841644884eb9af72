"""Flags of the command that would be passed over in silence."""

from collections.abc import Sequence

from metajax.errors import InputError
from metajax.experiments.choices import LEARNERS
from metajax.experiments.presets import LearnerName

OF_A_LOOP = "--inner.", "--evaluation.steps"
OF_IMAML = "--inner.strength", "--inner.damping"
OTHERWISE = "--inner.backbone"  # refused by what builds the learner, in other words


def check_flags(argv: Sequence[str], learner: LearnerName) -> None:
    """Refuses flags that a learner has no use for.

    The configuration that they make cannot tell: it has a value of each, given or not.

    Args:
      argv: the command's arguments.
      learner: which one they train.

    Raises:
      InputError: if there is one.
    """
    for flag in map(_name, argv):
        if flag == OTHERWISE:
            continue
        if flag.startswith(OF_A_LOOP):
            check_loop(flag, learner)
        if flag in OF_IMAML and learner != "imaml":
            raise InputError(
                f"{flag} is not for {learner}; leave it out, or take --learner imaml"
            )
        if flag == "--model.head" and not LEARNERS[learner].starts_head:
            raise InputError(
                f"{flag} is not for {learner}, which makes its own head; leave it out"
            )


def check_loop(flag: str, learner: LearnerName) -> None:
    """Refuses a flag of an inner loop for a learner that has none.

    Raises:
      InputError: if it has none.
    """
    if not LEARNERS[learner].steps:
        raise InputError(
            f"{flag} is not for {learner}, which has no inner loop; leave it out"
        )


def _name(arg: str) -> str:
    return arg.partition("=")[0].replace("_", "-")
