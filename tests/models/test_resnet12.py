"""ResNet-12 against the same network in Flax, its gradients and its edges."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.models.norms import NORMS
from metajax.types import Padded
from tests.helpers import (
    KEY,
    descend,
    gradient,
    image_episode,
    naive_maml,
    relative,
)

WIDTHS = (2, 3, 3, 4)


def build(size=16, channels=1, **settings):
    settings = dict(head="glorot", dtype=jnp.float64) | settings
    return mj.resnet12(3, WIDTHS, image_shape=(size, size, channels), **settings)


def moved(params):
    """Parameters at which no scale is 1 and no offset 0."""
    draw = np.random.default_rng(7).normal
    return jax.tree.map(lambda x: x + jnp.asarray(0.3 * draw(size=x.shape)), params)


class LinenBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        def normed(name, side, x):
            size = (side, side)
            x = nn.Conv(self.width, size, use_bias=False, name=f"conv_{name}")(x)
            settings = dict(use_running_average=False, use_fast_variance=False)
            return nn.BatchNorm(epsilon=1e-5, name=f"norm_{name}", **settings)(x)

        y = nn.leaky_relu(normed("0", 3, x), 0.1)
        y = nn.leaky_relu(normed("1", 3, y), 0.1)
        y = normed("2", 3, y) + normed("shortcut", 1, x)
        return nn.max_pool(nn.leaky_relu(y, 0.1), (2, 2), (2, 2))


class LinenResNet(nn.Module):
    pool: str

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(WIDTHS):
            x = LinenBlock(width, name=f"block_{i}")(x)
        x = x.mean((1, 2)) if self.pool == "mean" else x.reshape(len(x), -1)
        return nn.Dense(3, name="head")(x)


def as_linen(params):
    """Our parameters under Flax's names."""

    def layer(name, weights):
        norm = {"scale": weights["scale"], "bias": weights["offset"]}
        return {f"conv_{name}": {"kernel": weights["kernel"]}, f"norm_{name}": norm}

    tree = {"head": params["head"]}
    for i, block in enumerate(params["body"]):
        layers = {str(j): w for j, w in enumerate(block["convolutions"])}
        layers["shortcut"] = block["shortcut"]
        tree[f"block_{i}"] = {
            k: v for name, w in layers.items() for k, v in layer(name, w).items()
        }
    return tree


def linen_apply(pool="mean"):
    def apply(params, x):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            tree = {"params": as_linen(params), "batch_stats": {}}
            return LinenResNet(pool).apply(tree, x, mutable=["batch_stats"])[0]

    return apply


