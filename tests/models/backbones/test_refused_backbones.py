"""Files that are no backbone, or not the one that their config.json says."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.models import load_backbone
from tests.models.backbones.seeded import config_for, seeded_tensors, write_backbone

FOLDER = Path(__file__).parent / "goldens"
GOLDENS = {
    name: json.loads((FOLDER / f"{name}.json").read_text())
    for name in ("vit", "resnet18", "convnext", "clip")
}


def refused(folder, message, name="vit", *, tensors=None, config=None, without=()):
    """Checks that a golden's file with these changes is refused in one line."""
    values = seeded_tensors(GOLDENS[name]["tensors"]) | (tensors or {})
    values = {k: v for k, v in values.items() if k not in without}
    settings = GOLDENS[name]["config"] if config is None else config
    path = write_backbone(folder, values, settings)
    with pytest.raises(mj.InputError, match=message) as error:
        load_backbone(path)
    assert "\n" not in str(error.value)


def changed(name, **values):
    return GOLDENS[name]["config"] | values


TENSORS = {
    "missing": (
        "resnet18",
        dict(without=["layer2.0.bn2.running_var"]),
        "lacks layer2.0.bn2.running_var, which was expected",
    ),
    "missing of one block": (
        "vit",
        dict(without=["blocks.1.attn.proj.bias"]),
        r"blocks.1 lacks \['attn'\]\['proj'\]\['bias'\], which other blocks have",
    ),
    "no final norm": (
        "vit",
        dict(without=["norm.weight", "norm.bias"]),
        "lacks fc_norm.weight",
    ),
    "foreign": (
        "vit",
        dict(tensors={"blocks.0.attn.rope": np.ones(3, np.float32)}),
        "has blocks.0.attn.rope, and 0 more, which the network of its config.json",
    ),
    "the first of a block": (
        "vit",
        dict(without=["blocks.0.norm1.weight"]),
        "lacks blocks.0.norm1.weight, which was expected",
    ),
    "another shape": (
        "convnext",
        dict(tensors={"stages.1.blocks.0.gamma": np.ones(5, np.float32)}),
        r"stages.1.blocks.0.gamma has shape \[5\], expected \[12\]",
    ),
    "other axes": (
        "resnet18",
        dict(tensors={"conv1.weight": np.ones((64, 147), np.float32)}),
        r"conv1.weight has shape \[64, 147\], expected 4 axes",
    ),
    "not finite": (
        "vit",
        dict(tensors={"norm.bias": np.full(24, np.nan, np.float32)}),
        "norm.bias has numbers that are not finite",
    ),
    "positions of another size": (
        "vit",
        dict(tensors={"pos_embed": np.ones((1, 10, 24), np.float32)}),
        "pos_embed has 10 positions, expected 4 x 4 patches of 8 pixels",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case, tmp_path):
    name, changes, message = TENSORS[case]
    refused(tmp_path, message, name, **changes)


CONFIGS = {
    "another family": ("vit", "resnet18", "tensors of a vision transformer.*resnet18"),
    "another function": ("vit", "vit_base_patch16_rpn_224", "does not know"),
    "anti-aliased": ("resnet18", "resnetblur18", "does not know what it computes"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_architectures(case, tmp_path):
    name, architecture, message = CONFIGS[case]
    config = changed(name, architecture=architecture)
    refused(tmp_path, message, name, config=config)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(pretrained_cfg={}), "lacks 'input_size'"),
        (dict(pretrained_cfg=3), "in another form; expected"),
        (dict(model_args={"num_heads": 7}), "24 features do not divide into 7 heads"),
        (dict(model_args={}), "24 features do not divide into 0 heads"),
        (dict(model_args={"block_fn": "?"}), "does not know the argument block_fn"),
        (dict(model_args={"act_layer": "mish", "num_heads": 2}), "act_layer must be"),
        (dict(model_args={"num_heads": 2, "img_size": "32"}), "img_size must be a num"),
        (dict(global_pool="max"), "global_pool must be one of token, avg, map"),
        (dict(global_pool="map"), "lacks attn_pool.latent"),
    ],
)
def test_configs(values, message, tmp_path):
    refused(tmp_path, message, config=changed("vit", **values))


@pytest.mark.parametrize(
    "pictures, message",
    [
        (dict(mean=[0.5]), r"mean \[0.5\].*expected positive numbers, and a mean"),
        (dict(std=[0.2, 0.2, 0]), "expected positive numbers"),
        (dict(input_size=[3, 0, 32]), "expected positive numbers"),
        (
            dict(input_size=[1, 32, 32], mean=[0.5], std=[0.5]),
            r"proj.weight has shape \[24, 3, 8, 8\], expected \[24, 1, 8, 8\]",
        ),
        (dict(input_size=[3]), "list index out of range"),
        (dict(mean=["a", "b", "c"]), "could not convert string to float"),
    ],
)
def test_pictures_settings(pictures, message, tmp_path):
    settings = config_for("vit_small_patch16_224", (32, 32), num_heads=2)
    settings["pretrained_cfg"] |= pictures
    refused(tmp_path, message, config=settings)


def test_other_names_and_no_config(tmp_path):
    tensors = {"vit.encoder.layer.0.weight": np.ones(3, np.float32)}
    path = write_backbone(tmp_path, tensors, GOLDENS["vit"]["config"])
    message = "has vit.encoder.layer.0.weight, ..., expected timm's names.*patch_embed"
    with pytest.raises(mj.InputError, match=message):
        load_backbone(path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(mj.InputError, match="config.json is not JSON"):
        load_backbone(path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(mj.InputError, match="config.json cannot be read.*or write it"):
        load_backbone(path)


def test_pictures(tmp_path):
    golden = GOLDENS["vit"]
    tensors = seeded_tensors(golden["tensors"])
    model, params, *_ = load_backbone(
        write_backbone(tmp_path, tensors, None), golden["config"]
    )
    message = r"takes pictures float\[n, height, width, 3\].*multiples of 8, got "
    for shape in ((2, 32, 33, 3), (2, 32, 32, 1), (32, 32, 3), (2, 0, 32, 3)):
        with pytest.raises(mj.InputError, match=message + r"float32\["):
            model.apply(params, jnp.zeros(shape))
    with pytest.raises(mj.InputError, match=message + "uint8"):
        model.apply(params, jnp.zeros((2, 32, 32, 3), jnp.uint8))
