"""U-Net and its parts: shapes, independence, refusals and meta-gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.models import decoder, encoder, pixel_head, unet, unet_body
from metajax.models.convolved import upsampled
from metajax.ops import group_norm
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY, descend, gradient, naive_maml, relative

WIDTHS = 4, 6, 8
SMALL = dict(channels=1, groups=2)


def shape_of(model, *shape):
    """Of what a model makes of images, without computing."""
    run = lambda: model.apply(model.init(KEY), jnp.zeros(shape))  # noqa: E731
    return jax.tree.map(jnp.shape, jax.eval_shape(run))


@pytest.mark.parametrize("sides", [(8, 8), (16, 24), (40, 8)])
@pytest.mark.parametrize("patch", [1, 2])
def test_shapes_for_images_of_any_size(sides, patch):
    settings = dict(SMALL, patch=patch)
    height, width = sides
    maps = shape_of(encoder(WIDTHS, **settings), 2, *sides, 1)
    assert maps == tuple(
        (2, height // patch // 2**i, width // patch // 2**i, n)
        for i, n in enumerate(WIDTHS)
    )
    for level, width_of_level in enumerate(WIDTHS):
        body = unet_body(WIDTHS, level=level, **settings)
        expected = (*maps[level][:3], width_of_level)
        assert shape_of(body, 2, *sides, 1) == expected
    assert shape_of(unet(5, WIDTHS, **settings), 2, *sides, 1) == (2, *sides, 5)


def test_the_parameters_fit_any_size_and_level():
    """And a body at a coarser level has fewer of them."""
    shapes = [
        jax.eval_shape(unet_body(WIDTHS, level=n, **SMALL).init, KEY) for n in range(3)
    ]
    assert shapes[0]["body"] == shapes[1]["body"] == shapes[2]["body"]
    assert [len(each["head"]) for each in shapes] == [2, 1, 0]
    two = jax.eval_shape(encoder(WIDTHS, convolutions=2, **SMALL).init, KEY)
    assert [len(level) for level in two] == [2, 2, 2]


def plain_layer(weights, x):
    x = jax.lax.conv_general_dilated(
        x, weights["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(group_norm(x, weights["scale"], weights["offset"], 2))


def halved(x):
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def doubled(x):
    return x.repeat(2, 1).repeat(2, 2)


def plain_unet(params, x):
    """Of two levels and patches of one pixel, as the docstrings have it."""
    (first,), (second,) = params["body"]["body"]
    fine = plain_layer(first, x)
    coarse = plain_layer(second, halved(fine))
    joined = jnp.concatenate([doubled(coarse), fine], -1)
    features = plain_layer(params["body"]["head"][0], joined)
    head = params["head"]
    return features @ head["kernel"][0, 0] + head["bias"].reshape(1, 1, 1, -1)


def tiny(outputs=3, dtype=jnp.float64, **settings):
    return unet(outputs, (4, 6), dtype=dtype, **(SMALL | settings))


def started(model):
    """Parameters at which no kernel or offset is zero."""
    leaves, tree = jax.tree.flatten(model.init(KEY))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = (0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves))
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise)])


def test_is_its_formula(float64):
    model = tiny()
    x = jax.random.normal(KEY, (2, 4, 6, 1), jnp.float64)
    params = started(model)
    expected = plain_unet(params, x)
    assert relative(jax.jit(model.apply)(params, x), expected) < 1e-12
    np.testing.assert_array_equal(upsampled(x), doubled(x))


def test_starts_with_equal_outputs():
    model = tiny(dtype=jnp.float32)
    outputs = model.apply(model.init(KEY), jax.random.normal(KEY, (1, 4, 4, 1)))
    assert outputs.dtype == jnp.float32 and not np.any(outputs)


@pytest.mark.parametrize("patch", [1, 2])
def test_each_example_is_independent(float64, patch):
    model = tiny(patch=patch, convolutions=2)
    params, apply = started(model), jax.jit(model.apply)
    x = jax.random.normal(KEY, (3, 8, 8, 1), jnp.float64)
    together = apply(params, x)
    for k in range(3):
        alone = apply(params, x[k : k + 1])
        np.testing.assert_allclose(alone, together[k : k + 1], rtol=1e-10)
    padded = apply(params, Padded(x, jnp.array([True, False, True])))
    np.testing.assert_array_equal(padded, together)


def test_a_head_gives_each_pixel_of_a_patch_its_own_outputs(float64):
    head = pixel_head(4, 3, patch=2, dtype=jnp.float64)
    params = started(head)
    features = jax.random.normal(KEY, (1, 2, 3, 4), jnp.float64)
    outputs = head.apply(params, features)
    for i in range(4):
        for j in range(6):
            first = ((i % 2) * 2 + j % 2) * 3
            kernel = params["kernel"][0, 0, :, first : first + 3]
            expected = features[0, i // 2, j // 2] @ kernel
            expected = expected + params["bias"][first : first + 3]
            np.testing.assert_allclose(outputs[0, i, j], expected, rtol=1e-12)


def mask_episode(key=KEY, size=4):
    """Of three classes, with pixels that have no label."""

    def batch(key, n):
        x = jax.random.normal(key, (n, size, size, 1), jnp.float64)
        labels = jax.random.randint(jax.random.fold_in(key, 1), x.shape[:3], 0, 4)
        return Batch(x, jnp.where(labels == 3, mj.losses.UNLABELLED, labels))

    return Episode(*(batch(jax.random.fold_in(key, n), n) for n in (2, 3)))


def head_alone(params, grads, _):
    return params | {"head": descend(0.1)(params["head"], grads["head"], 0)}


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_the_meta_gradient_is_that_of_a_loop(float64, name):
    model, episode = tiny(), mask_episode()
    loss, sgd = mj.pixel_cross_entropy, optax.sgd(0.1)
    factory, rule = {"maml": (mj.maml, descend(0.1)), "anil": (mj.anil, head_alone)}[
        name
    ]
    plain = mj.Model(model.init, plain_unet)
    loops = [
        jax.jit(jax.grad(naive_maml(plain, loss, rule, 2, stop=stop)))
        for stop in (False, True)
    ]
    meta = started(model)
    exact, first = (loop(meta, episode) for loop in loops)
    ours = jax.jit(gradient(factory(model, loss, sgd, 2)))(meta, episode)
    assert relative(ours, exact) < 1e-12
    assert relative(first, exact) > 1e-4, "the second order is no small part"


def test_computes_in_bfloat16():
    model = tiny(dtype=jnp.float32)
    params, x = started(model), jax.random.normal(KEY, (2, 8, 8, 1))
    half = mj.in_precision(model, "bfloat16").apply(params, x)
    assert half.dtype == jnp.float32
    assert 1e-4 < relative(half, model.apply(params, x)) < 0.05


BAD = [
    (lambda: encoder(()), "widths must be at least one number, got none"),
    (lambda: encoder((8, 0)), "a width must be a whole number of at least 1, got 0"),
    (lambda: encoder((8, 12)), "groups must divide every width, got 8 .* width of 12"),
    (lambda: unet(2, (8,), groups=0), "groups must be a whole number of at least 1"),
    (lambda: encoder((8,), channels=0), "channels must be a whole number"),
    (lambda: encoder((8,), patch=0), "patch must be a whole number"),
    (lambda: encoder((8,), convolutions=0), "convolutions must be a whole number"),
    (lambda: decoder((8, 8), level=2), "level must be at most 1, got 2"),
    (lambda: unet_body((8, 8), level=-1), "level must be a whole number of at least 0"),
    (lambda: unet(0), "outputs must be a whole number of at least 1, got 0"),
    (lambda: pixel_head(0, 1), "features must be a whole number"),
    (lambda: pixel_head(1, 1, patch=0), "patch must be a whole number"),
    (
        lambda: shape_of(unet(2, (8, 8)), 1, 6, 7, 3),
        r"\[n, height, width, 3\] whose sides are multiples of 2, got \(1, 6, 7, 3\)",
    ),
    (
        lambda: shape_of(unet(2, (8, 8, 8), patch=2), 1, 12, 8, 3),
        r"multiples of 8, got \(1, 12, 8, 3\); resize or pad them, or take fewer",
    ),
    (lambda: shape_of(unet(2, (8,)), 1, 8, 8, 1), r"width, 3\] .* got \(1, 8, 8, 1\)"),
    (lambda: shape_of(unet(2, (8,)), 8, 8, 3), r"got \(8, 8, 3\)"),
    (lambda: shape_of(unet(2, (8,)), 1, 0, 8, 3), r"got \(1, 0, 8, 3\)"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_refuses(make, message):
    with pytest.raises(mj.InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
