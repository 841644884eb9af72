"""Diagnostics are written for one task; here they run over a meta-batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.losses import over_present
from metajax.parallel import map_over_tasks, mean_over_tasks
from metajax.study.named import Named
from metajax.types import (
    Array,
    Batch,
    Episode,
    GradTransform,
    Learner,
    Loss,
    PyTree,
    check_episodes,
)

Build = Callable[[GradTransform], Learner]
"""A learner by how its inner gradient is differentiated, such as
`lambda grad: metajax.maml(model, loss, optimizer, steps, grad=grad)`."""


def count_tasks(episodes: Episode) -> int:
    """The tasks of a meta-batch.

    Raises:
      InputError: if it is not one.
    """
    if not isinstance(episodes, Episode):
        raise InputError(
            "episodes must be a metajax.Episode whose leaves have a leading axis of "
            "tasks, as a sampler returns it: episodes(key, tasks); got "
            f"{type(episodes).__name__}"
        )
    leaves = jax.tree.leaves(episodes)
    tasks = len(leaves[0]) if leaves and np.ndim(leaves[0]) else 0
    check_episodes(episodes, tasks)
    return tasks


def of_each_task(
    function: Callable[[PyTree, Episode], PyTree],
    shared: PyTree,
    episodes: Episode,
    *,
    devices: int | None = None,
) -> PyTree:
    """`function(shared, episode)` of every task, stacked, in numpy.

    The tasks are shared among the local devices and run in chunks, as in training; or
    among so many of them. A function that calls LAPACK (`jnp.linalg.svd`, `eigh`) must
    have 1: on CPU devices that share their threads, such a program waits for itself.

    Raises:
      InputError: if `episodes` is not a meta-batch.
    """
    count_tasks(episodes)
    run = map_over_tasks(
        jax.vmap(function, (None, 0)),
        devices=jax.local_device_count() if devices is None else devices,
    )
    return jax.device_get(jax.jit(run)(_anywhere(shared), episodes))


def mean_of_tasks(
    function: Callable[[PyTree, Episode], PyTree], shared: PyTree, episodes: Episode
) -> PyTree:
    """The mean of `function(shared, episode)` over the tasks, in numpy.

    Unlike `of_each_task`, it keeps one result of the function and no more.

    Raises:
      InputError: if `episodes` is not a meta-batch.
    """
    count_tasks(episodes)

    def weighted(shared: PyTree, batch: Episode, weights: Array) -> PyTree:
        found = jax.vmap(function, (None, 0))(shared, batch)
        return jax.tree.map(
            lambda x: jnp.tensordot(weights.astype(x.dtype), x, 1, precision="highest"),
            found,
        )

    run = mean_over_tasks(weighted, devices=jax.local_device_count())
    return jax.device_get(jax.jit(run)(_anywhere(shared), episodes))


def at(learner: Learner, loss: Loss) -> Callable[[PyTree, Batch], Array]:
    """`loss` of what a learner predicts, as a function of what it adapted and a batch.

    With the loss that it was built with, this is what its inner loop descends.
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
