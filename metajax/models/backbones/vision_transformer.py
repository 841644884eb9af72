"""Vision transformers as timm has them: DeiT, AugReg, DINO, CLIP, SigLIP."""

from functools import partial

import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.models.attention import layer_norm
from metajax.models.backbones.attention import (
    attend,
    mlp,
    pool_by_attention,
    take_attention,
    take_mlp,
)
from metajax.models.backbones.config import Config
from metajax.models.backbones.family import Family, Network
from metajax.models.backbones.layers import embed_patches
from metajax.models.backbones.positions import positions_of
from metajax.models.backbones.vision_form import TOKENS, Form, form_of
from metajax.models.backbones.weights import Weights
from metajax.types import Array, Params

SCALES = "ls1.gamma", "ls2.gamma"


def _build(weights: Weights, config: Config) -> Network:
    width, _, side, _ = weights.shape("patch_embed.proj.weight", 4)
    form = form_of(weights, config, width, side)
    weights.convolution("patch_embed.proj", side, config.channels, width)
    for token in filter(weights.__contains__, TOKENS):
        weights.array(token, (1, None, width))
    for block in range(weights.count("blocks")):
        _take_block(weights, f"blocks.{block}", width)
    weights.check_alike("blocks")
    final = "norm" if "norm.weight" in weights else "fc_norm"
    for norm in ("norm_pre", final):
        if norm == final or f"{norm}.weight" in weights:
            weights.norm(norm, width)
    if form.pool == "map":
        _take_pool(weights, width)

    def forward(params: Params, x: Array) -> Array:
        return _forward(form, params, x)

    return Network(forward, width, side)


def _take_block(weights: Weights, name: str, width: int) -> None:
    weights.norm(f"{name}.norm1", width)
    take_attention(weights, f"{name}.attn", width)
    weights.norm(f"{name}.norm2", width)
    take_mlp(weights, f"{name}.mlp", width)
    for scale in SCALES:
        if f"{name}.{scale}" in weights:
            weights.array(f"{name}.{scale}", (width,))


def _take_pool(weights: Weights, width: int) -> None:
    weights.array("attn_pool.latent", (1, 1, width))
    weights.linear("attn_pool.q", width, width)
    weights.linear("attn_pool.kv", width, 2 * width)
    weights.linear("attn_pool.proj", width, width)
    weights.norm("attn_pool.norm", width)
    take_mlp(weights, "attn_pool.mlp", width)


def _forward(form: Form, params: Params, x: Array) -> Array:
    """The pooled features."""
    x, before = _embed(form, params, x)
    if "norm_pre" in params:
        x = layer_norm(params["norm_pre"], x, form.eps)
    for block in range(len(params["blocks"])):
        x = _block(form, params["blocks"][str(block)], x)
        x = checkpoint_name(x, f"block{block}")
    if "norm" in params:
        x = layer_norm(params["norm"], x, form.eps)
    x = _pool(form, params, x, before)
    return layer_norm(params["fc_norm"], x, form.eps) if "fc_norm" in params else x


def _embed(form: Form, params: Params, x: Array) -> tuple[Array, int]:
    """All tokens, and how many of them come before those of the patches."""
    x = embed_patches(params["patch_embed"]["proj"], x)
    n, rows, columns, width = x.shape
    x = x.reshape(n, rows * columns, width)
    tokens = [params[token] for token in TOKENS if token in params]
    before = sum(token.shape[1] for token in tokens)
    tokens = [jnp.broadcast_to(t, (n, *t.shape[1:])) for t in tokens]
    positions = positions_of(form.grid, params["pos_embed"], rows, columns)
    if not form.grid.tokens:
        x = x + jnp.broadcast_to(positions, x.shape)
    x = jnp.concatenate([*tokens, x], 1)
    if form.grid.tokens:
        x = x + jnp.broadcast_to(positions, x.shape)
    return x, before


def _block(form: Form, weights: Params, x: Array) -> Array:
    def scaled(scale: str, y: Array) -> Array:
        return y * weights[scale]["gamma"].reshape(1, 1, -1) if scale in weights else y

    y = layer_norm(weights["norm1"], x, form.eps)
    x = x + scaled("ls1", attend(weights["attn"], y, form.heads, form.eps))
    y = layer_norm(weights["norm2"], x, form.eps)
    return x + scaled("ls2", mlp(weights["mlp"], y, form.activation))


def _pool(form: Form, params: Params, x: Array, before: int) -> Array:
    """Of tokens, of which so many come before those of the patches."""
    if form.pool == "avg":
        return jnp.mean(x[:, before:], 1)
    if form.pool == "map":
        pool = partial(pool_by_attention, eps=form.eps, activation=form.activation)
        return pool(params["attn_pool"], x[:, before:], form.heads)
    if "dist_token" in params:
        return (x[:, 0] + x[:, 1]) / 2
    return x[:, 0]


VISION_TRANSFORMER = Family(
    "vision transformer",
    "patch_embed.proj.weight",
    r"(vit|deit3?|flexivit)_(?!.*(rpn|rope|relpos|pe_|radio|dinov3)).*",
    ("head.", "head_dist."),
    _build,
)
