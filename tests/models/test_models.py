import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

import metajax as mj
from tests.helpers import KEY, image_episode, relative, small_conv


def textbook_conv4(params, x, pooling):
    """The same network from lax alone."""
    stride = {"max": 1, "stride": 2}[pooling]
    for block in params["body"]:
        x = lax.conv_general_dilated(
            x,
            block["kernel"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) / jnp.sqrt(variance + 1e-5) * block["scale"] + block["offset"]
        x = jax.nn.relu(x)
        if pooling == "max":
            window = (1, 2, 2, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
    return x.reshape(x.shape[0], -1) @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("size", [16, 21])
def test_conv4_equals_textbook(float64, pooling, size):
    shape = (size, size, 2)
    model = mj.conv4(3, 4, pooling, image_shape=shape, dtype=jnp.float64)
    params = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(KEY, x.shape, x.dtype), model.init(KEY)
    )
    x = jax.random.normal(KEY, (5, *shape), jnp.float64)
    with jax.numpy_rank_promotion("allow"):
        theirs = textbook_conv4(params, x, pooling)
    np.testing.assert_allclose(model.apply(params, x), theirs, rtol=1e-10, atol=1e-12)


def test_shapes_of_the_paper():
    params = mj.conv4(5).init(KEY)
    kernels = [block["kernel"].shape for block in params["body"]]
    assert kernels == [(3, 3, 1, 64)] + 3 * [(3, 3, 64, 64)]
    assert params["head"]["kernel"].shape == (64, 5)
    assert mj.conv4(5, 32, image_shape=(84, 84, 3)).init(KEY)["head"][
        "kernel"
    ].shape == (800, 5)
    strided = mj.conv4(5, 64, "stride").init(KEY)
    assert strided["head"]["kernel"].shape == (256, 5)
    params = mj.mlp().init(KEY)
    widths = [layer["kernel"].shape for layer in (*params["body"], params["head"])]
    assert widths == [(1, 40), (40, 40), (40, 1)]


def test_refuses_bad_sizes():
    with pytest.raises(mj.InputError, match="ways must be"):
        mj.conv4(0)
    with pytest.raises(mj.InputError, match='pooling must be one of "max", "stride"'):
        mj.conv4(5, pooling="mean")  # pyright: ignore
    with pytest.raises(mj.InputError, match='head must be one of "zero", "glorot"'):
        mj.conv4(5, head="random")  # pyright: ignore
    with pytest.raises(mj.InputError, match=r"takes images \[n, 28, 28, 1\], got"):
        mj.conv4(5).apply(mj.conv4(5).init(KEY), jnp.zeros((2, 14, 14, 1)))
    with pytest.raises(mj.InputError, match="at least 16x16"):
        mj.conv4(5, image_shape=(15, 28, 1))
    with pytest.raises(mj.InputError, match="height, width, channels"):
        mj.conv4(5, image_shape=(28, 28))  # pyright: ignore
    with pytest.raises(mj.InputError, match="width"):
        mj.mlp(hidden=(0,))


def test_a_layer_refuses_other_features():
    body, _ = mj.mlp(2, (6,), 1).parts
    learner = mj.siamese(body, mj.dense(4, 1), ways=3)
    support = mj.Batch(jnp.ones((3, 2)), jnp.arange(3))
    adapted = learner.adapt(learner.init(jax.random.key(0)), support)
    with pytest.raises(mj.InputError, match=r"4 features an example, got .*\(9, 6\)"):
        learner.predict(adapted, support.inputs)


@pytest.mark.parametrize("model", [mj.mlp(2, (4, 4), 3), small_conv()], ids=len)
def test_a_headed_model_is_its_parts(model):
    params = model.init(KEY)
    x = jax.random.normal(KEY, (5, 2) if len(params["body"]) == 2 else (5, 16, 16, 1))
    body, head = model.parts
    features = body.apply(params["body"], x)
    whole = model.apply(params, x)
    np.testing.assert_array_equal(head.apply(params["head"], features), whole)
    again = mj.headed(body, head).init(KEY)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    half = mj.in_precision(model, "bfloat16")
    features = half.parts[0].apply(params["body"], x)
    np.testing.assert_array_equal(
        half.parts[1].apply(params["head"], features), half.apply(params, x)
    )


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(8 * 8 * 4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(x.reshape(x.shape[0], -1))


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, stride=2, padding=1, key=first)
        self.head = eqx.nn.Linear(8 * 8 * 4, 3, key=second)

    def __call__(self, x):
        x = jax.nn.relu(self.conv(jnp.moveaxis(x, -1, 0)))
        return self.head(x.ravel())


ADAPTED = {
    "linen": lambda: mj.from_linen(LinenNet(), jnp.zeros((1, 16, 16, 1))),
    "nnx": lambda: mj.from_nnx(NNXNet),
    "equinox": lambda: mj.from_equinox(EquinoxNet),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_train(name):
    # The libraries themselves rely on implicit promotion.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        model = ADAPTED[name]()
        learner = mj.maml(
            model,
            mj.cross_entropy,
            optax.sgd(0.1),
            2,
            metrics={"accuracy": mj.accuracy},
        )

        def episodes(key, tasks):
            return jax.vmap(image_episode)(jax.random.split(key, tasks))

        losses = []

        class Watch:
            def start(self, state): ...

            def record(self, state, metrics):
                losses.append(metrics["loss"].mean())

        state = mj.fit(
            learner,
            optax.adam(3e-3),
            episodes,
            steps=60,
            tasks=4,
            steps_per_call=20,
            observers=[Watch()],
        )
        assert losses[-1] < 0.7 * losses[0]
        again = model.init(jax.random.key(1))
        assert jax.tree.structure(again) == jax.tree.structure(state.meta)
        assert relative(again, model.init(jax.random.key(2))) > 0.1


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_adapters_normalise_by_the_batch(name):
    """The same example in two batches: another output, and no state left behind."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        model = ADAPTED[name]()
        params = model.init(KEY)
        x = jax.random.normal(KEY, (4, 16, 16, 1))
        whole, part = model.apply(params, x), model.apply(params, x[:2])
        np.testing.assert_array_equal(whole, model.apply(params, x))
        assert np.abs(whole[:2] - part).max() > 1e-4
