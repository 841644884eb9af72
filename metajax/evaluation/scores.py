"""Evaluation over many tasks, with intervals and the protocol beside the numbers."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax._files.fingerprint import digest
from metajax.checks import check_count
from metajax.errors import InputError, StoppedError
from metajax.evaluation.scoring import Asked, joined, prepared, score_calls
from metajax.evaluation.unfinished import Unfinished
from metajax.losses import accuracy, over_present
from metajax.types import Array, Episode, Learner, Loss, PyTree, Sampler

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval


class Score(NamedTuple):
    """A metric after 0, 1, ..., K adaptation steps.

    Attributes:
      mean: over tasks, `float64[K + 1]`.
      interval: half the width of the 95 % confidence interval of the mean.
    """

    mean: np.ndarray
    interval: np.ndarray


class Evaluation(NamedTuple):
    """What `evaluate` found, and how.

    Attributes:
      transductive: the queries of an episode predicted as one batch, so that batch norm
        shares their statistics.
      inductive: each query predicted without the others, beside the support set.
      protocol: what was measured: metric, tasks, steps, seed, numbers of examples, and
        whatever the caller added (split, ways, shots).
    """

    transductive: Score
    inductive: Score
    protocol: Mapping[str, Any]


class Outputs(NamedTuple):
    """What a learner predicts, and what is right.

    Attributes:
      outputs: after 0, 1, ..., K adaptation steps, `[tasks, K + 1, queries, ...]`.
      targets: `[tasks, queries, ...]`; `Padded`, where the tasks are, with the queries
        that are `present`.
    """

    outputs: PyTree
    targets: PyTree


class TaskOutputs(NamedTuple):
    """What `task_outputs` found, and how; arrays of numpy.

    Attributes:
      transductive: as in an `Evaluation`.
      inductive: as in an `Evaluation`; of those queries that are predicted so.
      protocol: tasks, steps, seed and numbers of examples.
    """

    transductive: Outputs
    inductive: Outputs
    protocol: Mapping[str, Any]


def evaluate(
    learner: Learner,
    meta: PyTree,
    episodes: Sampler | Iterable[Episode],
    metric: Loss = accuracy,
    *,
    tasks: int = 1000,
    seed: int = 0,
    inductive_queries: int | None = None,
    inductive: bool = True,
    tasks_per_call: int = 50,
    protocol: Mapping[str, Any] | None = None,
    unfinished: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores a learner over tasks, after each of 0..K adaptation steps.

    K is the learner's own number of steps; to take more than in training, build the
    learner anew with more: the meta-parameters are the same.

    Task i is drawn from `fold_in(seed, i)`: the first 100 tasks of 1,000 are the 100 of
    an evaluation of 100. All local devices share the tasks.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      episodes: `episodes(key, tasks) -> Episode`, of test classes; or an iterable of
        meta-batches, as `fit` takes it, whose first tasks are taken. They do not depend
        on `seed`, which the protocol then leaves out.
      metric: `metric(outputs, targets) -> scalar`: `accuracy`, `mse`, or your own.
      tasks: the number of tasks, at least 2.
      seed: of the episodes.
      inductive_queries: how many queries a task are also predicted one by one, evenly
        spaced over the query set; all by default. Each costs a pass over the support
        set.
      inductive: whether they are; if not, their scores are NaN, and the compiled
        program is that of an evaluation in which they are.
      tasks_per_call: tasks a dispatch.
      protocol: facts to keep with the result.
      unfinished: a file, `.npz`, for the scores of the tasks that are done: the same
        evaluation, of the same meta-parameters, protocol and devices, goes on from them
        to the same numbers, bit for bit. A learner is known by what `protocol` says of
        it. Remove the file once the result is safe.
      stop: asked before each dispatch whether to stop; a signal's flag, say.

    Returns:
      An `Evaluation`.

    Raises:
      InputError: for numbers out of range, episodes of the wrong shape, a sampler that
        does not use its key, labels that the model has no output for, or an iterable
        of fewer tasks.
      StoppedError: if `stop` said so; what is done is in `unfinished`.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> found = evaluate(learner, meta, mj.data.sinusoid(), mj.mse, tasks=20)
    >>> found.transductive.mean.shape, found.protocol["tasks"]
    ((3,), 20)

    Source: inductive prediction as in Nichol et al., "On First-Order Meta-Learning
    Algorithms", 2018, section 6.1.
    """
    check_count("tasks", tasks, least=2)
    asked = Asked(tasks, seed, inductive_queries, tasks_per_call, inductive)
    with prepared(learner, meta, episodes, _Mean(metric), asked) as ready:
        if unfinished is not None and ready.is_read:
            raise InputError(
                "unfinished needs a sampler, whose tasks are the same when they come "
                "again, got an iterable; leave it out"
            )
        name = getattr(metric, "name", None) or getattr(metric, "__name__", str(metric))
        facts = {"metric": name, **ready.facts, **(protocol or {})}
        owner = _owner(facts, tasks_per_call, ready.arrays()) if unfinished else ""
        kept = Unfinished(unfinished, owner)
        scores = score_calls(ready.run, ready.batches, kept, stop)
    if (done := len(scores) * tasks_per_call) < tasks:
        raise StoppedError(f"stopped after {done} of {tasks} tasks", None)
    together, apart = (x.astype(float) for x in joined(scores, tasks))
    apart = apart if inductive else np.full_like(apart, np.nan)
    return Evaluation(_summary(together), _summary(apart), facts)


