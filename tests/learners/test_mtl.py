"""Meta-transfer learning against ANIL on the weights it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.learners import scale_and_shift
from tests.helpers import KEY, gradient, image_episode, relative, small_conv

SGD, STEPS = optax.sgd(0.1), 2


@pytest.fixture
def model(float64):
    return small_conv(jnp.float64)


def test_untouched_it_is_anil_on_the_backbone(model):
    backbone = model.init(KEY)["body"]
    learner = mj.mtl(model, mj.cross_entropy, SGD, STEPS, backbone=backbone)
    plain = mj.anil(model, mj.cross_entropy, SGD, STEPS)
    episode = image_episode(KEY, dtype=jnp.float64)
    meta = learner.init(jax.random.key(1))
    whole = {"body": backbone, "head": meta["head"]}
    ours = jax.jit(gradient(learner))(meta, episode)
    theirs = jax.jit(gradient(plain))(whole, episode)
    assert relative(ours["head"], theirs["head"]) < 1e-12
    for w, at_scale, at_weights in zip(backbone, ours["body"], theirs["body"]):
        # W' = W Φ, so that Φ's gradient is W times that of W', over the window.
        by_scale = jnp.sum(w["kernel"] * at_weights["kernel"], (0, 1))
        assert relative(at_scale["kernel"], by_scale) < 1e-10
        assert relative(at_scale["offset"], at_weights["offset"]) < 1e-12


def test_scales_and_shifts_are_the_weights_they_make(model):
    body, _ = model.parts
    weights = body.init(KEY)
    scaled = scale_and_shift(body, weights)
    keys = iter(jax.random.split(KEY, 100))
    params = jax.tree.map(
        lambda x: x + jax.random.normal(next(keys), x.shape), scaled.init(KEY)
    )
    made = jax.tree.map(
        lambda w, p: w * p[None, None] if w.ndim == 4 else w + p, weights, params
    )
    x = image_episode(KEY, dtype=jnp.float64).query.inputs
    np.testing.assert_allclose(scaled.apply(params, x), body.apply(made, x))


def test_refuses_what_it_cannot_stand_on(model):
    with pytest.raises(mj.InputError, match="needs a pre-trained backbone"):
        mj.mtl(model, mj.cross_entropy, SGD, STEPS, backbone=None)
    wider = mj.conv4(3, 5, image_shape=(16, 16, 1), dtype=jnp.float64).init(KEY)
    with pytest.raises(mj.InputError, match="backbone must have the shapes of the"):
        mj.mtl(model, mj.cross_entropy, SGD, STEPS, backbone=wider["body"])
    keeping = mj.conv4(3, 4, image_shape=(16, 16, 1), norm="support")
    with pytest.raises(mj.InputError, match="transductive"):
        backbone = keeping.init(KEY)["body"]
        mj.mtl(keeping, mj.cross_entropy, SGD, STEPS, backbone=backbone)
