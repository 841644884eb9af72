"""Diagnostics are written for one task; here they run over a meta-batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._pytrees.constant import check_learnt
from metajax.checks import check_count, check_episodes
from metajax.errors import InputError
from metajax.losses import over_present
from metajax.study.named import Named
from metajax.training.parallel import map_over_tasks, mean_over_tasks, weighted_sum
from metajax.types import Array, Batch, Episode, GradTransform, Learner, Loss, PyTree

Build = Callable[[GradTransform], Learner]
"""A learner by how its inner gradient is differentiated, such as
`lambda grad: metajax.maml(model, loss, optimizer, steps, grad=grad)`."""


def count_tasks(episodes: Any) -> int:
    """The tasks of a meta-batch: of `Episode`s, or others with a `support`.

    Raises:
      InputError: if it is not one.
    """
    if not hasattr(episodes, "support"):
        raise InputError(
            "episodes must be a metajax.Episode whose leaves have a leading axis of "
            "tasks, as a sampler returns it: episodes(key, tasks); got "
            f"{type(episodes).__name__}"
        )
    if not isinstance(episodes, Episode):
        return leading_axis(episodes)
    leaves = jax.tree.leaves(episodes)
    tasks = len(leaves[0]) if leaves and np.ndim(leaves[0]) else 0
    check_count("the tasks of a meta-batch", tasks, least=1)
    check_episodes(episodes, tasks)
    return tasks


def leading_axis(tasks: PyTree) -> int:
    """The tasks of a meta-batch of any kind of task.

    Raises:
      InputError: if it is not one.
    """
    counts = {len(x) if np.ndim(x) else 0 for x in jax.tree.leaves(tasks)}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            "every leaf of a meta-batch must have a leading axis of tasks, of the same "
            f"length, got the lengths {sorted(counts)}"
        )
    return counts.pop()


def of_each_task(
    function: Callable[..., PyTree],
    shared: PyTree,
    episodes: Episode,
    *more: PyTree,
) -> PyTree:
    """`function(shared, episode, *more)` of every task, stacked, in numpy.

    Each of `more` has a leading axis of tasks too.

    The tasks are shared among the local devices and run in chunks, as in training. The
    function must not call LAPACK (`jnp.linalg.svd`, `eigh`): on CPU devices that share
    their threads, such a program waits for itself.

    Raises:
      InputError: if `episodes` is not a meta-batch, or a `Constant` is among `shared`.
    """
    count_tasks(episodes)
    check_learnt("metajax.study", shared)
    run = map_over_tasks(
        lambda shared, batch: jax.vmap(partial(function, shared))(*batch),
        devices=jax.local_device_count(),
    )
    return jax.device_get(jax.jit(run)(_anywhere(shared), (episodes, *more)))


def mean_of_tasks(
    function: Callable[[PyTree, Episode], PyTree], shared: PyTree, episodes: Episode
) -> PyTree:
    """The mean of `function(shared, episode)` over the tasks, in numpy.

    Unlike `of_each_task`, it keeps one result of the function and no more.

    Raises:
      InputError: if `episodes` is not a meta-batch, or a `Constant` is among `shared`.
    """
    count_tasks(episodes)
    check_learnt("metajax.study", shared)

    def weighted(shared: PyTree, batch: Episode, weights: Array) -> PyTree:
        result = jax.vmap(function, (None, 0))(shared, batch)
        return jax.tree.map(partial(weighted_sum, weights), result)

    run = mean_over_tasks(weighted, devices=jax.local_device_count())
    return jax.device_get(jax.jit(run)(_anywhere(shared), episodes))


def entry(tree: PyTree, place: int | slice | np.ndarray) -> PyTree:
    """One place, or several, of the leading axis of every leaf."""
    return jax.tree.map(lambda x: x[place], tree)


def path_length(learner: Learner, meta: PyTree, episodes: Episode) -> int:
    """K + 1, of a learner's trajectory."""
    path = jax.eval_shape(learner.trajectory, meta, entry(episodes.support, 0))
    return jax.tree.leaves(path)[0].shape[0]


def at(learner: Learner, loss: Loss) -> Callable[[PyTree, Batch], Array]:
    """`loss` of what a learner predicts, as a function of what it adapted and a batch.

    With the loss that it was built with, this is what its inner loop descends, if that
    takes plain steps on the whole support set. It is not, where the learner adds a term
    (iMAML), sees mini-batches, has a norm for each step (MAML++), or keeps the support
    set's statistics beside its parameters (`conv4(norm="support")`): what was adapted
    is then looked at as it is used to predict.
    """
    score = over_present(loss)

    def value(adapted: PyTree, batch: Batch) -> Array:
        return score(learner.predict(adapted, batch.inputs), batch.targets)

    return value


def per_task(values: np.ndarray, *axes: str) -> Named:
    """An array whose first axis is that of the tasks."""
    return Named(np.asarray(values), ("task", *axes))


def _anywhere(tree: PyTree) -> PyTree:
    """Training may have left it on several devices; here it belongs to none."""
    return jax.tree.map(jnp.asarray, jax.device_get(tree))
