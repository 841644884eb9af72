"""What a learner predicts in the tasks of an evaluation."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from metajax.checks import check_count
from metajax.evaluation.judging import Asked, EpisodeJudge
from metajax.evaluation.scoring import joined, prepared, score_calls
from metajax.evaluation.unfinished import Unfinished
from metajax.types import Episode, Learner, PyTree, Sampler


class Outputs(NamedTuple):
    """What a learner predicts, and the right answers.

    Attributes:
      outputs: after 0, 1, ..., K adaptation steps, `[tasks, K + 1, queries, ...]`.
      targets: `[tasks, queries, ...]`; `Padded`, where the tasks are, with the queries
        that are `present`.
    """

    outputs: PyTree
    targets: PyTree


class TaskOutputs(NamedTuple):
    """The outputs of `task_outputs`, NumPy arrays, and how they were made.

    Attributes:
      transductive: the queries of an episode predicted as one batch.
      inductive: each of the `inductive_queries`, predicted independently of the others.
      protocol: tasks, steps, seed and numbers of examples.
    """

    transductive: Outputs
    inductive: Outputs
    protocol: Mapping[str, Any]


def task_outputs(
    learner: Learner,
    meta: PyTree,
    sampler: Sampler | Iterable[Episode],
    *,
    tasks: int = 1000,
    seed: int = 0,
    inductive_queries: int | None = None,
    tasks_per_call: int = 50,
) -> TaskOutputs:
    """The predictions of a learner in each of the tasks that `evaluate` scores.

    Use it to inspect predictions, or to try a metric that is not a `Metric` yet. The
    outputs of all tasks are held on the host.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      sampler: see `evaluate`.
      tasks: the number of tasks.
      seed: see `evaluate`.
      inductive_queries: see `evaluate`; at least 1.
      tasks_per_call: see `evaluate`.

    Returns:
      A `TaskOutputs`, with the tasks in the order of `evaluate`.

    Raises:
      InputError: as `evaluate`.

    The F1 of class 0 over all queries of all tasks, after the last step:

    >>> import optax, metajax as mj
    >>> images = mj.data.glyphs(ways=2, shots=1, queries=5)
    >>> learner = mj.maml(mj.conv4(2, 4), mj.cross_entropy, optax.sgd(0.4), steps=3)
    >>> meta = learner.init(jax.random.key(0))
    >>> logits, labels = task_outputs(learner, meta, images, tasks=20).transductive
    >>> logits.shape, labels.shape
    ((20, 4, 10, 2), (20, 10))
    >>> predicted, true = logits[:, -1].argmax(-1) == 0, labels == 0
    >>> f1 = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
    >>> bool(0.5 < f1 <= 1)
    True
    """
    check_count("tasks", tasks, least=1)
    if inductive_queries is not None:
        check_count("inductive_queries", inductive_queries, least=1)
    asked = Asked(tasks, seed, inductive_queries, tasks_per_call)
    with prepared(EpisodeJudge(learner, Outputs), meta, sampler, asked) as ready:
        nothing = Unfinished(None, "")
        outputs = score_calls(ready.run, ready.batches, nothing, lambda: False)
    together, apart = map(_of_steps, joined(outputs, tasks))
    return TaskOutputs(together, apart, ready.facts)


def _of_steps(each: Outputs) -> Outputs:
    """The targets once, which came with the outputs of each step."""
    return each._replace(targets=jax.tree.map(lambda x: x[:, 0], each.targets))
