"""Meta-transfer learning: scale and shift a pre-trained body, adapt the head."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.constant import completed, learnt
from metajax.errors import InputError
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.anil import anil
from metajax.models.headed import headed, parts
from metajax.models.pretrained import check_params
from metajax.types import (
    Array,
    GradTransform,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
    keep,
)


def mtl(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    backbone: Params | None,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """ANIL on a frozen, pre-trained body whose kernels are scaled and biases shifted.

      W' = W ∘ Φ_S1,  b' = b + Φ_S2
      ψ'_i = ψ - α ∇_ψ L_support(Φ, ψ)   (`steps` times)
      min_{Φ,ψ} Σ_i L_query(Φ, ψ'_i)

    The body is pre-trained as a classifier of all training classes: `metajax.maml` with
    no inner steps, on `metajax.data.joint_batches`.

    Args:
      model: the network, of a body and a head: `conv4`, `mlp`, or your own, made by
        `metajax.headed`.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps.
      backbone: the pre-trained parameters of the body.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": Φ, "head": ψ}`.

    Raises:
      InputError: if there is no backbone, or its shapes are not those of the body; if
        the model does not know its parts, or `steps` is not a whole number of at least
        0.

    >>> import metajax as mj
    >>> model = mj.mlp()
    >>> backbone = model.init(jax.random.key(0))["body"]  # train it first
    >>> learner = mtl(model, mj.mse, optax.sgd(0.01), steps=5, backbone=backbone)

    Source: Sun et al., "Meta-Transfer Learning for Few-Shot Learning", CVPR 2019,
    without its choice of hard tasks.
    """
    body, head = parts(model, "mtl")
    if backbone is None:
        raise InputError(
            "mtl needs a pre-trained backbone: the parameters of the model's body "
            "after training on all classes, from metajax pretrain (--inner.backbone "
            "DIR) or from metajax.data.joint_batches"
        )
    scaled = headed(scale_and_shift(body, backbone), head)
    return anil(scaled, loss, optimizer, steps, grad=grad, view=view, metrics=metrics)


def scale_and_shift(body: Model, weights: Params) -> Model:
    """`body` with frozen weights, whose kernels are scaled and whose biases shifted.

      W' = W ∘ Φ_S1,   one factor for each pair of an input and an output
      b' = b + Φ_S2

    A kernel is an array of two axes or more, and a bias a vector.

    Args:
      body: a network.
      weights: its parameters, which stay as they are.

    Returns:
      A `Model` whose parameters are Φ, which starts at ones and zeros.

    Raises:
      InputError: if the structure or the shapes of `weights` are not the body's, or if
        the body normalises by the support set's statistics.

    >>> from metajax.models import dense
    >>> body = dense(2, 3)
    >>> same = scale_and_shift(body, body.init(jax.random.key(0)))
    >>> jax.tree.map(jnp.shape, same.init(jax.random.key(1)))
    {'bias': (3,), 'kernel': (2, 3)}
    """
    check_params("the backbone", body, weights)
    if body.settle is not keep:
        raise InputError(
            "a scaled body cannot keep the support set's statistics; build it with "
            'norm="transductive"'
        )

    def init(key: Array) -> Params:
        return jax.tree.map(_start, learnt(weights))

    def joined(params: Params) -> Params:
        frozen = jax.lax.stop_gradient(weights)
        scaled = jax.tree.map(
            lambda w, p: w * _wide(p, w) if w.ndim > 1 else w + p,
            learnt(frozen),
            params,
        )
        return completed(scaled, frozen)

    def apply(params: Params, inputs: PyTree) -> PyTree:
        return body.forward(joined(params), inputs)

    def inference(params: Params, inputs: PyTree) -> PyTree:
        return body.predict(joined(params), inputs)

    return Model(init, apply, inference=body.inference and inference)


def _start(w: Array) -> Array:
    """Ones, [inputs, outputs] of a kernel; zeros for a bias."""
    return jnp.ones(w.shape[-2:], w.dtype) if w.ndim > 1 else jnp.zeros_like(w)


def _wide(p: Array, w: Array) -> Array:
    """Factors of shape [inputs, outputs], with leading axes as a kernel has them."""
    return p.reshape((1,) * (w.ndim - 2) + p.shape)
