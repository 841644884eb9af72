"""Backbones as `Model`s, which learners take as they take any other."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.models import load_backbone
from metajax.models.backbones.vision_form import (
    usual_activation,
    usual_eps,
    usual_heads,
)
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY, gradient, relative
from tests.models.backbones.seeded import seeded_tensors, write_backbone

FOLDER = Path(__file__).parent
ACTIVATIONS = {"gelu": "GELU", "gelu_tanh": "GELUTanh", "quick_gelu": "QuickGELU"}


def tensors_of(name):
    golden = json.loads((FOLDER / "goldens" / f"{name}.json").read_text())
    return seeded_tensors(golden["tensors"]), golden["config"]


@pytest.fixture
def load(tmp_path):
    def load(name, **settings):
        return load_backbone(write_backbone(tmp_path, *tensors_of(name)), **settings)

    return load


def pictures(n, side=32, dtype=jnp.float32, key=KEY):
    return jax.random.uniform(key, (n, side, side, 3), dtype)


def episode(dtype=jnp.float32, side=32):
    keys = jax.random.split(KEY)
    labels = jnp.arange(4, dtype=jnp.int32) % 2
    return Episode(*(Batch(pictures(4, side, dtype, key=k), labels) for k in keys))


def is_norm(path):
    return path.endswith(("['scale']", "['offset']"))


def test_parameters_have_timms_names_and_our_layouts(load):
    tensors, _ = tensors_of("vit")
    params = load("vit").params
    block = params["blocks"]["1"]
    qkv = tensors["blocks.1.attn.qkv.weight"]
    np.testing.assert_array_equal(block["attn"]["qkv"]["kernel"], qkv.T)
    assert set(block["norm1"]) == {"scale", "offset"}
    patch = tensors["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["patch_embed"]["proj"]["kernel"], patch)
    assert "head" not in params
    norm = load("resnet18").params["layer2"]["0"]["downsample"]["1"]
    assert isinstance(norm["mean"], mj.Constant)


def test_what_is_said_of_pictures(load):
    preprocessing = load("vit").preprocessing
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing[2:] == ((32, 32), 0.9, "bicubic", "center")


def test_a_folder_and_half_precision_are_read(tmp_path):
    tensors, config = tensors_of("vit")
    half = {name: x.astype(np.float16) for name, x in tensors.items()}
    write_backbone(tmp_path, half, config)
    params = load_backbone(tmp_path).params
    leaf = params["norm"]["offset"]
    assert leaf.dtype == jnp.float32
    np.testing.assert_array_equal(leaf, half["norm.bias"].astype(np.float32))


def test_counts_of_batches_may_be_missing(tmp_path):
    tensors, config = tensors_of("resnet18")  # torchvision's names are the same
    fewer = {k: x for k, x in tensors.items() if "num_batches" not in k}
    assert load_backbone(write_backbone(tmp_path, fewer, config)).features == 20


def test_each_task_with_its_own_weights(load):
    backbone = load("vit")

    def moved(x):
        noise = jax.random.normal(KEY, (2, *x.shape), x.dtype)
        return x[None] * (1 + 0.1 * noise)

    params = jax.tree.map(moved, backbone.params)
    x = pictures(4).reshape(2, 2, 32, 32, 3)
    together = jax.jit(jax.vmap(backbone.model.apply))(params, x)
    apply = jax.jit(backbone.model.apply)
    for task in range(2):
        own = jax.tree.map(lambda p, t=task: p[t], params)
        assert relative(together[task], apply(own, x[task])) < 1e-5


def test_bfloat16_is_near(load):
    backbone = load("resnet18")
    x = pictures(3)
    model = mj.models.in_precision(backbone.model, "bfloat16")
    features = jax.jit(model.apply)(backbone.params, x)
    exact = jax.jit(backbone.model.apply)(backbone.params, x)
    assert features.dtype == jnp.float32
    assert 1e-4 < relative(features, exact) < 5e-2


def test_prototypes_start_from_the_file(load):
    backbone = load("vit")
    learner = mj.prototypical(backbone.model, ways=2)
    meta = learner.init(KEY)
    assert all(
        a is b for a, b in zip(jax.tree.leaves(meta), jax.tree.leaves(backbone.params))
    )
    task = episode()

    @jax.jit
    def predict(meta, task):
        return learner.predict(learner.adapt(meta, task.support), task.query.inputs)

    logits, apply = predict(meta, task), jax.jit(backbone.model.apply)
    features, query = (apply(backbone.params, batch.inputs) for batch in task)
    centres = jnp.stack([features[i::2].mean(0) for i in range(2)])
    gaps = ((query[:, None] - centres[None]) ** 2).sum(-1)
    margin = logits[:, 0] - logits[:, 1]
    assert relative(margin, gaps[:, 1] - gaps[:, 0]) < 1e-4


def test_padded_pictures_change_nothing(load):
    backbone = load("vit")
    x = pictures(3)
    padded = Padded(x, jnp.array([True, False, True]))
    apply = jax.jit(backbone.model.apply)
    assert relative(apply(backbone.params, padded), apply(backbone.params, x)) < 1e-6


def test_the_meta_gradient_of_adapted_norms(load, float64):
    backbone = load("vit", dtype=jnp.float64)
    head = mj.models.dense(backbone.features, 2, dtype=jnp.float64)
    model = mj.models.headed(backbone.model, head)
    build = partial(mj.maml, model, mj.cross_entropy, optax.sgd(0.01), 1)
    exact, oracle = (
        build(adapts=is_norm, grad=grad) for grad in (mj.exact, mj.gradients.reverse)
    )
    meta, task = exact.init(KEY), episode(jnp.float64)
    # A gradient is taken of no constant.
    body = jax.tree.map(
        lambda x: x, meta["body"], is_leaf=lambda x: isinstance(x, mj.Constant)
    )
    meta = {"body": body, "head": meta["head"]}
    assert (
        relative(*(jax.jit(gradient(x))(meta, task) for x in (exact, oracle))) < 1e-10
    )
    adapted = exact.adapt(meta, task.support)
    before, after = (jax.tree.leaves_with_path(x) for x in (meta, adapted))
    for (path, x), (_, y) in zip(before, after):
        assert is_norm(jax.tree_util.keystr(path)) == bool(jnp.any(x != y))


def test_the_forms_of_timms_transformers():
    table = json.loads((FOLDER / "transformers.json").read_text())
    assert len(table) > 140
    for name, (width, heads, eps, activation) in table.items():
        other = "rpn", "radio"  # other functions, which are refused by their names
        if not any(word in name for word in other):
            assert usual_heads(name, width) == heads, name
            assert usual_eps(name) == eps, name
            gated = activation == "SiLU"  # a gate has no other
            assert gated or ACTIVATIONS[usual_activation(name)] == activation, name
