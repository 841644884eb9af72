"""The tasks of an evaluation, call by call, and what is computed of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count, check_seed
from metajax.data.iterables import Fetched, Opened, leaves_of, opened, swapped
from metajax.data.purity import uses_key
from metajax.data.sampling import task_sampler
from metajax.data.single import one_task
from metajax.evaluation.judging import Asked, Judge, Records
from metajax.evaluation.unfinished import Unfinished
from metajax.training.parallel import map_over_tasks
from metajax.types import Array, Episode, PyTree, Sampler

NOT_YET = Fetched(None)  # a task, which each call is given


class Shared(NamedTuple):
    """What all tasks of an evaluation have in common."""

    meta: PyTree
    episodes: Sampler
    key: Array
    more: PyTree


class Prepared(NamedTuple):
    """An evaluation that is ready to run.

    Attributes:
      run: `run(batch)`, the records of the tasks of a call: `(transductive,
        inductive)`, whose leaves are `[tasks, K + 1, ...]`.
      batches: the tasks of each call.
      facts: of the protocol.
      arrays: the meta-parameters, and a task, sampled when it is asked for.
      is_read: whether tasks come from an iterable.
      like: the shapes of what `run` returns.
    """

    run: Callable[[PyTree], Records]
    batches: Iterator[PyTree]
    facts: Mapping[str, Any]
    arrays: Callable[[], PyTree]
    is_read: bool
    like: Records


@contextmanager
def prepared(
    judge: Judge, meta: PyTree, episodes: Sampler | Iterable[Episode], asked: Asked
) -> Iterator[Prepared]:
    """Checks what is asked, and prepares to judge every task."""
    tasks, seed, size = asked.tasks, asked.seed, asked.tasks_per_call
    check_count("tasks_per_call", size, least=1)
    check_seed("seed", seed)
    # Training may have left it on several devices; here it belongs to none.
    meta = jax.tree.map(jnp.asarray, jax.device_get(meta))
    with opened(task_sampler(episodes)) as sampler:
        more, facts = judge.prepare(meta, sampler, asked)
        readers = leaves_of(sampler, Opened)
        seeded = not readers or uses_key(sampler, 1)
        given = readers[0].calls(tasks, size) if readers else repeat(None)
        calls = np.arange(-(-tasks // size) * size, dtype=np.uint32).reshape(-1, size)
        batches = zip(calls, given)
        first = next(batches)
        sampler = swapped(sampler, Opened, lambda _: NOT_YET)
        shared = Shared(meta, sampler, jax.random.key(seed), more)
        like = _records.eval_shape(judge, shared, first)
        facts = {
            "tasks": tasks,
            **({"seed": seed} if seeded else {}),
            **({"episodes": "in their order"} if readers else {}),
            "steps": jax.tree.leaves(like)[0].shape[1] - 1,
            **facts,
        }
        run = partial(_records, judge, shared)
        arrays = partial(_arrays, meta, sampler)
        batches = chain([first], batches)
        yield Prepared(run, batches, facts, arrays, bool(readers), like)


def _arrays(meta: PyTree, episodes: Sampler) -> PyTree:
    return meta, one_task(episodes)


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


# At module level, so that a second evaluation of the same learner compiles nothing.
@partial(jax.jit, static_argnums=0)
def _records(judge: Judge, shared: Shared, batch: PyTree) -> Records:
    """The records of tasks, whose leaves are `[tasks, K + 1, ...]`."""

    def records(shared: Shared, batch: PyTree) -> Records:
        return jax.vmap(partial(_record, judge, shared))(batch)

    return map_over_tasks(records, devices=jax.local_device_count())(shared, batch)


def _record(judge: Judge, shared: Shared, task: PyTree) -> Records:
    """Of one task: its number and, where tasks are read, what was read."""
    meta, episodes, key, more = shared
    index, given = task
    one = Fetched(jax.tree.map(lambda x: x[None], given))
    batch = swapped(episodes, Fetched, lambda _: one)(jax.random.fold_in(key, index), 1)
    return judge(meta, jax.tree.map(lambda x: x[0], batch), more)
