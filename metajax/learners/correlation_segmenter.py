"""Outlines what is alike to the support set, and to what was found in the image."""

import math
from collections.abc import Callable, Mapping, Sequence
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
from metajax.ops.precision import dtype_of, product
from metajax.types import (
    Array,
    Batch,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
    unpadded,
)

ROUNDS = 2
SHARPNESS = 3  # so that what is doubtful hardly counts
PIXEL_FEATURES, PIXEL_SCALE = 16, 10.0


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
    image_channels: int,
    features: int = 64,
    scale: float = 4.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Labels a pixel by its similarity to a class at all levels, then by its colour.

      m_0, ..., m_n = encoder(x),   d = decoder(m_0, ..., m_n)
      c_lk = masked average of T_l f_l over class k's support,   f = d, m_1, ..., m_n
      z_k = o(d) + Σ_l s_l (cos(T_l f_l, c_lk) - 1),   z_background = 0

      z' = z,   twice: z'_k ← z_k + r (cos(Px, q_k) - 1),   q_k = Σ softmax(z')_k³ Px

    z' is predicted and measured. The loss is loss(z) + loss(z'), in which z' takes z as
    constant, so that loss(z') trains P and r alone. o tells ink from paper, T_l and P
    are 1x1, similarities are enlarged to the images' size. A class without a support
    pixel is never predicted, so a query pixel of it has an infinite loss.

    Args:
      body: an encoder of maps and their decoder: `metajax.models.unet_body`.
      head: o, from d to a logit of each pixel: `metajax.models.pixel_head`.
      ways: the number of classes, background not counted; it shapes no meta-parameter.
      loss: `loss(outputs, targets) -> scalar`, of masks `int[n, height, width]`.
      channels: of d, m_1, ..., m_n.
      image_channels: of x.
      features: that each T_l makes of them.
      scale: where each s_l starts; they are learnt, as is r, by their logarithms.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are a dictionary of the network and the rest.

    Raises:
      InputError: if the body does not know its encoder and decoder, or a number is out
        of range; when applied, if there are other levels or other channels.

    >>> import metajax as mj
    >>> parts = mj.unet(1, (8, 16)).parts
    >>> learner = correlation_segmenter(*parts, 1, channels=(8, 16), image_channels=3)

    Source: z sums what Min et al., "Hypercorrelation Squeeze", ICCV 2021, learn to
    join; z' is of Fan et al., "Self-Support Few-Shot Segmentation", ECCV 2022.
    """
    parts(body, "correlation_segmenter")
    check_positive("scale", scale)
    check_count("features", features, least=1)
    check_count("image_channels", image_channels, least=1)
    sizes = *((n, features) for n in channels), (image_channels, PIXEL_FEATURES)
    levels = _Levels(body, head, sizes)
    adapt = partial(levels.adapt, check_count("ways", ways, least=1))
    init = partial(levels.init, math.log(scale))
    return _learner(init, adapt, levels.outline, loss, metrics)


class Outlines(NamedTuple):
    """Logits of each pixel, `float[n, height, width, ways + 1]`, background first.

    Attributes:
      compared: z, by the support set.
      refined: z', by what was found in the image too.
    """

    compared: Array
    refined: Array


def _learner(
    init: Callable[[Array], Params],
    adapt: Callable[[Params, Batch], LevelCodes],
    outline: Callable[[LevelCodes, PyTree], Outlines],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Learner:
    """The learner that predicts z', of the sum of two losses."""

    def of_both(outlines: Outlines, targets: PyTree) -> Array:
        return loss(outlines.compared, targets) + loss(outlines.refined, targets)

    measures = {name: _of_refined(metric) for name, metric in (metrics or {}).items()}
    learner = feed_forward_learner(init, adapt, outline, of_both, measures)

    def predict(adapted: LevelCodes, inputs: PyTree) -> Array:
        return learner.predict(adapted, inputs).refined

    return learner._replace(predict=predict)


def _of_refined(metric: Loss) -> Loss:
    """A metric of what is predicted."""
    return lambda outlines, targets: metric(outlines.refined, targets)


class _Levels(NamedTuple):
    """The encoder and decoder, o, T_l, and P."""

    body: Model
    head: Model
    sizes: tuple[tuple[int, int], ...]

    def layers(self, dtype: jnp.dtype | type = jnp.float32) -> list[Model]:
        """T_l, and P last."""
        return [convolution(1, *size, dtype=dtype) for size in self.sizes]

    def init(self, log_scale: float, key: Array) -> Params:
        first, second = jax.random.split(key)
        network = init_named({"body": self.body, "head": self.head}, first)
        dtype = dtype_of(network)
        *embeddings, pixels = init_each(self.layers(dtype), second)
        return {
            "network": network,
            "embeddings": embeddings,
            "log_scales": jnp.full(len(embeddings), log_scale, dtype),
            "pixels": pixels,
            "log_pixel_scale": jnp.asarray(math.log(PIXEL_SCALE), dtype),
        }

    def embed(self, meta: Params, inputs: PyTree) -> tuple[Array, list[Array]]:
        """Logits o of each pixel, and T_l f_l."""
        self._check_channels(inputs)
        encoder, decoder = parts(self.body, "correlation_segmenter")
        params = meta["network"]["body"]
        maps = encoder.forward(params["body"], inputs)
        *layers, _ = self.layers()
        if len(maps) != len(layers):
            raise InputError(
                "correlation_segmenter needs channels of every level of its encoder, "
                f"{len(maps)} of them, got {len(layers)}"
            )
        decoded = decoder.forward(params["head"], maps)
        levels = zip(layers, meta["embeddings"], (decoded, *maps[1:]))
        embedded = [model.apply(weights, x) for model, weights, x in levels]
        return self.head.forward(meta["network"]["head"], decoded), embedded

    def adapt(self, ways: int, meta: Params, support: Batch) -> LevelCodes:
        _, embedded = self.embed(meta, support.inputs)
        members = class_masks(support_masks(support), ways, embedded[0].dtype)
        codes = [masked_means(x, resized(members, x.shape[1:3]))[1:] for x in embedded]
        return LevelCodes(meta, codes, absent_classes(members))

    def outline(self, adapted: LevelCodes, inputs: PyTree) -> Outlines:
        meta, codes, absent = adapted
        logits, embedded = self.embed(meta, inputs)
        for x, code, scale in zip(embedded, codes, jnp.exp(meta["log_scales"])):
            similarity = scale * (cosines(x, code) - 1)
            logits = logits + resized(similarity, logits.shape[1:3])
        compared = with_background(logits, absent)
        constant = jax.lax.stop_gradient(compared)
        return Outlines(compared, self._refine(meta, constant, inputs))

    def _refine(self, meta: Params, logits: Array, inputs: PyTree) -> Array:
        """z', in which a class has the colours that it has elsewhere in the image."""
        images, _ = unpadded(inputs)
        embedded = self.layers()[-1].apply(meta["pixels"], images)
        scale, refined = jnp.exp(meta["log_pixel_scale"]), logits
        for _ in range(ROUNDS):
            logs = jax.nn.log_softmax(refined)[..., 1:]
            peak = jnp.max(jax.lax.stop_gradient(logs), (1, 2), keepdims=True)
            found = jnp.exp(SHARPNESS * (logs - peak))  # a cosine has no scale
            similarity = jax.vmap(cosines)(embedded, jax.vmap(_sums)(found, embedded))
            refined = logits.at[..., 1:].add(scale * (similarity - 1))
        return refined

    def _check_channels(self, inputs: PyTree) -> None:
        (images, _), (channels, _) = unpadded(inputs), self.sizes[-1]
        if (count := images.shape[-1]) != channels:
            raise InputError(
                f"correlation_segmenter was built for images of {channels} channels, "
                f"got {count}; give it image_channels={count}"
            )


def _sums(weights: Array, features: Array) -> Array:
    """Features `[..., d]` summed by each of the weights `[..., n]`: `[n, d]`."""
    flat = weights.reshape(-1, weights.shape[-1])
    return product(flat.T, features.reshape(-1, features.shape[-1]))
