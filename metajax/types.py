"""The nouns: `Batch`, `Episode`, `Model`, `Learner`."""

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
    """Examples of which some are padding, so that all tasks have one shape.

    A `Batch` of them has `Padded` inputs and `Padded` targets. What is padding has no
    part in a loss, which is a mean over the examples that are present, nor in batch
    norm's statistics.

    Attributes:
      values: a pytree whose leaves have shape `[examples, ...]`.
      present: `bool[examples]`.
      allowed: of labels, the outputs that stand for a class of the episode,
        `bool[examples, outputs]`; the others are out of the softmax. All by default.
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
    """One few-shot task: adapt to `support`, be judged on `query`.

    A meta-batch is the same pytree with a leading task axis on every leaf.
    """

    support: Batch
    query: Batch


def keep(params: Params, inputs: PyTree) -> Params:
    """The parameters as they are."""
    return params


class Model(NamedTuple):
    """A network as two pure functions of ONE batch.

    Attributes:
      init: `init(key) -> params`.
      apply: `apply(params, inputs) -> outputs`.
      parts: the body and the head that it was made of by `metajax.headed`, if it was;
        its parameters are then `{"body": ..., "head": ...}`.
      settle: `settle(params, inputs) -> params`, what a learner does with adapted
        parameters and the support set before it predicts: a network that normalises by
        the support set's statistics keeps them here. Nothing, by default.
      inference: of a network whose `apply` draws random numbers, of the keys of
        `Keyed` inputs (`Keyed.of(inputs)`), the same function of plain inputs without
        drawing any; None of one that draws nothing.
    """

    init: Callable[[Array], Params]
    apply: Callable[[Params, PyTree], PyTree]
    parts: "tuple[Model, Model] | None" = None
    settle: Callable[[Params, PyTree], Params] = keep
    inference: Callable[[Params, PyTree], PyTree] | None = None

    def forward(self, params: Params, inputs: PyTree) -> PyTree:
        """The outputs of a training pass, in which the network draws if it does so.

        Raises:
          InputError: if it draws, and the inputs are not `Keyed`.
        """
        if self.inference is None:
            return self.apply(params, values_of(inputs))
        if isinstance(inputs, Keyed) and inputs.keys is None:
            return self.inference(params, inputs.values)
        return self.apply(params, inputs)

    def predict(self, params: Params, inputs: PyTree) -> PyTree:
        """The outputs to predict with: nothing is drawn, and keys are ignored."""
        return self.forward(params, undrawn(inputs))


def keep_task(meta: PyTree, task: PyTree) -> PyTree:
    """The task as it is."""
    return task


class Learner(NamedTuple):
    """A few-shot learning algorithm as pure functions of ONE task.

    Attributes:
      init: `init(key) -> meta`, the meta-parameters: any pytree.
      adapt: `adapt(meta, support) -> adapted`, what was learnt from the support set.
      predict: `predict(adapted, inputs) -> outputs`.
      loss: `loss(meta, episode) -> (scalar, metrics)`; its gradient with respect to
        `meta` is the outer gradient.
      trajectory: `trajectory(meta, support) -> adapted` after 0, 1, ..., K steps,
        stacked along a new leading axis; its last entry is `adapt`'s result. A learner
        that adapts in one go returns a stack of one.
      collect: `collect(meta, task) -> data`, which `loss` takes in place of the task:
        of a learner whose data depend on its parameters, so that several updates can
        share them (`metajax.repeated_step`). The task itself, by default.
    """

    init: Callable[[Array], PyTree]
    adapt: Callable[[PyTree, Any], PyTree]
    predict: Callable[[PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, Any], tuple[Array, Metrics]]
    trajectory: Callable[[PyTree, Any], PyTree]
    collect: Callable[[PyTree, PyTree], PyTree] = keep_task


LearnerSchedule = Callable[[Array], Learner]
"""A learner that changes as training goes on: `schedule(meta-steps done) -> Learner`.

The number is traced, and all its learners must share their meta-parameters.
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

    It is called inside `jit`. One that holds arrays should be a pytree (see
    `metajax.data.Images`), so that they are passed to the compiled step and are not
    baked into it. One that inherits `metajax.data.StagedSampler` makes each task on the
    device that trains on it. Tasks are `Episode`s, or other pytrees of other learners.
    """

    def __call__(self, key: Array, tasks: int, /) -> Any:
        """A meta-batch of `tasks` tasks."""
        ...


class GradTransform(Protocol):
    """`grad(loss_fn)(params, batch) -> gradient`, as `jax.grad` has it."""

    def __call__(self, fun: Callable[..., Array], /) -> Callable[..., Params]:
        """The gradient of `fun` with respect to its first argument."""
        ...


def unpadded(inputs: PyTree) -> tuple[PyTree, Array | None]:
    """Values, without keys, and which of them are present; None for all.

    >>> unpadded(Padded(jnp.zeros(2), jnp.array([True, False])))[1].tolist()
    [True, False]
    """
    inputs = values_of(inputs)
    if isinstance(inputs, Padded):
        return inputs.values, inputs.present
    return inputs, None
