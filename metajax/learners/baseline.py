"""Baseline and Baseline++: a fresh head is fine-tuned on the features of a body."""

from collections.abc import Mapping

import jax
import optax

from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.anil import anil
from metajax.learners.reparametrised import reparametrised
from metajax.models.cosine import cosine_head, is_cosine_head
from metajax.models.dense import dense_sizes
from metajax.models.headed import headed, parts
from metajax.types import GradTransform, Learner, Loss, Model, Params


def baseline(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Fine-tunes a new head for each task, on the features of a frozen body.

      ψ_0 = the head's initial value, the same for every task
      ψ_{k+1} = ψ_k - α ∇_ψ L_support(φ, ψ_k)   (`steps` times)

    φ is pre-trained as a classifier of all training classes, given by
    `metajax.models.pretrained`, and never meta-trained. It is `metajax.anil` without a
    meta-learnt initial head.

    Args:
      model: the network, of a body φ and a head ψ: `conv4`, or your own, made by
        `metajax.headed`. The head starts from its `init` with a fixed key.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the optimizer of the head, with its learning rate α.
      steps: the number of its steps.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the body's.

    Raises:
      InputError: if the model does not know its parts, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> learner = baseline(mj.conv4(5), mj.cross_entropy, optax.sgd(0.05), steps=100)

    Source: Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019. Their
    code goes 100 times through the support set in random batches of 4, by SGD at a rate
    of 0.01 with momentum and dampening 0.9 and a decay of 0.001, from a random head.
    """
    body, head = parts(model, "baseline")

    def with_head(meta: Params) -> Params:
        return {"body": meta, "head": head.init(jax.random.key(0))}

    whole_learner = anil(
        model, loss, optimizer, steps, grad=grad, view=view, metrics=metrics
    )
    return reparametrised(whole_learner, body.init, with_head)


def baseline_plus_plus(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    scale: float | None = None,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """`baseline` with a head of cosines, whose lengths are fine-tuned with them.

      y_k = s g_k cos(φ(x), v_k)

    Args:
      model: a classifier of a body φ and a head: a `metajax.models.cosine_head`, or a
        `metajax.models.dense` one, which a cosine head then replaces.
      loss: see `baseline`.
      optimizer: see `baseline`.
      steps: see `baseline`.
      scale: s, which is fixed, if a linear head is replaced: by default 2, or 10 for
        over 200 classes. A cosine head has its own.
      grad: see `baseline`.
      view: see `baseline`.
      metrics: see `baseline`.

    Returns:
      A `Learner` whose meta-parameters are the body's.

    Raises:
      InputError: as `baseline`; or if the head is neither, a cosine head is given a
        scale, or the scale is not a positive number.

    >>> import metajax as mj
    >>> model = mj.conv4(5, filters=4, head="cosine")
    >>> loss, optimizer = mj.cross_entropy, optax.sgd(0.05)
    >>> learner = baseline_plus_plus(model, loss, optimizer, steps=100)

    Source: Chen et al., ICLR 2019; their code has the learnt lengths and the scale, 4
    with a ResNet-10 on CUB. The body too is trained under cosines there, as by
    `conv4(..., head="cosine")`.
    """
    body, head = parts(model, "baseline_plus_plus")
    if scale is not None or not is_cosine_head(head):
        inputs, ways, dtype = dense_sizes(head, "baseline_plus_plus")
        model = headed(body, cosine_head(inputs, ways, scale, dtype=dtype))
    return baseline(
        model, loss, optimizer, steps, grad=grad, view=view, metrics=metrics
    )
