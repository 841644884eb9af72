"""One task of a sampler, and whether a learner can take its tasks."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from metajax.data.arrays import take_rows
from metajax.data.purity import check_sampler
from metajax.data.sampling import StagedSampler, is_argument
from metajax.data.staging import draw_and_fetch
from metajax.types import Array, PyTree

QUICKLY = {"xla_backend_optimization_level": 0}  # an eighth of the time to compile


def check_tasks(
    judge: Callable[[PyTree, PyTree], Any],
    meta: PyTree,
    episodes: StagedSampler,
    tasks: int,
) -> PyTree:
    """Checks that a learner can take a sampler's tasks, on one that it samples.

    Args:
      judge: `judge(meta, task)`, the loss or the metrics of ONE task, which checks what
        it is given.
      meta: the meta-parameters.
      episodes: the sampler.
      tasks: tasks a meta-batch.

    Returns:
      A meta-batch of one task, abstract.

    Raises:
      InputError: for a wrong number of tasks, a sampler that does not use its key, or
        what `judge` refuses, such as labels that the model has no output for.
    """
    check_sampler(episodes, tasks)
    sample = jax.eval_shape(episodes.make, episodes.fetched_like(1))
    known = iter(_sampled(episodes, _whole_numbers))

    def task_of(sample: PyTree) -> PyTree:
        # Labels have their values, so that a loss can look at them; the rest is traced.
        return jax.tree.map(lambda x: next(known) if _is_whole(x) else x[0], sample)

    jax.eval_shape(lambda meta, sample: judge(meta, task_of(sample)), meta, sample)
    return sample


def one_task(episodes: StagedSampler) -> PyTree:
    """A task of a sampler, always the same one."""
    return _sampled(episodes, _whole_task)


def once(function: Callable) -> Callable:
    """A jitted function that is quick to compile, and slower to run.

    Its numbers may differ in the last bit from those of `jax.jit`.

    Args:
      function: as for `jax.jit`.
    """
    quick = jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options=QUICKLY if quick else None)


def _whole_task(task: PyTree) -> PyTree:
    return task


def _whole_numbers(task: PyTree) -> list[Array]:
    """The leaves of labels, and of which examples are present."""
    return [x for x in jax.tree.leaves(task) if _is_whole(x)]


def _is_whole(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool


def _sampled(episodes: StagedSampler, part: Callable[[PyTree], PyTree]) -> PyTree:
    key = jax.random.key(0)
    if episodes.fetching is None:
        if is_argument(episodes):
            return _program(part)(episodes, key)
        return once(lambda key: _one(part, episodes, key))(key)
    drawn, sampler = draw_and_fetch(episodes, key, 1)
    return part(take_rows(sampler.make(drawn), 0))


@lru_cache
def _program(part: Callable[[PyTree], PyTree]) -> Callable:
    return once(partial(_one, part))


def _one(part: Callable[[PyTree], PyTree], episodes: StagedSampler, key: Array) -> Any:
    return part(take_rows(episodes(key, 1), 0))
