"""Configurations of an earlier format, in the present one."""

from typing import Any

from metajax.errors import InputError
from metajax.experiments.learners import LEARNERS
from metajax.experiments.plain import names_of, object_at

FORMAT = 2
# In the first format every learner had these; two were the outer loop's.
INNER = {"rate", "steps", "optimizer", "batch", "strength", "damping", "backbone"}
MOVED = "first_order", "multi_step"
HEADED = {"Conv4Model": "Conv4Body", "ResNet12Model": "ResNet12Body"}


def renewed(plain: Any) -> dict[str, Any]:
    """A configuration in the present format, without the format's number.

    Of the first format, options that the learner has no use for, and which had no
    effect, are left out.

    Raises:
      InputError: if it is of no format that is known, or of an unknown learner.
    """
    whole = dict(object_at("a configuration", plain))
    learner = whole.get("learner")
    if not isinstance(learner, str) or learner not in LEARNERS:
        names = ", ".join(LEARNERS)
        raise InputError(f"learner must be one of {names}, got {learner!r}")
    if (number := whole.pop("format", 1)) == FORMAT:
        return whole
    if number != 1:
        raise InputError(f"its format must be {FORMAT} or older, got {number!r}")
    parts = [
        dict(object_at(name, whole.get(name)))
        for name in ("inner", "outer", "evaluation", "model")
    ]
    inner, outer, evaluation, model = parts
    kind = LEARNERS[learner]
    inner |= {name: outer.pop(name) for name in MOVED if name in outer}
    idle = {*INNER, *MOVED} - names_of(kind)
    if "steps" in idle:
        evaluation.pop("steps", None)
    if kind.makes_head:
        model.pop("head", None)
        named = str(model.get("kind"))
        model["kind"] = HEADED.get(named, named)
    return {
        "augment": {},
        **whole,
        "inner": {name: x for name, x in inner.items() if name not in idle},
        "outer": outer,
        "evaluation": evaluation,
        "model": model,
    }
