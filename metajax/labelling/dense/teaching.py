"""Teaches a learner what to outline or box, and says what to expect of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dense.episodes import LABELLERS
from metajax.data.dense.store import DenseStore, find_classes
from metajax.data.folders.listing import warn_each
from metajax.data.folders.names import some
from metajax.errors import InputError
from metajax.labelling.dense.marks import DenseTargets
from metajax.labelling.labeller import check_finite
from metajax.labelling.learner import FOLDS, ImageFormat
from metajax.labelling.trust.predictions import shuffled
from metajax.metrics import Metric
from metajax.types import Array, Batch, Learner, PyTree

CANNOT = (
    "accuracy cannot be estimated: every labelled picture is the only one of one of "
    "its classes; label at least 2 pictures of each class"
)


class DenseLearner(NamedTuple):
    """A learner of segmentation or detection: what labelling has to know of it.

    Attributes:
      build: `build(classes)`, the learner of that number of classes.
      format: how an image becomes an input.
      targets: masks or boxes.
      name: of the algorithm, for messages.
      ways: the number of classes that it takes; None of one that takes any.
    """

    build: Callable[[int], Learner]
    format: ImageFormat
    targets: DenseTargets
    name: str = "learner"
    ways: int | None = None

    def check_classes(self, names: tuple[str, ...]) -> None:
        """Checks that the learner takes so many classes.

        Raises:
          InputError: if there are none, or another number.
        """
        if not names:
            raise InputError(
                "no labelled picture shows a class; outline or box an object of each"
            )
        if self.ways not in (None, len(names)):
            raise InputError(
                f"got {len(names)} classes ({some(names)}), and this {self.name} takes "
                f"just {self.ways}; label pictures of {self.ways}, or train a learner "
                "of any number, such as correlation-segmenter or correlation-detector"
            )


class DenseLabeller(NamedTuple):
    """A learner that was taught what to outline or box.

    Attributes:
      source: the learner that was taught.
      names: of all classes of the labelled pictures' folder.
      classes: the numbers of those that were taught, `int[classes]`.
      support: the number of labelled pictures.
      learner: the learner of these classes.
      adapted: what its `adapt` returned.
      expected: what to expect, in sentences.
      bits: the depth that labelled images of 16 bits a pixel were read at.
    """

    source: DenseLearner
    names: tuple[str, ...]
    classes: np.ndarray
    support: int
    learner: Learner
    adapted: PyTree
    expected: tuple[str, ...]
    bits: int | None = None

    def decoded(self, images: np.ndarray) -> PyTree:
        """What `DenseTargets.decode` keeps of pictures, in NumPy.

        Args:
          images: `uint8[n, height, width, channels]`, as `source.format` says.

        Raises:
          InputError: if it is not finite.
        """
        form, decode = self.source.format, self.source.targets.decode
        inputs = form.to_inputs(jnp.asarray(images))
        outputs = _decoded(self.learner, decode, self.adapted, inputs)
        decoded, summary = jax.device_get(outputs)
        check_finite(summary)
        return decoded


@partial(jax.jit, static_argnums=(0, 1))
def _decoded(
    learner: Learner, decode: Callable[[Any], PyTree], adapted: PyTree, inputs: Array
) -> tuple[PyTree, Array]:
    outputs = learner.predict(adapted, inputs)
    return decode(outputs), _summary(outputs)


def _summary(outputs: PyTree) -> Array:
    """0 if all outputs are finite, or else NaN: a peak of NaN would be no peak."""
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(outputs)])
    return jnp.where(finite.all(), 0.0, jnp.nan)


def teach_dense(
    learner: DenseLearner, meta: PyTree, store: DenseStore
) -> DenseLabeller:
    """Teaches a learner the classes of labelled pictures.

    Each picture is in the support set once, with all that is labelled in it. It warns
    of classes that no picture shows, which are left out.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      store: the labelled pictures, as `DenseTargets.read` reads them.

    Returns:
      A `DenseLabeller`.

    Raises:
      InputError: if the learner does not take so many classes, or if its outputs are
        not finite.
    """
    kind = learner.targets
    contains = find_classes(store, kind.name)
    classes = np.flatnonzero(contains.any(1))
    unseen = [name for i, name in enumerate(store.names) if i not in classes]
    if unseen and len(classes):
        warn_each([f"no labelled picture shows {some(unseen)}, left out"])
    learner.check_classes(tuple(store.names[i] for i in classes))
    learner.format.warn_of_dark(store.images)
    labels = jax.tree.map(jnp.asarray, getattr(store, kind.name))
    _, targets = LABELLERS[kind.name](jnp.asarray(classes), labels, 0)
    inputs = learner.format.to_inputs(jnp.asarray(store.images))
    support, built = Batch(inputs, targets), learner.build(len(classes))
    expected = _expect(learner, built, meta, support, contains[classes])
    adapted = jax.jit(built.adapt)(meta, support)
    count = len(store.images)
    return DenseLabeller(
        learner, store.names, classes, count, built, adapted, (expected,), store.bits
    )


def _expect(
    source: DenseLearner,
    learner: Learner,
    meta: PyTree,
    support: Batch,
    contains: np.ndarray,
) -> str:
    """The score of labelled pictures, each predicted from the others, in a sentence.

    A picture can be left out if each of its classes is in another one too.
    """
    single = contains.sum(1) == 1
    able = np.flatnonzero(~contains[single].any(0))
    if contains.shape[1] < 2 or not len(able):
        return CANNOT
    out = able[shuffled(len(able))[:FOLDS]]
    metric = source.targets.metric(len(contains))
    records = _leave_out(learner, metric, meta, support, out)
    values, halves = metric.finish(jax.tree.map(lambda x: x[:, None], records))
    interval = f" ± {metric.format(halves[0])}" if np.isfinite(halves[0]) else ""
    sentence = (
        f"leave-one-out {source.targets.judged}: {metric.format(values[0])}{interval} "
        f"{metric.unit} on {len(out)} labelled pictures; expect similar on pictures "
        "like these, or higher if few examples remained"
    )
    if alone := int(single.sum()):
        few = "one class has" if alone == 1 else f"{alone} classes have"
        sentence += f"; {few} one picture, which cannot be left out"
    return sentence


def _leave_out(
    learner: Learner, metric: Metric, meta: PyTree, support: Batch, out: np.ndarray
) -> PyTree:
    """The metric's records of pictures, each predicted from all others."""

    @jax.jit
    def judge(meta: PyTree, support: Batch, rows: PyTree) -> tuple[PyTree, Array]:
        def fold(rows: tuple[Array, Array]) -> tuple[PyTree, Array]:
            one, others = rows
            adapted = learner.adapt(meta, jax.tree.map(lambda x: x[others], support))
            query = jax.tree.map(lambda x: x[one[None]], support)
            outputs = learner.predict(adapted, query.inputs)
            return metric.of_task(outputs, query.targets), _summary(outputs)

        return jax.lax.map(fold, rows)

    count = len(support.inputs)
    rest = np.stack([np.delete(np.arange(count), i) for i in out])
    rows = jnp.asarray(out), jnp.asarray(rest)
    records, summaries = jax.device_get(judge(meta, support, rows))
    check_finite(summaries)
    return records
