"""Writes the features that timm computes by narrow networks of seeded weights.

    PYTHONPATH=. python tests/models/backbones/make_goldens.py

It needs torch and timm, which the tests do not. A file has the names and the shapes of
the tensors, and timm's features in float64, of timm's version that it names.
"""

import json
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.layers import LayerNorm, PatchEmbed, SwiGLU, SwiGLUPacked
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.efficientnet import _gen_efficientnet_lite
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import Block, VisionTransformer

from tests.models.backbones.seeded import (
    MEAN,
    STD,
    config_for,
    seeded_pictures,
    seeded_tensors,
)

FOLDER = Path(__file__).parent / "goldens"
CLIP = partial(torch.nn.LayerNorm, eps=1e-5)
vit = partial(
    VisionTransformer, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2
)
distilled = partial(VisionTransformerDistilled, **vit.keywords)
resnet = partial(ResNet, channels=(8, 12, 16, 20), num_classes=3)
convnext = partial(ConvNeXt, depths=(1, 1, 2, 1), dims=(8, 12, 16, 20))
lite = partial(
    _gen_efficientnet_lite, channel_multiplier=0.25, depth_multiplier=0.3, num_classes=3
)
NO_CLASS = dict(class_token=False, global_pool="avg")

# By name: the architecture, the network, the size of pictures, if it is another.
MEMBERS = {
    "resnet18": ("resnet18", resnet(BasicBlock, (1, 2, 1, 1)), None),
    "resnet50": ("resnet50", resnet(Bottleneck, (1, 2, 1, 1)), (33, 47)),
    "resnext50": (
        "resnext50_32x4d",
        resnet(Bottleneck, (1, 1, 1, 1), cardinality=2, base_width=32),
        None,
    ),
    "vit": ("vit_small_patch16_224", vit(), None),
    "vit_other_size": ("vit_small_patch16_224", vit(dynamic_img_size=True), (24, 56)),
    "deit_distilled": ("deit_tiny_distilled_patch16_224", distilled(), None),
    "deit3": ("deit3_small_patch16_224", vit(no_embed_class=True, init_values=1), None),
    "dinov2_registers": (
        "vit_small_patch14_reg4_dinov2",
        vit(reg_tokens=4, no_embed_class=True, init_values=1, dynamic_img_size=True),
        (40, 48),
    ),
    "dinov2_giant": (
        "vit_giant_patch14_dinov2",
        vit(init_values=1, mlp_ratio=5.33334, act_layer="silu", mlp_layer=SwiGLUPacked),
        None,
    ),
    "swiglu": (
        "vit_base_patch16_224",
        vit(act_layer="silu", mlp_layer=SwiGLU, qkv_bias=False),
        None,
    ),
    "clip": (
        "vit_base_patch16_clip_224",
        vit(pre_norm=True, norm_layer=CLIP, num_classes=7),
        None,
    ),
    "clip_openai": (
        "vit_base_patch16_clip_quickgelu_224",
        vit(pre_norm=True, norm_layer=CLIP, act_layer="quick_gelu", num_classes=7),
        None,
    ),
    "siglip": (
        "vit_base_patch16_siglip_224",
        vit(class_token=False, global_pool="map", num_classes=0),
        None,
    ),
    "siglip2_tanh": (
        "vit_so400m_patch16_siglip_256",
        vit(class_token=False, global_pool="map", act_layer="gelu_tanh"),
        None,
    ),
    "siglip_mean": (
        "vit_base_patch16_siglip_gap_224",
        vit(**NO_CLASS, fc_norm=False, num_classes=0),
        None,
    ),
    "query_norm": (
        "vit_medium_patch16_reg4_gap_256",
        vit(**NO_CLASS, reg_tokens=4, no_embed_class=True, qk_norm=True),
        None,
    ),
    "registers_with_positions": (
        "vit_so150m_patch16_reg4_gap_256",
        vit(**NO_CLASS, reg_tokens=4, fc_norm=False),
        None,
    ),
    "convnext": ("convnext_tiny", convnext(), (64, 70)),
    "convnext2": (
        "convnextv2_nano",
        convnext(use_grn=True, ls_init_value=None, conv_mlp=True),
        (64, 64),
    ),
    "lite": ("efficientnet_lite0", lite("efficientnet_lite0"), (64, 49)),
    "tf_lite": (
        "tf_efficientnet_lite0",
        lite("tf_efficientnet_lite0", bn_eps=1e-3, pad_type="same"),
        (64, 49),
    ),
}


def golden(architecture, model, size):
    """What the file of a network has."""
    shapes = {name: list(x.shape) for name, x in model.state_dict().items()}
    tensors = seeded_tensors(shapes)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    is_vit = isinstance(model, VisionTransformer)
    pool = model.global_pool if is_vit else "avg"
    model.reset_classifier(0)
    pictures = seeded_pictures((2, *(size or (32, 32)), 3))
    x = torch.from_numpy(pictures).double()
    x = (x - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    with torch.no_grad():
        features = model.double().eval()(x.permute(0, 3, 1, 2))
    heads = {"num_heads": 2} if is_vit else {}
    config = config_for(architecture, (32, 32), **heads)
    return {
        "timm": timm.__version__,
        "config": config | {"global_pool": pool},
        "pictures": pictures.shape,
        "tensors": shapes,
        "features": [[float(f"{x:.9g}") for x in row] for row in features.tolist()],
    }


def transformers():
    """Width, heads, eps and activation of every plain vision transformer of timm."""
    rows = {}
    for name in timm.list_models(["vit_*", "deit*", "flexivit*"]):
        with torch.device("meta"):
            model = timm.create_model(name)
        block = model.blocks[0]
        plain = type(block) is Block and type(block.norm1) is LayerNorm
        plain = plain and type(model.patch_embed) is PatchEmbed
        if isinstance(model, VisionTransformer) and plain:
            values = model.embed_dim, block.attn.num_heads, block.norm1.eps
            rows[name] = [*values, type(block.mlp.act).__name__]
    return rows


def main():
    FOLDER.mkdir(exist_ok=True)
    lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in transformers().items())
    table = "{\n" + ",\n".join(lines) + "\n}\n"
    (FOLDER.parent / "transformers.json").write_text(table)
    for name, member in MEMBERS.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(golden(*member)) + "\n")
    arrays = {
        "half": torch.arange(6).half().reshape(2, 3),
        "brain": (torch.arange(6) / 4).bfloat16(),
        "whole": torch.arange(4),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(0.5, dtype=torch.float64),
    }
    save_file(arrays, FOLDER / "types.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
