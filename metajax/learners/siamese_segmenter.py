"""Siamese U-Net: a decoder that sees where an image matches what is looked for."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.masked import (
    absent_classes,
    class_masks,
    masked_means,
    resized,
    support_masks,
    with_background,
)
from metajax.losses import pixel_cross_entropy
from metajax.models.headed import parts
from metajax.models.initialise import init_named
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Codes(NamedTuple):
    """What a task is adapted to.

    Attributes:
      meta: the meta-parameters.
      codes: what each class looks like at the coarsest level, `float[ways, d]`.
      absent: which classes have no pixel, `bool[ways]`.
    """

    meta: Params
    codes: Array
    absent: Array


def siamese_segmenter(
    body: Model,
    head: Model,
    ways: int,
    loss: Loss = pixel_cross_entropy,
    *,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Segments what resembles the support set, by a U-Net that compares the two.

      m_0, ..., m_l = encoder(x),   c_k = masked average of m_l over class k's support
      z_k = head(decoder(m_0, ..., m_{l-1}, norm(m_l ⊙ c_k))),   z_background = 0

    One encoder reads all images. A class without a support pixel is never predicted.

    Args:
      body: an encoder of maps and their decoder: `metajax.models.unet_body`.
      head: from their features to a logit of each pixel: `metajax.models.pixel_head`.
      ways: the number of classes without the background; no meta-parameter's shape
        depends on it.
      loss: `loss(outputs, targets) -> scalar`, of masks `int[n, height, width]`.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "head": ...}`.

    Raises:
      InputError: if the body does not know its encoder and its decoder, or `ways` is
        below 1.

    >>> import metajax as mj
    >>> body, head = mj.unet(1, (8, 16)).parts
    >>> learner = siamese_segmenter(body, head, ways=1)

    Source: Michaelis et al., "One-Shot Segmentation in Clutter", ICML 2018, section
    5.1, which has two encoders, and weighs c_k by its inner product with m_l instead.
    """
    encoder, decoder = parts(body, "siamese_segmenter")
    check_count("ways", ways, least=1)

    def adapt(meta: Params, support: Batch) -> Codes:
        *_, top = encoder.forward(meta["body"]["body"], support.inputs)
        members = class_masks(support_masks(support), ways, top.dtype)
        codes = masked_means(top, resized(members, top.shape[1:3]))[1:]
        return Codes(meta, codes, absent_classes(members))

    def predict(adapted: Codes, inputs: PyTree) -> Array:
        params, codes, absent = adapted
        *maps, top = encoder.forward(params["body"]["body"], inputs)

        def logit(code: Array) -> Array:
            matched = _normed(top * code.reshape(1, 1, 1, -1))
            features = decoder.forward(params["body"]["head"], (*maps, matched))
            return head.forward(params["head"], features)[..., 0]

        return with_background(jnp.moveaxis(jax.vmap(logit)(codes), 0, -1), absent)

    init = partial(init_named, {"body": body, "head": head})
    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _normed(x: Array) -> Array:
    """Layer norm of each example, without parameters."""
    axes = tuple(range(1, x.ndim))
    x = x - jnp.mean(x, axes, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x**2, axes, keepdims=True) + 1e-5)
