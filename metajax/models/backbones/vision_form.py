"""What the tensors of a vision transformer do not show, by its architecture's name."""

import re
from functools import partial
from typing import NamedTuple

import jax

from metajax.errors import InputError
from metajax.models.backbones.attention import Activation, quick_gelu
from metajax.models.backbones.config import Config
from metajax.models.backbones.positions import Grid, take_positions
from metajax.models.backbones.weights import Weights

ACTIVATIONS: dict[str, Activation] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
}
TANH = r"base_patch32_siglip|giantopt|so400m_patch16_siglip|large_patch16_siglip.*512"
OF_16_HEADS = 1152, 1280, 1408, 1664  # widths; other networks have heads of 64 features
TOKENS = "cls_token", "dist_token", "reg_token"
POOLS = {"token": "cls_token", "avg": "pos_embed", "map": "attn_pool.latent"}


class Form(NamedTuple):
    """What a network's tensors do not show.

    Attributes:
      heads: of attention.
      eps: of layer norms.
      activation: of MLPs.
      pool: "token", "avg" or "map".
      grid: of the positions.
    """

    heads: int
    eps: float
    activation: Activation
    pool: str
    grid: Grid


def usual_heads(architecture: str, width: int) -> int:
    """The number of heads of timm's network of that name and width.

    >>> usual_heads("vit_small_patch14_dinov2", 384)
    6
    """
    special = re.search("giantopt|base_patch16_gap", architecture)
    return 16 if special or width in OF_16_HEADS else width // 64


def usual_eps(architecture: str) -> float:
    """The ε of the layer norms of timm's network of that name."""
    return 1e-5 if "_clip_" in architecture else 1e-6


def usual_activation(architecture: str) -> str:
    """The activation of timm's network of that name.

    >>> usual_activation("vit_base_patch16_clip_quickgelu_224")
    'quick_gelu'
    """
    if "quickgelu" in architecture:
        return "quick_gelu"
    return "gelu_tanh" if re.search(TANH, architecture) else "gelu"


def form_of(weights: Weights, config: Config, width: int, side: int) -> Form:
    """The form of a network, whose positions it takes from the tensors.

    Args:
      weights: the tensors.
      config: what is said of them.
      width: the number of features of a token.
      side: of a patch.

    Raises:
      InputError: if what is said does not fit the tensors.
    """
    name = config.architecture
    activation = config.arguments.get("act_layer", usual_activation(name))
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{weights.path}: act_layer must be one of {', '.join(ACTIVATIONS)}, got "
            f'"{activation}"'
        )
    tokens = sum(weights.shape(t, 3)[1] for t in TOKENS if t in weights)
    return Form(
        _heads(weights, config, width),
        usual_eps(name),
        ACTIVATIONS[activation],
        _pool(weights, config),
        take_positions(weights, config, side, tokens=tokens, width=width),
    )


def _heads(weights: Weights, config: Config, width: int) -> int:
    """The number of heads: as the config or a norm of queries says, or as usual."""
    norm = "blocks.0.attn.q_norm.weight"
    usual = usual_heads(config.architecture, width)
    if norm in weights:
        usual = width // weights.shape(norm, 1)[0]
    heads = config.arguments.get("num_heads", usual)
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise InputError(
            f"{weights.path}: {width} features do not divide into {heads} heads; give "
            'the config.json with "model_args": {"num_heads": ...}'
        )
    return heads


def _pool(weights: Weights, config: Config) -> str:
    """How features are pooled: as the config says, or as the tensors suggest."""
    mean = "fc_norm.weight" in weights or "cls_token" not in weights
    suggested = "map" if POOLS["map"] in weights else "avg" if mean else "token"
    pool = config.pool or suggested
    if pool not in POOLS:
        raise InputError(
            f"{weights.path}: global_pool must be one of {', '.join(POOLS)}, got "
            f'"{pool}"'
        )
    weights.shape(POOLS[pool], 3)
    return pool
