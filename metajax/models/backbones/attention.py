"""Attention and the MLP of vision transformers, as timm has them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.models.attention import attended, layer_norm
from metajax.models.backbones.layers import affine
from metajax.models.backbones.weights import Weights
from metajax.types import Array, Params

Activation = Callable[[Array], Array]


def quick_gelu(x: Array) -> Array:
    """X sigmoid(1.702 x), the GELU of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def take_attention(weights: Weights, name: str, width: int) -> None:
    """Takes an attention's tensors."""
    weights.linear(f"{name}.qkv", width, 3 * width)
    for norm in ("q_norm", "k_norm"):
        if f"{name}.{norm}.weight" in weights:
            weights.norm(f"{name}.{norm}", weights.shape(f"{name}.{norm}.weight", 1)[0])
    weights.linear(f"{name}.proj", width, width)


def take_mlp(weights: Weights, name: str, width: int) -> None:
    """Takes an MLP's tensors; a gate's too, apart or packed with what it multiplies."""
    outer = weights.shape(f"{name}.fc2.weight", 2)[1]
    if f"{name}.fc1_g.weight" in weights:
        weights.linear(f"{name}.fc1_g", width, outer)
        weights.linear(f"{name}.fc1_x", width, outer)
    else:
        hidden = weights.shape(f"{name}.fc1.weight", 2)[0]
        weights.linear(f"{name}.fc1", width, outer if hidden != 2 * outer else hidden)
    weights.linear(f"{name}.fc2", outer, width)


def attend(weights: Params, x: Array, heads: int, eps: float) -> Array:
    """What each token takes from all tokens.

      softmax(q k / √d) v  in each head, of q, k and v from one product

    Args:
      weights: "qkv", "proj", and "q_norm" and "k_norm" if there are.
      x: `float[n, tokens, width]`.
      heads: the number of heads.
      eps: of the norms.
    """
    n, tokens, width = x.shape
    parts = affine(weights["qkv"], x).reshape(n, tokens, 3, heads, width // heads)
    q, k, v = (parts[:, :, part] for part in range(3))
    if "q_norm" in weights:
        q = layer_norm(weights["q_norm"], q, eps)
        k = layer_norm(weights["k_norm"], k, eps)
    return affine(weights["proj"], attended(q, k, v))


def pool_by_attention(
    weights: Params, x: Array, heads: int, *, eps: float, activation: Activation
) -> Array:
    """What a learnt token takes from all tokens, and an MLP of that.

    Args:
      weights: "latent", "q", "kv", "proj", "norm" and "mlp".
      x: `float[n, tokens, width]`.
      heads: the number of heads.
      eps: of the norm.
      activation: of the MLP.

    Returns:
      `float[n, width]`.
    """
    n, tokens, width = x.shape
    q = affine(weights["q"], weights["latent"]).reshape(1, 1, heads, -1)
    parts = affine(weights["kv"], x).reshape(n, tokens, 2, heads, width // heads)
    q = jnp.broadcast_to(q, (n, *q.shape[1:]))
    x = affine(weights["proj"], attended(q, parts[:, :, 0], parts[:, :, 1]))[:, 0]
    return x + mlp(weights["mlp"], layer_norm(weights["norm"], x, eps), activation)


def mlp(weights: Params, x: Array, activation: Activation) -> Array:
    """An MLP of each token, gated by SiLU where its tensors are those of a gate.

    A packed gate is the first half of "fc1".
    """
    if "fc1_g" in weights:
        gate, x = affine(weights["fc1_g"], x), affine(weights["fc1_x"], x)
        x = jax.nn.silu(gate) * x
    else:
        x = affine(weights["fc1"], x)
        size = weights["fc2"]["kernel"].shape[0]
        packed = x.shape[-1] != size
        x = jax.nn.silu(x[..., :size]) * x[..., size:] if packed else activation(x)
    return affine(weights["fc2"], x)
