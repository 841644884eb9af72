"""Outlines what is alike to the support set, by maps of several sizes, and colours."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.errors import InputError
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.masked import (
    absent_classes,
    class_masks,
    masked_means,
    resized,
    support_masks,
    with_background,
)
from metajax.learners.support import cosines
from metajax.losses import pixel_cross_entropy
from metajax.models.convolution import convolution
from metajax.models.headed import parts
from metajax.models.initialise import init_each, init_named
from metajax.ops.precision import dtype_of
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree, unpadded

ROUNDS = 2
SHARPNESS = 3  # so that what is doubtful hardly counts


class LevelCodes(NamedTuple):
    """What a task is adapted to.

    Attributes:
      meta: the meta-parameters.
      codes: c_l of each level, `float[ways, features]`.
      absent: which classes have no pixel, `bool[ways]`.
    """

    meta: Params
    codes: list[Array]
    absent: Array


def correlation_segmenter(
    body: Model,
    head: Model,
    ways: int,
    loss: Loss = pixel_cross_entropy,
    *,
    channels: Sequence[int],
    features: int = 64,
    scale: float = 4.0,
    colour: float = 0.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Labels a pixel by the similarity of its features, at all levels, to each class's.

      m_0, ..., m_n = encoder(x),   d = decoder(m_0, ..., m_n)
      c_lk = masked average of T_l f_l over class k's support,   f = d, m_1, ..., m_n
      z_k = o(d) + Σ_l s_l (cos(T_l f_l, c_lk) - 1),   z_background = 0

    The prediction is z', from z' = z twice z'_k ← z_k + colour (cos(x, q_k) - 1), where
    q_k = Σ softmax(z')_k³ x over the image's pixels. o separates ink from paper, T_l
    are 1x1 convolutions, and similarities are resized to the images' size. A class
    without a support pixel is never predicted; a query pixel of it has infinite loss.

    Args:
      body: an encoder of maps and their decoder: `metajax.models.unet_body`.
      head: o, from d to a logit of each pixel: `metajax.models.pixel_head`.
      ways: the number of classes without the background; no meta-parameter's shape
        depends on it.
      loss: `loss(outputs, targets) -> scalar`, of masks `int[n, height, width]`.
      channels: the numbers of channels of d, m_1, ..., m_n.
      features: the number of features that each T_l computes.
      scale: the initial value of each s_l, whose logarithm is learnt.
      colour: how strictly a pixel must match the colour of the object found in its
        image, for objects of one colour each; the loss and its metrics do without.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"network", "embeddings", "log_scales"}`.

    Raises:
      InputError: if the body does not know its encoder and its decoder, or a number is
        out of range; when it is applied, if `channels` are not of each level.

    >>> import metajax as mj
    >>> body, head = mj.unet(1, (8, 16)).parts
    >>> learner = correlation_segmenter(body, head, ways=1, channels=(8, 16))

    Source: z sums what Min et al., "Hypercorrelation Squeeze", ICCV 2021, learn to
    join; z' is of Fan et al., "Self-Support Few-Shot Segmentation", ECCV 2022.
    """
    parts(body, "correlation_segmenter")
    check_count("ways", ways, least=1)
    check_count("features", features, least=1)
    check_positive("scale", scale)
    layers = partial(_layers, channels, features)
    levels = _Levels(body, head, layers())
    init = partial(_init, body, head, layers, math.log(scale))
    adapt = partial(levels.adapt, ways)
    learner = feed_forward_learner(init, adapt, levels.predict, loss, metrics)
    return _coloured(learner, colour) if colour else learner


class _Levels(NamedTuple):
    """The encoder and decoder, o, and T_l."""

    body: Model
    head: Model
    embeddings: list[Model]

    def embed(self, meta: Params, inputs: PyTree) -> tuple[Array, list[Array]]:
        """Logits o of each pixel, and T_l f_l."""
        encoder, decoder = parts(self.body, "correlation_segmenter")
        params = meta["network"]["body"]
        maps = encoder.forward(params["body"], inputs)
        if len(maps) != len(self.embeddings):
            raise InputError(
                "correlation_segmenter needs channels of every level of its encoder, "
                f"{len(maps)} of them, got {len(self.embeddings)}"
            )
        decoded = decoder.forward(params["head"], maps)
        levels = zip(self.embeddings, meta["embeddings"], (decoded, *maps[1:]))
        embedded = [model.apply(weights, x) for model, weights, x in levels]
        return self.head.forward(meta["network"]["head"], decoded), embedded

    def adapt(self, ways: int, meta: Params, support: Batch) -> LevelCodes:
        _, embedded = self.embed(meta, support.inputs)
        members = class_masks(support_masks(support), ways, embedded[0].dtype)
        codes = [masked_means(x, resized(members, x.shape[1:3]))[1:] for x in embedded]
        return LevelCodes(meta, codes, absent_classes(members))

    def predict(self, adapted: LevelCodes, inputs: PyTree) -> Array:
        meta, codes, absent = adapted
        logits, embedded = self.embed(meta, inputs)
        for x, code, scale in zip(embedded, codes, jnp.exp(meta["log_scales"])):
            similarity = scale * (cosines(x, code) - 1)
            logits = logits + resized(similarity, logits.shape[1:3])
        return with_background(logits, absent)


def _coloured(learner: Learner, colour: float) -> Learner:
    """The same learner, by whose predictions classes have the colours found."""
    check_positive("colour", colour)

    def predict(adapted: LevelCodes, inputs: PyTree) -> Array:
        images, _ = unpadded(inputs)
        return in_colours(learner.predict(adapted, inputs), images, colour)

    return learner._replace(predict=predict)


def in_colours(logits: Array, images: Array, colour: float) -> Array:
    """z', of z and x; see `correlation_segmenter`."""
    pixels, coloured = images.astype(logits.dtype), logits
    for _ in range(ROUNDS):
        logs = jax.nn.log_softmax(coloured)[..., 1:]
        peak = jnp.max(logs, (1, 2), keepdims=True)
        found = jnp.exp(SHARPNESS * (logs - peak))  # a mean has no scale
        codes = jax.vmap(masked_means)(pixels[:, None], found[:, None])
        similarity = jax.vmap(cosines)(pixels, codes)
        coloured = logits.at[..., 1:].add(colour * (similarity - 1))
    return coloured


def _layers(
    channels: Sequence[int], features: int, dtype: jnp.dtype | type = jnp.float32
) -> list[Model]:
    return [convolution(1, n, features, dtype=dtype) for n in channels]


def _init(
    body: Model, head: Model, layers: partial, log_scale: float, key: Array
) -> Params:
    first, second = jax.random.split(key)
    network = init_named({"body": body, "head": head}, first)
    dtype = dtype_of(network)
    embeddings = init_each(layers(dtype), second)
    log_scales = jnp.full(len(embeddings), log_scale, dtype)
    return {"network": network, "embeddings": embeddings, "log_scales": log_scales}