def task_outputs(
    learner: Learner,
    meta: PyTree,
    episodes: Sampler | Iterable[Episode],
    *,
    tasks: int = 1000,
    seed: int = 0,
    inductive_queries: int | None = None,
    tasks_per_call: int = 50,
) -> TaskOutputs:
    """What a learner predicts in each of the tasks that `evaluate` scores.

    For metrics that pool the queries of all tasks (F1, AUC) and are no mean over tasks,
    and for looking. The tasks of a seed are those of `evaluate`, in order. The outputs
    of a call are kept on the host.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      episodes: see `evaluate`.
      tasks: the number of tasks.
      seed: see `evaluate`.
      inductive_queries: see `evaluate`.
      tasks_per_call: see `evaluate`.

    Returns:
      A `TaskOutputs`.

    Raises:
      InputError: as `evaluate`.

    The F1 of class 0 over all queries of all tasks, after the last step:

    >>> import optax, metajax as mj
    >>> images = mj.data.glyphs(ways=2, shots=1, queries=5)
    >>> learner = mj.maml(mj.conv4(2, 4), mj.cross_entropy, optax.sgd(0.4), steps=3)
    >>> meta = learner.init(jax.random.key(0))
    >>> found = task_outputs(learner, meta, images, tasks=20)
    >>> logits, labels = found.transductive
    >>> logits.shape, labels.shape
    ((20, 4, 10, 2), (20, 10))
    >>> told, true = logits[:, -1].argmax(-1) == 0, labels == 0
    >>> f1 = 2 * (told & true).sum() / (told.sum() + true.sum())
    >>> bool(0.5 < f1 <= 1)
    True
    """
    check_count("tasks", tasks, least=1)
    asked = Asked(tasks, seed, inductive_queries, tasks_per_call)
    with prepared(learner, meta, episodes, Outputs, asked) as ready:
        nothing = Unfinished(None, "")
        found = score_calls(ready.run, ready.batches, nothing, lambda: False)
    together, apart = map(_of_steps, joined(found, tasks))
    return TaskOutputs(together, apart, ready.facts)


def report(evaluation: Evaluation) -> str:
    """An evaluation as a plain table, its protocol below.

    Args:
      evaluation: from `evaluate`.

    Returns:
      Lines of text. An accuracy is in per cent.

    >>> score = Score(np.array([0.2, 0.95]), np.array([0.001, 0.002]))
    >>> print(report(Evaluation(score, score, {"metric": "accuracy", "tasks": 1000})))
    steps        transductive           inductive
        0      20.00 ±  0.10       20.00 ±  0.10
        1      95.00 ±  0.20       95.00 ±  0.20
    metric accuracy (%), tasks 1000
    """
    percent = evaluation.protocol["metric"] == "accuracy"
    scale, digits = (100.0, 2) if percent else (1.0, 4)
    lines = [f"steps{'transductive':>20}{'inductive':>20}"]
    columns = zip(*evaluation.transductive, *evaluation.inductive)
    for step, values in enumerate(columns):
        a, b, c, d = (f"{scale * v:.{digits}f}" for v in values)
        lines.append(f"{step:>5}{a:>11} ± {b:>5} {c:>11} ± {d:>5}")
    facts = dict(evaluation.protocol)
    facts["metric"] += " (%)" if percent else ""
    return "\n".join([*lines, ", ".join(f"{k} {v}" for k, v in facts.items())])


def _owner(facts: Mapping[str, Any], tasks_per_call: int, arrays: PyTree) -> str:
    """What decides the scores to the last bit."""
    devices = [device.device_kind for device in jax.local_devices()]
    return json.dumps(
        [facts, tasks_per_call, digest(arrays), devices, jax.__version__], default=str
    )


@dataclass(frozen=True)
class _Mean:
    """A metric as a mean over the examples that are present."""

    metric: Loss

    def __call__(self, outputs: PyTree, targets: PyTree) -> Array:
        return over_present(self.metric)(outputs, targets)


def _of_steps(each: Outputs) -> Outputs:
    """The targets once, which came with the outputs of each step."""
    return each._replace(targets=jax.tree.map(lambda x: x[:, 0], each.targets))


def _summary(scores: np.ndarray) -> Score:
    """Mean over the tasks of `[tasks, K + 1]`, and the half-width of its interval."""
    with np.errstate(invalid="ignore"):  # an adaptation that diverges is a result too
        error = scores.std(axis=0, ddof=1) / np.sqrt(len(scores))
    return Score(scores.mean(axis=0), Z95 * error)
