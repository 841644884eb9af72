"""Fine-tuning of a learner on its support set: the last step of P>M>F."""

from collections.abc import Mapping
from functools import partial

import jax
import optax

from metajax._autodiff.jaxprs import returns_its_inputs
from metajax._pytrees.keyed import keyed_as, values_of
from metajax.data.wrappers.augmentation import Transform
from metajax.errors import InputError
from metajax.inner import View, whole
from metajax.learners.meta_baseline import meta_baseline
from metajax.learners.partition import PathPredicate, everything
from metajax.learners.problem import Problem, restricted, solver
from metajax.models.dense import dense_sizes
from metajax.models.headed import parts
from metajax.types import (
    Array,
    Batch,
    Episode,
    Learner,
    Loss,
    Model,
    Padded,
    PyTree,
    unpadded,
)


def fine_tuned(
    learner: Learner,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    augment: Transform,
    adapts: PathPredicate = everything,
    view: View = whole,
) -> Learner:
    """A learner that is fine-tuned on each support set before it adapts to it.

      θ_{k+1} = θ_k - α ∇_θ L(θ_k, (S, A_k(S)))   (`steps` times),  φ = adapt(θ_K, S)

    where L is the learner's own loss of an episode whose query set is the support set
    S, augmented by A_k. The random key of step k is k, so that the result is a function
    of the support set alone. Meta-training is the learner's own, without these steps.

    Args:
      learner: any learner of episodes, such as `metajax.prototypical`.
      optimizer: the optimizer of the fine-tuning, with its learning rate α.
      steps: the number of its steps.
      augment: A, a transform of episodes that changes the inputs alone, such as
        `metajax.data.jitter(shift=0.1)`; only its query set is used.
      adapts: `adapts(path) -> bool`, which meta-parameters are fine-tuned; see
        `metajax.maml`.
      view: what each step sees of the augmented copies; all of them by default.

    Returns:
      A `Learner` of the same meta-parameters and loss. Its trajectory is what the
      learner adapts to after 0, 1, ..., `steps` steps.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `adapts` is true of no parameter, or `augment` returns other targets.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> optimizer, augment = mj.adam(1e-3), mj.data.jitter(shift=0.1)
    >>> learner = fine_tuned(mj.prototypical(body, 5), optimizer, 10, augment=augment)

    Source: Hu et al., "Pushing the Limits of Simple Pipelines for Few-Shot Learning",
    CVPR 2022, section 3.3.
    """

    def loss(meta: PyTree, episode: Episode) -> Array:
        return learner.loss(meta, episode)[0]

    def make_problem(meta: PyTree, support: Batch) -> Problem:
        def finish(adapted: PyTree, step: Array | int) -> PyTree:
            return learner.adapt(adapted, support)

        problem = Problem(loss, optimizer, meta, support, finish)  # pyright: ignore
        return restricted(problem, adapts)

    pseudo = partial(_pseudo_episode, augment, view)
    adapt, trajectory = solver(make_problem, steps, view=pseudo)
    return learner._replace(adapt=adapt, trajectory=trajectory)


def pmf(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    augment: Transform,
    scale: float = 10.0,
    adapts: PathPredicate = lambda path: "['body']" in path,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """P>M>F: a pre-trained body, meta-trained by cosines, fine-tuned on each task.

    `metajax.learners.fine_tuned` of `metajax.meta_baseline`.

    Args:
      model: a classifier of a body φ and a `metajax.models.dense` head, whose number of
        classes is used. Start the body from trained weights with
        `metajax.models.pretrained`.
      loss: `loss(outputs, targets) -> scalar` of query sets, in fine-tuning too.
      optimizer: see `metajax.learners.fine_tuned`; P>M>F uses Adam.
      steps: see there; P>M>F uses 50.
      augment: see there.
      scale: the initial scale of the cosines.
      adapts: see there; the whole body by default.
      view: see there.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, whose meta-parameters are those of `metajax.meta_baseline`.

    Raises:
      InputError: as these two; or if the model does not know its parts, or its head is
        not linear.

    >>> import metajax as mj
    >>> augment = mj.data.jitter(shift=0.1)
    >>> optimizer, model = mj.adam(1e-3), mj.conv4(5, filters=4)
    >>> learner = pmf(model, mj.cross_entropy, optimizer, steps=10, augment=augment)

    Source: Hu et al., CVPR 2022, whose augmentations are of colour, place and cut-outs,
    and whose rate is chosen for each domain.
    """
    body, head = parts(model, "pmf")
    ways = dense_sizes(head, "pmf").outputs
    learner = meta_baseline(body, ways, loss, scale=scale, metrics=metrics)
    return fine_tuned(
        learner, optimizer, steps, augment=augment, adapts=adapts, view=view
    )


def _pseudo_episode(
    augment: Transform, view: View, support: Batch, step: Array
) -> Episode:
    """The support set, and an augmented copy of it as the query set."""
    key = jax.random.fold_in(jax.random.key(0), step)
    values = _augmented(augment, key, Batch(*(unpadded(x)[0] for x in support)))
    padded = values_of(support.inputs)
    if isinstance(padded, Padded):
        values = padded._replace(values=values)
    # With keys of their own, so that dropout's masks of them are others.
    copies = support._replace(inputs=keyed_as(support.inputs, values))
    return Episode(support, view(copies, step))


def _augmented(augment: Transform, key: Array, plain: Batch) -> PyTree:
    """The inputs of a set as the augmentation changes those of a query set.

    Raises:
      InputError: if it makes other targets, as those of the support set stay.
    """

    def change(targets: PyTree) -> Batch:
        side = plain._replace(targets=targets)
        return augment(key, Episode(side, side)).query

    traced = jax.make_jaxpr(lambda targets: change(targets).targets)(plain.targets)
    if not returns_its_inputs(traced.jaxpr):
        raise InputError(
            "augment must change the inputs alone, as the support set keeps its "
            "targets, and it made other targets; take one like "
            "metajax.data.jitter(shift=0.1), and leave out mixup and shuffle_labels"
        )
    return change(plain.targets).inputs
