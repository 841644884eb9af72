"""The tasks of an evaluation, call by call, and what is computed of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count, check_episode, check_seed
from metajax.data.checking import check_tasks, one_task
from metajax.data.opening import for_program, open_iterable, opened
from metajax.data.purity import uses_key
from metajax.data.reading import TaskFetcher, task_of
from metajax.data.sampling import StagedSampler
from metajax.data.staging import staged
from metajax.evaluation.unfinished import Unfinished
from metajax.training.parallel import map_over_tasks
from metajax.types import Array, Batch, Episode, Learner, PyTree, Sampler, unpadded


class Asked(NamedTuple):
    """Which tasks, and how they are measured."""

    tasks: int
    seed: int
    inductive_queries: int | None
    tasks_per_call: int
    inductive: bool = True


class Shared(NamedTuple):
    """What all tasks of an evaluation have in common."""

    meta: PyTree
    episodes: StagedSampler
    key: Array
    chosen: np.ndarray | Array
    inductive: np.bool


class Prepared(NamedTuple):
    """An evaluation that is ready to run.

    Attributes:
      run: `run(numbers)`, what is asked for of the tasks of a call: `(transductive,
        inductive)`, whose leaves are `[tasks, K + 1, ...]`.
      batches: the numbers of the tasks of each call.
      facts: of the protocol.
      arrays: the meta-parameters, and a task, sampled when it is asked for.
      is_read: whether tasks come from an iterable.
    """

    run: Callable[[PyTree], tuple[PyTree, PyTree]]
    batches: Iterator[PyTree]
    facts: Mapping[str, Any]
    arrays: Callable[[], PyTree]
    is_read: bool


@contextmanager
def prepared(
    learner: Learner,
    meta: PyTree,
    episodes: Sampler | Iterable[Episode],
    of_task: Callable,
    asked: Asked,
) -> Iterator[Prepared]:
    """Checks what is asked, and prepares `of_task(outputs, targets)` of every task."""
    tasks, seed, _, size, inductive = asked
    check_count("tasks_per_call", size, least=1)
    check_seed("seed", seed)
    # Training may have left it on several devices; here it belongs to none.
    meta = jax.tree.map(jnp.asarray, jax.device_get(meta))
    with opened(staged(episodes)) as sampler:
        sample = check_tasks(partial(_judged, learner, of_task), meta, sampler, 1)
        chosen = _chosen(sample, asked)
        iterable = open_iterable(sampler)
        seeded = iterable is None or uses_key(sampler, 1)
        calls = np.arange(-(-tasks // size) * size, dtype=np.uint32).reshape(-1, size)
        key = jax.random.key(seed)
        fetch = TaskFetcher(sampler, key, tasks)
        if iterable is not None:
            iterable.start()
        sampler = for_program(sampler)
        shared = Shared(meta, sampler, key, chosen, np.bool(inductive))
        like = calls[0], fetch.like(calls[0])
        shapes = _scores.eval_shape(learner, of_task, shared, like)
        support, query = map(_examples, sample)

        def run(numbers: np.ndarray) -> tuple[PyTree, PyTree]:
            return _scores(learner, of_task, shared, (numbers, fetch(numbers)))

        facts = {
            "tasks": tasks,
            **({"seed": seed} if seeded else {}),
            **({} if iterable is None else {"episodes": "in their order"}),
            "steps": jax.tree.leaves(shapes)[0].shape[1] - 1,
            "support_examples": support,
            "query_examples": query,
            "inductive_queries": len(chosen) if inductive else 0,
        }
        arrays = partial(_arrays, meta, sampler)
        yield Prepared(run, iter(calls), facts, arrays, iterable is not None)


def _arrays(meta: PyTree, episodes: StagedSampler) -> PyTree:
    return meta, one_task(episodes)


def _judged(
    learner: Learner, of_task: Callable, meta: PyTree, episode: Episode
) -> PyTree:
    check_episode(episode)
    support, query = episode
    outputs = learner.predict(learner.adapt(meta, support), query.inputs)
    return of_task(outputs, query.targets)


def _chosen(sample: Episode, asked: Asked) -> np.ndarray:
    """The queries that are predicted one by one too, evenly spaced."""
    query, alone = _examples(sample.query), asked.inductive_queries
    alone = query if alone is None else alone
    check_count("inductive_queries", alone, least=1)
    return np.linspace(0, query, min(alone, query), endpoint=False).astype(int)


def _examples(batch: Batch) -> int:
    return jax.tree.leaves(batch.inputs)[0].shape[1]


def score_calls(
    program: Callable[[PyTree], Any],
    batches: Iterator[PyTree],
    kept: Unfinished,
    stop: Callable[[], bool],
) -> list[Any]:
    """The scores of every call, of which some may be kept; fewer if stopped."""
    scores = kept.read()
    for batch in islice(batches, len(scores), None):
        if stop():
            break
        scores.append(program(batch))
        # One call ahead of the device, which so is neither idle nor out of reach.
        scores[-2:-1] = jax.device_get(scores[-2:-1])
        kept.offer(scores[:-1])
    kept.write(scores)
    return scores


def joined(scores: list[PyTree], tasks: int) -> PyTree:
    """Of all calls, on the host."""
    return jax.tree.map(lambda *x: np.concatenate(x)[:tasks], *scores)


# At module level, so that a second evaluation of the same learner compiles nothing.
@partial(jax.jit, static_argnums=(0, 1))
def _scores(
    learner: Learner, of_task: Callable, shared: Shared, batch: PyTree
) -> tuple[PyTree, PyTree]:
    """`of_task(outputs, targets)` of tasks, (transductive, inductive).

    Their leaves are `[tasks, K + 1, ...]`.
    """

    def scores(shared: Shared, batch: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(partial(_score, learner, of_task, shared))(batch)

    return map_over_tasks(scores, devices=jax.local_device_count())(shared, batch)


def _score(
    learner: Learner, of_task: Callable, shared: Shared, task: PyTree
) -> tuple[PyTree, PyTree]:
    """Of one task: its number, and what was fetched for it, if anything is."""
    meta, episodes, key, rows, inductive = shared
    support, query = task_of(episodes, key, *task)
    if (present := unpadded(query.targets)[1]) is not None:
        # Evenly spaced over those that are there.
        rows = jnp.argsort(~present)[rows * jnp.sum(present) // len(present)]

    def alone(adapted: PyTree, x: PyTree) -> PyTree:
        inputs = jax.tree.map(
            lambda s, q: jnp.concatenate([s, q[None]]), support.inputs, x
        )
        return jax.tree.map(lambda y: y[-1], learner.predict(adapted, inputs))

    def one_by_one(adapted: PyTree) -> PyTree:
        inputs, targets = jax.tree.map(lambda x: x[rows], query)
        return of_task(jax.vmap(alone, (None, 0))(adapted, inputs), targets)

    def both(adapted: PyTree) -> tuple[PyTree, PyTree]:
        together = of_task(learner.predict(adapted, query.inputs), query.targets)
        like = jax.eval_shape(one_by_one, adapted)
        # Not of the program: one that leaves them out is the same, compiled once.
        apart = jax.lax.cond(inductive, one_by_one, partial(_zeros, like), adapted)
        return together, apart

    return jax.lax.map(both, learner.trajectory(meta, support))


def _zeros(like: PyTree, _: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
