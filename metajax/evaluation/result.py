"""The result of an evaluation, and how it reads."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metajax.evaluation.judging import QUERIES
from metajax.metrics import Metric


class Score(NamedTuple):
    """A metric after 0, 1, ..., K adaptation steps.

    Attributes:
      mean: its value, `float64[K + 1]`; of most metrics, a mean over tasks.
      interval: half the width of the 95 % confidence interval of that value.
    """

    mean: np.ndarray
    interval: np.ndarray


class Evaluation(NamedTuple):
    """The scores of `evaluate`, and how they were measured.

    Attributes:
      transductive: the queries of an episode predicted as one batch, so that batch norm
        shares their statistics; or as `judge` predicts them.
      inductive: each query predicted independently of the others (`per_query`); NaN if
        this was not requested.
      protocol: what was measured: metric, tasks, steps, seed, numbers of examples, and
        whatever the caller added (split, ways, shots).
      metric: the metric of the scores.
    """

    transductive: Score
    inductive: Score
    protocol: Mapping[str, Any]
    metric: Metric


def report(evaluation: Evaluation) -> str:
    """Formats an evaluation as a plain table, with its protocol below.

    Args:
      evaluation: from `evaluate`.

    Returns:
      Lines of text, with values as the metric formats them. Inductive scores are left
      out if the protocol has none; the column is then named after the metric.

    >>> from metajax.metrics import accuracy
    >>> score = Score(np.array([0.2, 0.95]), np.array([0.001, 0.002]))
    >>> facts = {"metric": accuracy.name, "tasks": 1000}
    >>> print(report(Evaluation(score, score, facts, accuracy)))
    steps        transductive           inductive
        0      20.00 ±  0.10       20.00 ±  0.10
        1      95.00 ±  0.20       95.00 ±  0.20
    metric accuracy (%), tasks 1000
    """
    metric, facts = evaluation.metric, dict(evaluation.protocol)
    both = facts.get(QUERIES) != 0
    scores = [evaluation.transductive, evaluation.inductive][: 1 + both]
    modes = ["transductive", "inductive"] if both else [metric.name]
    lines = ["steps" + "".join(f"{mode:>20}" for mode in modes)]
    for step in range(len(scores[0].mean)):
        pairs = [(score.mean[step], score.interval[step]) for score in scores]
        cells = [f"{metric.format(a):>11} ± {metric.format(b):>5}" for a, b in pairs]
        lines.append(f"{step:>5}" + " ".join(cells))
    facts["metric"] += f" ({metric.unit})" if metric.unit else ""
    return "\n".join([*lines, ", ".join(f"{k} {v}" for k, v in facts.items())])
