"""Flags of the command that would be passed over in silence."""

from collections.abc import Sequence

from metajax.cli.presets import Config, LearnerName

OF_A_LOOP = "--inner.", "--evaluation.steps", "--model.head"
OF_ONE: dict[str, LearnerName] = {
    "--inner.strength": "imaml",
    "--inner.damping": "imaml",
}


def idle_flag(argv: Sequence[str], config: Config) -> str | None:
    """A flag that a configuration's learner has no use for, and why.

    The configuration cannot tell: it has a value of each, given or not.

    Args:
      argv: the command's arguments.
      config: what they make.

    Returns:
      What is wrong, in a line; None if nothing is.

    >>> from dataclasses import replace
    >>> from metajax.cli.presets import PRESETS
    >>> config = replace(PRESETS["glyphs"], learner="prototypical")
    >>> idle_flag(["train", "glyphs", "--inner.steps", "5"], config)
    '--inner.steps is not for prototypical, which has no inner loop; leave it out'
    """
    from metajax.cli.choices import LEARNERS  # JAX with it: only once it is needed

    learner = config.learner
    for arg in argv:
        flag = arg.partition("=")[0].replace("_", "-")
        if flag.startswith(OF_A_LOOP) and not LEARNERS[learner].steps:
            return f"{flag} is not for {learner}, which has no inner loop; leave it out"
        if OF_ONE.get(flag, learner) != learner:
            return (
                f"{flag} is not for {learner}; leave it out, or take --learner "
                f"{OF_ONE[flag]}"
            )
    return None
