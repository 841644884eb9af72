"""The types that all modules share: `Batch`, `Episode`, `Model`, `Learner`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import Keyed, undrawn, values_of

Array = jax.Array
PyTree = Any
Params = Any
Metrics = Mapping[str, Array]


class Padded(NamedTuple):
    """Examples, some of which are padding, so that all tasks have one shape.

    A `Batch` of them has `Padded` inputs and `Padded` targets. A loss is the mean over
    the examples that are present, and batch norm's statistics leave out the others.

    Attributes:
      values: a pytree whose leaves have shape `[examples, ...]`.
      present: `bool[examples]`.
      allowed: for labels, the outputs that stand for a class of the episode,
        `bool[examples, outputs]`; the softmax leaves out the others. All by default.
    """

    values: PyTree
    present: Array
    allowed: Array | None = None


class Batch(NamedTuple):
    """Inputs and their targets, stacked along a leading axis of examples.

    Attributes:
      inputs: a pytree whose leaves have shape `[examples, ...]`, or `Padded`, or
        `Keyed` of either.
      targets: class labels `int32[examples]`, probabilities of the classes
        `float[examples, ways]`, or values `float[examples, ...]`, or `Padded` of them.
    """

    inputs: PyTree
    targets: PyTree


class Episode(NamedTuple):
    """One few-shot task: a learner adapts to `support` and is judged on `query`.

    A meta-batch is the same pytree with a leading task axis on every leaf.
    """

    support: Batch
    query: Batch


class LabelledValues(NamedTuple):
    """Values at points of a labelled signal, such as an image; or predictions of them.

    Attributes:
      values: `float[points, channels]`.
      labels: the class of the signal beside each point, `int32[points]`; of
        predictions its logits, `float[points, classes]`.
      signals: of targets, the number of the signal beside each point, `int32[points]`,
        the same whenever it is drawn; None where that is not known.
    """

    values: Any
    labels: Any
    signals: Any = None


def keep(params: Params, inputs: PyTree) -> Params:
    """Returns the parameters unchanged: the default `settle` of a `Model`."""
    return params


class Model(NamedTuple):
    """A network as two pure functions of ONE batch.

    Attributes:
      init: `init(key) -> params`.
      apply: `apply(params, inputs) -> outputs`.
      parts: the body and the head of a network made by `metajax.headed`, whose
        parameters are `{"body": ..., "head": ...}`; None for any other.
      settle: `settle(params, inputs) -> params`, which a learner applies to adapted
        parameters and the support set before it predicts. A network that normalises by
        the support set's statistics stores them here. It does nothing by default.
      inference: the same function of plain inputs without random numbers, for a network
        whose `apply` draws them from the keys of `Keyed` inputs (`Keyed.of(inputs)`);
        None for a network that draws nothing.
    """

    init: Callable[[Array], Params]
    apply: Callable[[Params, PyTree], PyTree]
    parts: "tuple[Model, Model] | None" = None
    settle: Callable[[Params, PyTree], Params] = keep
    inference: Callable[[Params, PyTree], PyTree] | None = None

    def forward(self, params: Params, inputs: PyTree) -> PyTree:
        """The outputs of a training pass, in which dropout and the like are active.

        Raises:
          InputError: if the network draws random numbers and the inputs have no keys.
        """
        if self.inference is None:
            return self.apply(params, values_of(inputs))
        if isinstance(inputs, Keyed) and inputs.keys is None:
            return self.inference(params, inputs.values)
        return self.apply(params, inputs)

    def predict(self, params: Params, inputs: PyTree) -> PyTree:
        """The outputs to predict with; no random numbers are drawn."""
        return self.forward(params, undrawn(inputs))


def keep_task(meta: PyTree, task: PyTree) -> PyTree:
    """Returns the task unchanged: the default `collect` of a `Learner`."""
    return task


class Learner(NamedTuple):
    """A few-shot learning algorithm as pure functions of ONE task.

    Attributes:
      init: `init(key) -> meta`, the meta-parameters: any pytree.
      adapt: `adapt(meta, support) -> adapted`, which learns from the support set.
      predict: `predict(adapted, inputs) -> outputs`.
      loss: `loss(meta, episode) -> (scalar, metrics)`; its gradient with respect to
        `meta` is the outer gradient.
      trajectory: `trajectory(meta, support) -> adapted` after 0, 1, ..., K steps,
        stacked along a new leading axis; its last entry is `adapt`'s result. A learner
        without inner steps returns a stack of one.
      collect: `collect(meta, task) -> data`, which `loss` takes in place of the task. A
        learner whose data depend on its parameters sets it, so that several updates can
        share the data (`metajax.repeated_step`). It returns the task by default.
    """

    init: Callable[[Array], PyTree]
    adapt: Callable[[PyTree, Any], PyTree]
    predict: Callable[[PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, Any], tuple[Array, Metrics]]
    trajectory: Callable[[PyTree, Any], PyTree]
    collect: Callable[[PyTree, PyTree], PyTree] = keep_task


LearnerSchedule = Callable[[Array], Learner]
"""A learner that changes during training: `schedule(step) -> Learner`.

`step`, the number of meta-steps done, is traced. All of its learners must share one
structure of meta-parameters.
"""


def learner_at(learner: Learner | LearnerSchedule, step: Array | int) -> Learner:
    """The learner after `step` meta-steps."""
    return learner if isinstance(learner, Learner) else learner(jnp.asarray(step))


class Loss(Protocol):
    """`loss(outputs, targets) -> scalar` over one batch."""

    def __call__(self, outputs: Any, targets: Any, /) -> Array:
        """The loss."""
        ...


class Sampler(Protocol):
    """`episodes(key, tasks) -> tasks`, every leaf with a leading axis of `tasks`.

    It is called inside `jit`. A sampler that holds arrays should be a pytree (see
    `metajax.data.Images`), so that they are arguments of the compiled step and not
    constants in it. A `metajax.data.StagedSampler` makes each task on the device that
    trains on it. Tasks are `Episode`s, or the pytrees that other learners take.
    """

    def __call__(self, key: Array, tasks: int, /) -> Any:
        """A meta-batch of `tasks` tasks."""
        ...


class GradTransform(Protocol):
    """`grad(loss_fn)(params, batch) -> gradient`, a function like `jax.grad`."""

    def __call__(self, fun: Callable[..., Array], /) -> Callable[..., Params]:
        """The gradient of `fun` with respect to its first argument."""
        ...


def unpadded(inputs: PyTree) -> tuple[PyTree, Array | None]:
    """The values without keys, and which of them are present; None if all are.

    >>> unpadded(Padded(jnp.zeros(2), jnp.array([True, False])))[1].tolist()
    [True, False]
    """
    inputs = values_of(inputs)
    if isinstance(inputs, Padded):
        return inputs.values, inputs.present
    return inputs, None
