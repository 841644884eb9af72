"""The tasks of an evaluation, call by call, and what is computed of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax._autodiff.programs import program_digest
from metajax._files.fingerprint import digest
from metajax.checks import check_count, check_learner, check_seed
from metajax.data.checking import one_task
from metajax.data.opening import for_program, open_iterable, opened
from metajax.data.purity import uses_key
from metajax.data.reading import TaskFetcher, task_of
from metajax.data.sampling import StagedSampler
from metajax.data.staging import staged
from metajax.evaluation.judging import Asked, Judge, Records
from metajax.evaluation.unfinished import Unfinished
from metajax.training.parallel import map_over_tasks
from metajax.training.programs import kept_with
from metajax.types import Array, Episode, PyTree, Sampler


class Shared(NamedTuple):
    """What all tasks of an evaluation have in common."""

    meta: PyTree
    episodes: StagedSampler
    key: Array
    more: PyTree


class Prepared(NamedTuple):
    """An evaluation that is ready to run.

    Attributes:
      run: `run(numbers)`, the records of the tasks of a call: `(transductive,
        inductive)`, whose leaves are `[tasks, K + 1, ...]`.
      batches: the numbers of the tasks of each call.
      facts: of the protocol.
      digests: computes those of the program of a call, and of the meta-parameters and
        a task that is sampled.
      is_read: whether tasks come from an iterable.
      like: the shapes of what `run` returns.
    """

    run: Callable[[PyTree], Records]
    batches: Iterator[PyTree]
    facts: Mapping[str, Any]
    digests: Callable[[], tuple[str, str]]
    is_read: bool
    like: Records


@contextmanager
def prepared(
    judge: Judge, meta: PyTree, episodes: Sampler | Iterable[Episode], asked: Asked
) -> Iterator[Prepared]:
    """Checks what is asked, and prepares to judge every task."""
    tasks, seed, size = asked.tasks, asked.seed, asked.tasks_per_call
    check_learner(judge.learner)
    check_count("tasks_per_call", size, least=1)
    check_seed("seed", seed)
    # Training may have left it on several devices; here it belongs to none.
    meta = jax.tree.map(jnp.asarray, jax.device_get(meta))
    with opened(staged(episodes)) as sampler:
        more, facts = judge.prepare(meta, sampler, asked)
        iterable = open_iterable(sampler)
        seeded = iterable is None or uses_key(sampler, 1)
        calls = np.arange(-(-tasks // size) * size, dtype=np.uint32).reshape(-1, size)
        key = jax.random.key(seed)
        fetch = TaskFetcher(sampler, key, tasks)
        if iterable is not None:
            iterable.start()
        sampler = for_program(sampler)
        shared = Shared(meta, sampler, key, more)
        one = calls[0], fetch.like(calls[0])
        records = kept_with(judge.learner, _jitted, judge)
        like = records.eval_shape(shared, one)

        def run(numbers: np.ndarray) -> Records:
            return records(shared, (numbers, fetch(numbers)))

        def digests() -> tuple[str, str]:
            program = program_digest(records.trace(shared, one).jaxpr)
            return program, digest((meta, one_task(sampler)))

        facts = {
            "tasks": tasks,
            **({"seed": seed} if seeded else {}),
            **({} if iterable is None else {"episodes": "in their order"}),
            "steps": jax.tree.leaves(like)[0].shape[1] - 1,
            **facts,
        }
        yield Prepared(run, iter(calls), facts, digests, iterable is not None, like)


def score_calls(
    run: Callable[[PyTree], Records],
    batches: Iterator[PyTree],
    kept: Unfinished,
    stop: Callable[[], bool],
) -> list[Records]:
    """The records of every call, of which some may be kept; fewer if stopped."""
    records = kept.read()
    for batch in islice(batches, len(records), None):
        if stop():
            break
        records.append(run(batch))
        # One call ahead of the device, which so is neither idle nor out of reach.
        records[-2:-1] = jax.device_get(records[-2:-1])
        kept.offer(records[:-1])
    kept.write(records)
    return records


def joined(records: list[PyTree], tasks: int) -> PyTree:
    """Of all calls, on the host."""
    return jax.tree.map(lambda *x: np.concatenate(x)[:tasks], *records)


def _jitted(judge: Judge) -> Any:
    """`records(shared, batch)`, of tasks, whose leaves are `[tasks, K + 1, ...]`.

    It is kept with the learner, so that a second evaluation compiles nothing.
    """

    def records(shared: Shared, batch: PyTree) -> Records:
        return jax.vmap(partial(_record, judge, shared))(batch)

    mapped = map_over_tasks(records, devices=jax.local_device_count())

    def evaluated_records(shared: Shared, batch: PyTree) -> Records:
        return mapped(shared, batch)

    return jax.jit(evaluated_records)


def _record(judge: Judge, shared: Shared, task: PyTree) -> Records:
    """Of one task: its number, and what was fetched for it, if anything is."""
    meta, episodes, key, more = shared
    return judge(meta, task_of(episodes, key, *task), more)
