"""`evaluate`: a fold of tasks by a metric."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax.checks import check_count
from metajax.errors import InputError, StoppedError
from metajax.evaluation.judging import (
    QUERIES,
    Asked,
    JudgeTask,
    Records,
    judge_of,
)
from metajax.evaluation.result import Evaluation, Score
from metajax.evaluation.scoring import Prepared, joined, prepared, score_calls
from metajax.evaluation.unfinished import Unfinished
from metajax.metrics import Metric, accuracy, as_metric
from metajax.types import Learner, Loss, PyTree, Sampler


def evaluate(
    learner: Learner,
    meta: PyTree,
    sampler: Sampler | Iterable[Any],
    metric: Metric | Loss = accuracy,
    *,
    tasks: int = 1000,
    seed: int = 0,
    inductive_queries: int | None = None,
    inductive: bool = True,
    tasks_per_call: int = 50,
    judge: JudgeTask | None = None,
    protocol: Mapping[str, Any] | None = None,
    unfinished: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluates a learner on tasks, after each of its adaptation steps 0, ..., K.

      score_k = metric.finish([metric.of_task(predict(φ_k, x), y) for each task])

    Args:
      learner: the learner; it may be built with more steps than in training.
      meta: its meta-parameters.
      sampler: a sampler, task i of which depends on `seed` and i; or meta-batches.
      metric: a `Metric`; or `metric(outputs, targets) -> scalar`, for its mean.
      tasks: the number of tasks, at least 2, which local devices share.
      seed: the random seed of the tasks.
      inductive_queries: how many queries, evenly spaced over those present, are also
        predicted independently, each beside the support set; all by default, or 0.
      inductive: whether to do so at all; the compiled program is the same.
      tasks_per_call: the number of tasks per dispatch.
      judge: `judge(learner, adapted, task) -> (outputs, targets)` for the metric, of
        tasks that are not an `Episode`: any pytree with a `support`.
      protocol: facts to keep with the result.
      unfinished: an `.npz` file of unfinished results, from which the same evaluation
        on the same devices continues. Remove it at the end.
      stop: `stop() -> bool`, called before each dispatch.

    Returns:
      An `Evaluation`.

    Raises:
      InputError: for numbers out of range, or invalid tasks or labels.
      StoppedError: if `stop` returned true; results so far are in `unfinished`.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta, sines = learner.init(jax.random.key(0)), mj.data.sinusoid()
    >>> evaluate(learner, meta, sines, mj.mse, tasks=20).transductive.mean.shape
    (3,)
    """
    check_count("tasks", tasks, least=2)
    metric = as_metric(metric)
    judged = judge_of(learner, metric.of_task, judge)
    asked = Asked(tasks, seed, inductive_queries, tasks_per_call, inductive)
    with prepared(judged, meta, sampler, asked) as ready:
        facts = {"metric": metric.name, **ready.facts, **(protocol or {})}
        kept = _kept(unfinished, facts, asked, ready)
        records = score_calls(ready.run, ready.batches, kept, stop)
    return _evaluation(metric, records, asked, facts, both=ready.facts[QUERIES] > 0)


def _kept(
    path: str | Path | None, facts: Mapping[str, Any], asked: Asked, ready: Prepared
) -> Unfinished:
    """The records that are kept, of an owner: what decides them to the last bit."""
    if path is None:
        return Unfinished(None, "")
    if ready.is_read:
        raise InputError(
            "unfinished needs a sampler, whose tasks are the same when they come "
            "again, got an iterable; leave it out"
        )
    devices = [device.device_kind for device in jax.local_devices()]
    digests = ready.digests()
    decided = [facts, asked.tasks_per_call, *digests, devices, jax.__version__]
    return Unfinished(path, json.dumps(decided, default=str), ready.like)


def _evaluation(
    metric: Metric,
    records: list[Records],
    asked: Asked,
    facts: Mapping[str, Any],
    *,
    both: bool,
) -> Evaluation:
    """The scores of the records of all calls, of both modes or of one.

    Raises:
      StoppedError: if there are fewer than was asked.
    """
    if (done := len(records) * asked.tasks_per_call) < asked.tasks:
        raise StoppedError(f"stopped after {done} of {asked.tasks} tasks", None)
    together, apart = joined(records, asked.tasks)
    score = _score(metric, together)
    other = Score(*(np.full_like(x, np.nan) for x in score))
    return Evaluation(score, _score(metric, apart) if both else other, facts, metric)


def _score(metric: Metric, records: PyTree) -> Score:
    score = Score(*map(np.asarray, metric.finish(records)))
    steps = jax.tree.leaves(records)[0].shape[1]
    if {x.shape for x in score} != {(steps,)}:
        raise InputError(
            f"finish of the metric {metric.name} must return a value and an interval "
            f"after each step, of shape ({steps},), got {[x.shape for x in score]}"
        )
    return score
