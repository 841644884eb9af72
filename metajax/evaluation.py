"""Evaluation over many tasks, with intervals and the protocol beside the numbers."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import StoppedError
from metajax.fingerprint import digest
from metajax.losses import accuracy, over_present
from metajax.parallel import map_over_tasks
from metajax.sampling import task_sampler
from metajax.training import check_task
from metajax.types import (
    Array,
    Learner,
    Loss,
    PyTree,
    Sampler,
    check_count,
    check_seed,
    unpadded,
)
from metajax.unfinished import Scores, Unfinished

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


def evaluate(
    learner: Learner,
    meta: PyTree,
    episodes: Sampler,
    metric: Loss = accuracy,
    *,
    tasks: int = 1000,
    seed: int = 0,
    inductive_queries: int | None = None,
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
      episodes: `episodes(key, tasks) -> Episode`, of test classes.
      metric: `metric(outputs, targets) -> scalar`: `accuracy`, `mse`, or your own.
      tasks: the number of tasks, at least 2.
      seed: of the episodes.
      inductive_queries: how many queries a task are also predicted one by one, evenly
        spaced over the query set; all by default. Each costs a pass over the support
        set.
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
      InputError: for numbers out of range, episodes of the wrong shape, or labels that
        the model has no output for.
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
    check_count("tasks_per_call", tasks_per_call, least=1)
    check_seed("seed", seed)
    episodes = task_sampler(episodes)
    # Training may have left it on several devices; here it belongs to none.
    meta = jax.tree.map(jnp.asarray, jax.device_get(meta))
    sample = check_task(learner, meta, episodes, 1)
    support, query = (jax.tree.leaves(batch.inputs)[0].shape[1] for batch in sample)
    alone = query if inductive_queries is None else inductive_queries
    check_count("inductive_queries", alone, least=1)
    chosen = np.linspace(0, query, min(alone, query), endpoint=False).astype(int)

    calls = np.arange(-(-tasks // tasks_per_call) * tasks_per_call, dtype=np.uint32)
    calls = calls.reshape(-1, tasks_per_call)
    shared = _Shared(meta, episodes, jax.random.key(seed), chosen)
    length = _scores.eval_shape(learner, metric, shared, calls[0])[0].shape[1]
    facts = {
        "metric": getattr(metric, "__name__", str(metric)),
        "tasks": tasks,
        "seed": seed,
        "steps": length - 1,
        "support_examples": support,
        "query_examples": query,
        "inductive_queries": len(chosen),
        **(protocol or {}),
    }
    arrays = (meta, sample)
    owner = "" if unfinished is None else _owner(facts, tasks_per_call, arrays)
    program = partial(_scores, learner, metric, shared)
    scores = _score_calls(program, calls, Unfinished(unfinished, owner), stop)
    if len(scores) < len(calls):
        done = len(scores) * tasks_per_call
        raise StoppedError(f"stopped after {done} of {tasks} tasks", None)
    together, apart = (np.concatenate(s).astype(float)[:tasks] for s in zip(*scores))
    return Evaluation(_summary(together), _summary(apart), facts)


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


def _score_calls(
    program: Callable[[np.ndarray], Scores],
    calls: np.ndarray,
    kept: Unfinished,
    stop: Callable[[], bool],
) -> list[Scores]:
    """The scores of every call, of which some may be kept; fewer if stopped."""
    scores = kept.read()
    for indices in calls[len(scores) :]:
        if stop():
            break
        scores.append(program(indices))
        # One call ahead of the device, which so is neither idle nor out of reach.
        jax.block_until_ready(scores[-2:-1])
        kept.offer(scores[:-1])
    kept.write(scores)
    return scores


class _Shared(NamedTuple):
    """What all tasks of an evaluation have in common."""

    meta: PyTree
    episodes: Sampler
    key: Array
    chosen: Array


# At module level, so that a second evaluation of the same learner compiles nothing.
@partial(jax.jit, static_argnums=(0, 1))
def _scores(
    learner: Learner, metric: Loss, shared: _Shared, indices: Array
) -> tuple[Array, Array]:
    """(transductive, inductive) scores of tasks, each `[tasks, K + 1]`."""

    def scores(shared: _Shared, indices: Array) -> tuple[Array, Array]:
        return jax.vmap(partial(_score, learner, metric, shared))(indices)

    return map_over_tasks(scores, devices=jax.local_device_count())(shared, indices)


def _score(
    learner: Learner, metric: Loss, shared: _Shared, index: Array
) -> tuple[Array, Array]:
    meta, episodes, key, chosen = shared
    metric, rows = over_present(metric), chosen
    batch = episodes(jax.random.fold_in(key, index), 1)
    support, query = jax.tree.map(lambda x: x[0], batch)
    if (present := unpadded(query.targets)[1]) is not None:
        # Evenly spaced over those that are there.
        rows = jnp.argsort(~present)[chosen * jnp.sum(present) // len(present)]

    def alone(adapted: PyTree, x: PyTree) -> PyTree:
        inputs = jax.tree.map(
            lambda s, q: jnp.concatenate([s, q[None]]), support.inputs, x
        )
        return jax.tree.map(lambda y: y[-1], learner.predict(adapted, inputs))

    def both(adapted: PyTree) -> tuple[Array, Array]:
        together = metric(learner.predict(adapted, query.inputs), query.targets)
        inputs, targets = jax.tree.map(lambda x: x[rows], query)
        outputs = jax.vmap(alone, (None, 0))(adapted, inputs)
        return together, metric(outputs, targets)

    return jax.lax.map(both, learner.trajectory(meta, support))


def _summary(scores: np.ndarray) -> Score:
    """Mean over the tasks of `[tasks, K + 1]`, and the half-width of its interval."""
    with np.errstate(invalid="ignore"):  # an adaptation that diverges is a result too
        error = scores.std(axis=0, ddof=1) / np.sqrt(len(scores))
    return Score(scores.mean(axis=0), Z95 * error)