@pytest.mark.parametrize("pool, size", [("mean", 16), ("flat", 37)])
def test_equals_flax(float64, pool, size):
    model = build(size, 2, pool=pool)
    params = moved(model.init(KEY))
    x = jax.random.normal(KEY, (5, size, size, 2), jnp.float64)
    ours, theirs = (jax.jit(f)(params, x) for f in (model.apply, linen_apply(pool)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_each_task_with_its_own_weights(float64):
    model = build()
    params = jax.vmap(model.init)(jax.random.split(KEY, 2))
    x = jax.random.normal(KEY, (2, 4, 16, 16, 1), jnp.float64)
    found, linen = jax.jit(jax.vmap(model.apply))(params, x), jax.jit(linen_apply())
    for task in range(2):
        own = jax.tree.map(lambda p, t=task: p[t], params)
        theirs = linen(own, x[task])
        np.testing.assert_allclose(found[task], theirs, rtol=1e-9, atol=1e-11)


def test_the_meta_gradient_is_that_of_reverse_over_reverse_in_flax(float64):
    model = build()
    theirs = mj.Model(model.init, linen_apply())
    episode = image_episode(KEY, shots=2, queries=2, dtype=jnp.float64)
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 1)
    meta = moved(learner.init(KEY))
    found = jax.jit(gradient(learner))(meta, episode)
    loops = [
        naive_maml(theirs, mj.cross_entropy, descend(0.1), 1, stop=stop)
        for stop in (False, True)
    ]
    exact, first = (jax.jit(jax.grad(loop))(meta, episode) for loop in loops)
    assert relative(found, exact) < 1e-9
    assert relative(first, exact) > 1e-2, "the second order is no small part"


@pytest.mark.parametrize("norm", NORMS)
def test_padding_changes_nothing(float64, norm):
    model = build(norm=norm)
    params = moved(model.init(KEY))
    support, query = jax.random.normal(KEY, (2, 4, 16, 16, 1), jnp.float64)

    def padded(x):
        more = jnp.full((3, *x.shape[1:]), 9.0, x.dtype)
        present = jnp.arange(7) % 6 % 5 > 0  # the first and the last two are not
        return Padded(jnp.concatenate([more[:1], x, more[1:]]), present)

    @partial(jax.jit, static_argnums=0)
    def predict(pad):
        settled = model.settle(params, pad(support))
        return model.apply(settled, pad(query))

    found = predict(padded)[1:5]
    assert relative(found, predict(lambda x: x)) < 1e-12


@pytest.mark.parametrize("norm", ["support", "task"])
def test_settled_queries_are_predicted_alone(float64, norm):
    model = build(norm=norm)
    support, query = jax.random.normal(KEY, (2, 4, 16, 16, 1), jnp.float64)
    params = moved(model.init(KEY))
    settled, apply = jax.jit(model.settle)(params, support), jax.jit(model.apply)
    together = apply(settled, query)
    alone = jnp.concatenate([apply(settled, x[None]) for x in query])
    assert relative(alone, together) < 1e-12
    apart = jnp.concatenate([apply(params, x[None]) for x in query])
    assert relative(apart, together) > 1e-2


def test_shapes_of_the_paper():
    shapes = jax.eval_shape(mj.resnet12(5).init, KEY)
    kernels = [
        [w["kernel"].shape for w in (*block["convolutions"], block["shortcut"])]
        for block in shapes["body"]
    ]
    widths = (3, 64, 160, 320, 640)
    assert kernels == [
        [(3, 3, c, f), (3, 3, f, f), (3, 3, f, f), (1, 1, c, f)]
        for c, f in zip(widths, widths[1:])
    ]
    assert shapes["head"]["kernel"].shape == (640, 5)
    # MetaOptNet's count, 12.4 million.
    assert sum(x.size for x in jax.tree.leaves(shapes["body"])) == 12_424_320
    flat = jax.eval_shape(mj.resnet12(5, pool="flat").init, KEY)
    assert flat["head"]["kernel"].shape == (16_000, 5)


def test_kernels_start_as_he_has_it():
    params = mj.resnet12(5, (64, 32, 2, 2)).init(KEY)
    kernel = params["body"][1]["convolutions"][0]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.02)
    assert float(jnp.abs(params["head"]["kernel"]).max()) == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(ways=0), "ways must be"),
        (dict(widths=(4, 4, 4)), "widths must be 4 numbers, one for each block"),
        (dict(widths=(4, 4, 0, 4)), "a width must be a whole number of at least 1"),
        (dict(pool="max"), 'pool must be one of "mean", "flat", got \'max\''),
        (dict(head="random"), 'head must be one of "zero", "glorot"'),
        (dict(norm="running"), '"transductive", "support", "task"'),
        (dict(image_shape=(15, 84, 3)), r"at least 16x16, got \(15, 84, 3\)"),
        (dict(image_shape=(84, 84)), "height, width, channels"),
        (dict(image_shape=(84, 84, 0)), "height, width, channels"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(mj.InputError, match=message):
        mj.resnet12(**{"ways": 5} | settings)


def test_refuses_images_of_another_size():
    model = build(dtype=jnp.float32)
    with pytest.raises(mj.InputError, match=r"takes images \[n, 16, 16, 1\], got"):
        model.apply(model.init(KEY), jnp.zeros((2, 32, 32, 1)))
