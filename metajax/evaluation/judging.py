"""How a task is judged, after each step of its adaptation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count, check_episode
from metajax.data.checking import check_tasks
from metajax.data.sampling import StagedSampler
from metajax.evaluation.per_query import per_query
from metajax.types import Array, Batch, Episode, Learner, PyTree, unpadded

Record = Callable[[Any, Any], PyTree]  # of a task, from its outputs and targets
JudgeTask = Callable[[Learner, PyTree, Any], tuple[Any, Any]]
Records = tuple[PyTree, PyTree]  # transductive and inductive, `[steps, ...]`


QUERIES = "inductive_queries"  # of the protocol: 0 where none was predicted so


class Asked(NamedTuple):
    """Which tasks, and how they are measured."""

    tasks: int
    seed: int
    inductive_queries: int | None
    tasks_per_call: int
    inductive: bool = True


class Judge(Protocol):
    """What an evaluation asks of a task. Equal judges share a compiled program."""

    @property
    def learner(self) -> Learner:
        """Whose predictions are judged."""
        ...

    def prepare(
        self, meta: PyTree, sampler: StagedSampler, asked: Asked
    ) -> tuple[PyTree, Mapping[str, Any]]:
        """Checks a task; the arrays that judging takes, and facts for the protocol."""
        ...

    def __call__(self, meta: PyTree, task: Any, more: PyTree) -> Records:
        """The records of one task after each step."""
        ...


@dataclass(frozen=True)
class EpisodeJudge:
    """Judges the queries of an episode: as one batch, and each independently.

    Attributes:
      learner: the learner.
      record: `record(outputs, targets)`, of a metric.
    """

    learner: Learner
    record: Record

    def prepare(
        self, meta: PyTree, sampler: StagedSampler, asked: Asked
    ) -> tuple[PyTree, Mapping[str, Any]]:
        """The queries that are predicted independently too, and whether they are."""
        sample = check_tasks(self._adapted_record, meta, sampler, 1)
        rows = _spaced(_examples(sample.query), asked.inductive_queries)
        inductive = asked.inductive and asked.inductive_queries != 0
        facts = {
            "support_examples": _examples(sample.support),
            "query_examples": _examples(sample.query),
            QUERIES: len(rows) if inductive else 0,
        }
        return (rows, np.bool(inductive)), facts

    def __call__(self, meta: PyTree, task: Episode, more: PyTree) -> Records:
        """The records of one episode after each step."""
        (rows, inductive), (support, query) = more, task
        if (present := unpadded(query.targets)[1]) is not None:
            rows = _present_rows(present, len(rows))
        alone = per_query(self.learner)

        def independently(adapted: PyTree) -> PyTree:
            inputs, targets = jax.tree.map(lambda x: x[rows], query)
            taught = {"adapted": adapted, "support": support.inputs}
            return self.record(alone.predict(taught, inputs), targets)

        def both(adapted: PyTree) -> Records:
            outputs = self.learner.predict(adapted, query.inputs)
            together = self.record(outputs, query.targets)
            like = jax.eval_shape(independently, adapted)
            # A flag, not two programs: with and without, it is compiled once.
            apart = jax.lax.cond(
                inductive, independently, partial(_zeros, like), adapted
            )
            return together, apart

        return jax.lax.map(both, self.learner.trajectory(meta, support))

    def _adapted_record(self, meta: PyTree, episode: Episode) -> PyTree:
        check_episode(episode)
        support, query = episode
        adapted = self.learner.adapt(meta, support)
        return self.record(self.learner.predict(adapted, query.inputs), query.targets)


@dataclass(frozen=True)
class TaskJudge:
    """Judges a task of any kind that has a `support`, by a function.

    Attributes:
      learner: the learner.
      record: `record(outputs, targets)`, of a metric.
      judge: `judge(learner, adapted, task) -> (outputs, targets)`.
    """

    learner: Learner
    record: Record
    judge: JudgeTask

    def prepare(
        self, meta: PyTree, sampler: StagedSampler, asked: Asked
    ) -> tuple[PyTree, Mapping[str, Any]]:
        """It needs nothing more."""

        def adapted_record(meta: PyTree, task: Any) -> PyTree:
            adapted = self.learner.adapt(meta, task.support)
            return self.record(*self.judge(self.learner, adapted, task))

        check_tasks(adapted_record, meta, sampler, 1)
        return (), {QUERIES: 0}

    def __call__(self, meta: PyTree, task: Any, more: PyTree) -> Records:
        """The records of one task after each step; there is no other mode."""

        def one(adapted: PyTree) -> PyTree:
            return self.record(*self.judge(self.learner, adapted, task))

        records = jax.lax.map(one, self.learner.trajectory(meta, task.support))
        return records, jax.tree.map(jnp.zeros_like, records)


def judge_of(learner: Learner, record: Record, judge: JudgeTask | None) -> Judge:
    """Of episodes; or by a function, of any other kind of task."""
    if judge is None:
        return EpisodeJudge(learner, record)
    return TaskJudge(learner, record, judge)


def _spaced(queries: int, count: int | None) -> np.ndarray:
    """So many of the queries, evenly spaced; all of them for None, and one for 0."""
    count = queries if count is None else count
    check_count("inductive_queries", count, least=0)
    count = max(1, min(count, queries))
    return np.linspace(0, queries, count, endpoint=False).astype(int)


def _present_rows(present: Array, count: int) -> Array:
    """So many different rows: evenly spaced over those that are present.

    Where fewer are present, all of them, and then absent ones, which do not count.
    """
    if count == len(present):
        return jnp.arange(count)
    among = jnp.maximum(jnp.sum(present), count)
    return jnp.argsort(~present)[jnp.arange(count) * among // count]


def _examples(batch: Batch) -> int:
    return jax.tree.leaves(batch.inputs)[0].shape[1]


def _zeros(like: PyTree, _: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
