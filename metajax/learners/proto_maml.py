"""Proto-MAML: the head starts as a prototypical network's."""

from collections.abc import Mapping

import optax

from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.learners.prototypical import prototype_head
from metajax.learners.support import class_means, support_features
from metajax.models.dense import dense_sizes
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
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the body's.

    Raises:
      InputError: if the model does not know its parts, its head is not linear, or
        `steps` is not a whole number of at least 0.

    >>> import metajax as mj
    >>> learner = proto_maml(mj.conv4(5), mj.cross_entropy, optax.sgd(0.1), steps=5)

    Source: Triantafillou et al., "Meta-Dataset", ICLR 2020, section 4.
    """
    body, head = parts(model, "proto_maml")
    loss_fn = model_loss(model, loss)
    ways = dense_sizes(head, "proto_maml").outputs

    def make_problem(meta: Params, support: Batch) -> Problem:
        features = body.forward(meta, support.inputs)
        examples = support_features(features, support.targets, ways)
        head = prototype_head(class_means(examples.features, examples.members))
        return Problem(loss_fn, optimizer, {"body": meta, "head": head}, support)

    head_solver = solver(make_problem, steps, grad=grad, view=view)
    learner = gradient_learner(model, head_solver, loss, metrics)
    return learner._replace(init=body.init)
