"""P>M>F: a backbone that is fine-tuned on each task's support set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metajax as mj
from benchmarks.emoji.pictures import Drawings, makers, read_pictures
from benchmarks.emoji.settings import FineTune
from benchmarks.emoji.tasks import Shape, Tasks, draw_tasks
from benchmarks.emoji.trial import accuracies
from metajax.metrics import intervals
from metajax.models import Backbone, load_backbone
from metajax.types import Array, Batch, Learner

WAYS = 5


def run_fine_tuning(settings: FineTune) -> dict[str, Any]:
    """The table of accuracies after each number of steps, on the same tasks."""
    backbone = load_backbone(settings.weights)
    pictures = read_pictures(settings.folder, settings.side, "test")
    drawings = Drawings(pictures, makers())
    learner = fine_tuned_backbone(backbone, settings.steps, settings.rate)
    rows: dict[str, Any] = {}
    for shape in (Shape(WAYS, shots) for shots in settings.shots):
        tasks = draw_tasks(
            drawings,
            shape,
            tasks=settings.tasks,
            seed=settings.seed,
            other_maker=settings.other_maker,
        )
        right = after_each_step(learner, drawings, tasks)
        for step, values in enumerate(right.T):
            mean, interval = intervals.mean(100 * values)
            row = {"mean": float(mean), "interval": float(interval)}
            name = f"P>M>F, {settings.side} pixels, {step} steps"
            rows.setdefault(name, {})[str(shape)] = row | {"tasks": settings.tasks}
    return {settings.title("accuracy") + ", fine-tuned": rows}


def fine_tuned_backbone(backbone: Backbone, steps: int, rate: float) -> Learner:
    """Cosines to class means, after Adam's steps on the support set.

    Args:
      backbone: the network.
      steps: of Adam, on the support set and small changes of it.
      rate: the learning rate.
    """
    learner = mj.meta_baseline(backbone.model, WAYS)
    augment = mj.data.jitter(
        shift=0.1, turn=10, scale=0.15, contrast=0.3, brightness=0.1
    )
    return mj.fine_tuned(learner, optax.adam(rate), steps, augment=augment)


def after_each_step(learner: Learner, drawings: Drawings, tasks: Tasks) -> np.ndarray:
    """The share of right queries of each task, `float[tasks, steps + 1]`."""
    meta = learner.init(jax.random.key(0))
    shots = tasks.support.shape[1]
    targets = jnp.repeat(jnp.arange(WAYS), shots)

    @jax.jit
    def run(support: Array, query: Array) -> Array:
        adapted = learner.trajectory(meta, Batch(support / 255, targets))
        return jax.lax.map(lambda each: learner.predict(each, query / 255), adapted)

    right = []
    for names, support, query in zip(tasks.names, tasks.support, tasks.query):
        values = drawings.values[names[:, None], support[None]].astype(np.float32)
        asked = drawings.values[names, query].astype(np.float32)
        outputs = np.asarray(
            run(jnp.asarray(np.concatenate(values)), jnp.asarray(asked))
        )
        right.append(accuracies(outputs, Shape(WAYS, shots)))
    return np.stack(right)
