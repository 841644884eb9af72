import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import metajax as mj
from metajax.ops import bilinear
from metajax.ops.estimate import equations
from metajax.types import Episode
from tests.helpers import KEY, gradient, image_episode, relative, small_conv

MODELS = {
    "conv4": small_conv,
    "mlp": lambda: mj.mlp(256, (8,), 3),
    "linen": lambda: mj.from_linen(nn.Dense(3), jnp.zeros((1, 256))),
    "transformer": lambda: mj.transformer(16, 3, width=8, depth=1),
    "snail": lambda: mj.models.snail_network(16, 3, 4, filters=3, attention=SIZES),
}
SIZES = (3, 2), (4, 3)
SHAPES = {"conv4": (16, 16, 1), "transformer": (16, 16), "snail": (16, 16)}
# How JAX writes down the settings that products carry.
WRITTEN = {
    "highest": {lax.Precision.HIGHEST, "highest"},
    "float32": {lax.Precision.HIGHEST, "float32"},
    "tensorfloat32": {lax.Precision.HIGH, "tensorfloat32"},
}


def smooth_apply(params, x):
    """No kinks, which rounding would flip."""
    for kernel in params["kernels"]:
        x = mj.ops.conv2d(x, kernel, stride=2)
        x = jnp.tanh(mj.ops.batch_norm(x, *params["norm"]))
    return mj.ops.linear(x.reshape(x.shape[0], -1), params["head"])


def smooth_init(key):
    keys = jax.random.split(key, 3)
    shapes = (3, 3, 1, 8), (3, 3, 8, 8), (128, 3)
    *kernels, head = (0.2 * jax.random.normal(k, s) for k, s in zip(keys, shapes))
    return {"kernels": kernels, "norm": (jnp.ones(8), jnp.zeros(8)), "head": head}


SMOOTH = mj.Model(smooth_init, smooth_apply)


def meta_gradient(model, grad=mj.exact):
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 2, grad=grad)
    return gradient(learner)


def episode_for(name):
    shape = SHAPES.get(name, (256,))
    return Episode(
        *(
            side._replace(inputs=side.inputs.reshape(-1, *shape))
            for side in image_episode(KEY)
        )
    )


def precisions(function, *args):
    """Of every product that a function and its derivatives take."""
    for equation, _ in equations(function, *args):
        if equation.primitive.name == "dot_general":
            found = equation.params["precision"]
            yield from found if isinstance(found, tuple) else [found]
        elif equation.primitive in bilinear.PRIMITIVES:
            yield equation.params["rule"].settings.precision


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "precision, expected",
    [(None, "highest"), ("float32", "float32"), ("tensorfloat32", "tensorfloat32")],
)
def test_every_product_has_the_precision(name, precision, expected):
    with jax.numpy_rank_promotion("allow"):
        model = MODELS[name]()
        chosen = model if precision is None else mj.in_precision(model, precision)
        params = model.init(KEY)
        found = set(precisions(meta_gradient(chosen), params, episode_for(name)))
    assert found and found <= WRITTEN[expected]


@pytest.mark.parametrize("name", MODELS)
def test_the_setting_of_jax_is_kept(name):
    with jax.numpy_rank_promotion("allow"):
        model = MODELS[name]()
        params = model.init(KEY)
        with jax.default_matmul_precision("tensorfloat32"):
            found = set(precisions(meta_gradient(model), params, episode_for(name)))
    assert found and found <= WRITTEN["tensorfloat32"]


@pytest.mark.parametrize("grad", [mj.mixed, mj.reverse])
def test_bfloat16_is_near_and_its_gradient_of_the_parameters_type(grad):
    params, episode = SMOOTH.init(KEY), image_episode(KEY, queries=5)
    single = meta_gradient(SMOOTH)(params, episode)
    half = meta_gradient(mj.in_precision(SMOOTH, "bfloat16"), grad)(params, episode)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    assert 1e-4 < relative(half, single) < 0.05


def test_bfloat16_leaves_integers_alone():
    model = mj.Model(lambda key: jnp.ones(3), lambda params, i: params[i])
    half = mj.in_precision(model, "bfloat16")
    out = half.apply(jnp.array([1.0, 1 + 2**-12, 3.0]), jnp.array([1, 2]))
    np.testing.assert_array_equal(out, [1.0, 3.0])
    assert out.dtype == jnp.float32


def test_bfloat16_leaves_labels_alone():
    model = mj.Model(lambda key: jnp.eye(3), lambda params, x: jnp.argmax(x @ params))
    out = mj.in_precision(model, "bfloat16").apply(jnp.eye(3), jnp.arange(3.0))
    assert out == 2 and jnp.issubdtype(out.dtype, jnp.integer)


def test_refuses_other_precisions():
    with pytest.raises(mj.InputError, match='"float32", "tensorfloat32", "bfloat16"'):
        mj.in_precision(mj.mlp(), "float16")  # pyright: ignore
