"""Proto-MAML: the head starts as a prototypical network's."""

from collections.abc import Mapping

import jax
import optax

from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.at_once import embedded, means
from metajax.learners.problem import Problem, of, query_loss, settling, solver
from metajax.learners.prototypical import nearest
from metajax.models.headed import parts
from metajax.types import Batch, GradTransform, Learner, Loss, Model, Params


def proto_maml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML whose linear head starts at each task from the prototypes of its classes.

      c_k = mean of φ(x) over the support examples of class k
      W_k = 2 c_k,  b_k = -|c_k|²,  so that  W_k·φ(x) + b_k = |φ(x)|² - |φ(x) - c_k|²

    The gradient passes through the prototypes.

    Args:
      model: a classifier of a body φ and a `metajax.models.dense` head: `conv4`, or
        your own, made by `metajax.headed`. The head's own start is not used.
      loss: see `metajax.maml`.
      optimizer: see `metajax.maml`.
      steps: see `metajax.maml`.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are the body's.

    Raises:
      InputError: if the model does not know its parts, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> learner = proto_maml(mj.conv4(5), mj.cross_entropy, optax.sgd(0.1), steps=5)

    Source: Triantafillou et al., "Meta-Dataset", ICLR 2020, section 4.
    """
    body, head = parts(model, "proto_maml")
    value = of(model, loss)
    ways = jax.eval_shape(head.init, jax.random.key(0))["bias"].shape[0]

    def pose(meta: Params, support: Batch) -> Problem:
        features = body.forward(meta, support.inputs)
        examples = embedded(features, support.targets, ways)
        head = nearest(means(examples.features, examples.members))
        return Problem(value, optimizer, {"body": meta, "head": head}, support)

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=view))
    outer = query_loss(adapt, model.forward, loss, metrics)
    return Learner(body.init, adapt, model.predict, outer, trajectory)
