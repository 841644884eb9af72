"""Detectors of the objects of a support set, against plain loops."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.detection import Boxes, CentreMaps, centre_loss, decode
from metajax.models import centre_head, convolution
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY, compiled, gradient, naive_maml, relative

STRIDE, WAYS, WIDTH, FILTERS, SCALE, RATE = 2, 2, 3, 3, 5.0, 0.5
LOSS = centre_loss(STRIDE)
SIZES = dict(stride=STRIDE, channels=WIDTH, filters=FILTERS, scale=SCALE)


def small_body(dtype=jnp.float64):
    """A convolution and a pool, of images of any size."""
    layer = convolution(3, 1, WIDTH, bias=0.3, dtype=dtype)

    def apply(params, images):
        images = images.values if isinstance(images, Padded) else images
        return mj.ops.max_pool(jax.nn.relu(layer.apply(params, images)))

    return mj.Model(layer.init, apply)


def correlation(ways=WAYS, dtype=jnp.float64, **settings):
    return mj.correlation_detector(small_body(dtype), ways, LOSS, **SIZES, **settings)


def fine_tuned(ways=WAYS, dtype=jnp.float64, steps=3, **settings):
    sgd = optax.sgd(RATE)
    return mj.fine_tuned_detector(
        small_body(dtype), ways, LOSS, sgd, steps=steps, **SIZES, **settings
    )


BOTH = pytest.mark.parametrize("build", [correlation, fine_tuned])


def scenes(key, size, corners, labels, present, dtype=jnp.float64):
    images = jax.random.uniform(key, (len(corners), size, size, 1), dtype)
    corners = jnp.asarray(corners, dtype)
    return Batch(images, Boxes(corners, jnp.array(labels), jnp.array(present)))


def scene_episode(key=KEY, dtype=jnp.float64):
    """Two shots of class 0, one of class 1; larger queries, one without an object."""
    nothing = [9.0, 9.0, 9.0, 9.0]
    support = scenes(
        jax.random.fold_in(key, 0),
        8,
        [[[0, 0, 3, 5], [4, 4, 8, 7]], [[1, 2, 6, 6], nothing]],
        [[0, 1], [0, 7]],
        [[True, True], [True, False]],
        dtype,
    )
    query = scenes(
        jax.random.fold_in(key, 1),
        12,
        [[[2, 1, 6, 6], [5, 7, 11, 12]], [nothing, nothing]],
        [[1, 0], [7, 7]],
        [[True, True], [False, False]],
        dtype,
    )
    return Episode(support, query)


def meta_of(learner):
    """Parameters at which no offset is zero."""
    leaves, tree = jax.tree.flatten(learner.init(KEY))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = (0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves))
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise)])


def plain_conv(x, weights):
    return jax.lax.conv_general_dilated(
        x, weights["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ) + weights["bias"].reshape(1, 1, 1, -1)


def plain_features(params, images):
    x = jax.nn.relu(plain_conv(images, params))
    n, rows, columns, channels = x.shape
    return x.reshape(n, rows // 2, 2, columns // 2, 2, channels).max((2, 4))


def plain_head(params, features):
    z = jax.nn.relu(plain_conv(features, params["hidden"]))
    return CentreMaps(*(plain_conv(z, params[n]) for n in ("heat", "size", "offset")))


def plain_codes(features, boxes):
    """By loops over boxes and cells."""
    pooled = [[] for _ in range(WAYS)]
    for image, corners, labels, present in zip(features, *jax.device_get(boxes)):
        for box, label, there in zip(corners, labels, present):
            if not there:
                continue
            total, mass = 0.0, 0.0
            left, top, right, bottom = (float(side) / STRIDE for side in box)
            for i in range(image.shape[0]):
                for j in range(image.shape[1]):
                    tall = max(0.0, min(bottom, i + 1) - max(top, i))
                    wide = max(0.0, min(right, j + 1) - max(left, j))
                    total = total + tall * wide * image[i, j]
                    mass += tall * wide
            pooled[int(label)].append(total / mass)
    return [sum(each) / len(each) for each in pooled]


def plain_maps(objects, features, codes, scale):
    heats = []
    for code in codes:
        dots = jnp.sum(features * code.reshape(1, 1, 1, -1), -1)
        lengths = jnp.sqrt(jnp.sum(features**2, -1)) * jnp.sqrt(jnp.sum(code**2))
        heats.append(objects.heat[..., 0] + scale * (dots / lengths - 1))
    return objects._replace(heat=jnp.stack(heats, -1))


def plain_correlation(meta, episode):
    """The maps of the queries."""
    features = [plain_features(meta["body"], batch.inputs) for batch in episode]
    embedded = [plain_conv(x, meta["embedding"]) for x in features]
    codes = plain_codes(embedded[0], episode.support.targets)
    objects = plain_head(meta["head"], features[1])
    return plain_maps(objects, embedded[1], codes, jnp.exp(meta["log_scale"]))


def plain_fine_tuned(meta, episode, steps):
    features = [plain_features(meta["body"], batch.inputs) for batch in episode]
    objects = [plain_head(meta["head"], x) for x in features]
    codes = jnp.stack(plain_codes(features[0], episode.support.targets))
    kernel = codes / jnp.linalg.norm(codes, axis=1, keepdims=True)

    def loss(kernel):
        maps = plain_maps(objects[0], features[0], kernel, SCALE)
        return LOSS(maps, episode.support.targets)

    for _ in range(steps):
        kernel = kernel - RATE * jax.grad(loss)(kernel)
    return plain_maps(objects[1], features[1], kernel, SCALE)


def outputs(learner, meta, episode):
    adapted = learner.adapt(meta, episode.support)
    return learner.predict(adapted, episode.query.inputs)


def test_the_gradient_of_the_correlation_is_that_of_a_loop(float64):
    (learner, slopes), episode = compiled(correlation), scene_episode()
    meta = meta_of(learner)

    def loss(meta):
        maps = plain_correlation(meta, episode)
        return LOSS(maps, episode.query.targets), maps

    plain, maps = jax.jit(jax.grad(loss, has_aux=True))(meta)
    assert relative(outputs(learner, meta, episode), maps) < 1e-10
    assert relative(slopes(meta, episode), plain) < 1e-9


def test_the_stages_of_the_fine_tuned_are_those_of_a_loop(float64):
    (learner, slopes), episode = compiled(fine_tuned), scene_episode()
    meta = meta_of(learner)
    tuned = outputs(learner, meta, episode)
    whole, none = (
        jax.jit(lambda meta, n=n: plain_fine_tuned(meta, episode, n))(meta)
        for n in (3, 0)
    )
    assert relative(tuned, whole) < 1e-9
    assert relative(none, tuned) > 1e-3

    def plain(meta):
        """Of any objects."""
        features = plain_features(meta["body"], episode.query.inputs)
        boxes = episode.query.targets
        boxes = boxes._replace(labels=jnp.zeros_like(boxes.labels))
        return LOSS(plain_head(meta["head"], features), boxes)

    assert relative(slopes(meta, episode), jax.jit(jax.grad(plain))(meta)) < 1e-9


def test_no_steps_keep_the_codes(float64):
    (learner, _), episode = compiled(partial(fine_tuned, steps=0)), scene_episode()
    meta = meta_of(learner)
    plain = jax.jit(lambda meta: plain_fine_tuned(meta, episode, 0))(meta)
    assert relative(outputs(learner, meta, episode), plain) < 1e-10


def test_the_trajectory_ends_in_adapt(float64):
    (learner, _), episode = compiled(fine_tuned), scene_episode()
    meta = meta_of(learner)
    path = jax.jit(learner.trajectory)(meta, episode.support)
    codes = path.classes.codes
    assert codes.shape == (4, WAYS, WIDTH)
    adapted = learner.adapt(meta, episode.support)
    assert relative(codes[-1], adapted.classes.codes) < 1e-12


def head_alone(params, grads, step):
    """A step of gradient descent on the head."""
    head = jax.tree.map(lambda p, g: p - 0.1 * g, params["head"], grads["head"])
    return {"body": params["body"], "head": head}


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_maml_on_the_head_of_a_detector(float64, name):
    head = centre_head(WIDTH, WAYS, FILTERS, dtype=jnp.float64)
    detector, episode = mj.headed(small_body(), head), scene_episode()
    sgd = optax.sgd(0.1)
    learner = {
        "maml": lambda: mj.maml(
            detector,
            LOSS,
            sgd,
            steps=2,
            adapts=lambda path: path.startswith("['head']"),
        ),
        "anil": lambda: mj.anil(detector, LOSS, sgd, steps=2),
    }[name]()
    meta = meta_of(learner)
    ours = jax.jit(gradient(learner))(meta, episode)
    loops = [
        jax.jit(jax.grad(naive_maml(detector, LOSS, head_alone, 2, stop=stop)))
        for stop in (False, True)
    ]
    exact, first = (loop(meta, episode) for loop in loops)
    assert relative(ours, exact) < 1e-9
    assert relative(first, exact) > 1e-3, "the second order is no small part"


@BOTH
def test_a_permutation_of_the_classes_permutes_the_heat(float64, build):
    (learner, _), episode = compiled(build), scene_episode()
    meta = meta_of(learner)
    support, query = episode
    boxes = support.targets
    turned = support._replace(targets=boxes._replace(labels=1 - boxes.labels))
    plain = outputs(learner, meta, episode)
    other = outputs(learner, meta, Episode(turned, query))
    np.testing.assert_allclose(other.heat, plain.heat[..., ::-1], rtol=1e-9)
    np.testing.assert_array_equal(other.size, plain.size)


@BOTH
def test_a_class_without_a_shot_is_never_detected(float64, build):
    episode = scene_episode()
    (wider, slopes), (learner, others) = compiled(build, WAYS + 2), compiled(build)
    meta = meta_of(learner)
    wide, plain = (outputs(x, meta, episode) for x in (wider, learner))
    np.testing.assert_allclose(wide.heat[..., :WAYS], plain.heat, rtol=1e-9)
    assert set(decode(wide, STRIDE, 5).labels[0].tolist()) <= {0, 1}
    assert relative(slopes(meta, episode), others(meta, episode)) < 1e-9


@BOTH
def test_tasks_without_objects_have_a_finite_gradient(float64, build):
    (learner, gradient), episode = compiled(build), scene_episode()
    meta = meta_of(learner)
    empty = jax.tree.map(lambda x: jnp.zeros_like(x) if x.dtype == bool else x, episode)
    slopes = gradient(meta, empty)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slopes))
    assert not decode(outputs(learner, meta, empty), STRIDE).present.any()


@BOTH
def test_padding_changes_nothing(float64, build):
    (learner, slopes), episode = compiled(build), scene_episode()
    meta = meta_of(learner)
    present = jnp.array([True, False, True])

    def padded(batch):
        inputs, targets = jax.tree.map(lambda x: x[jnp.array([0, 0, 1])], batch)
        return Batch(Padded(inputs, present), Padded(targets, present))

    wide = Episode(*map(padded, episode))
    plain = outputs(learner, meta, episode)
    maps = jax.tree.map(lambda x: x[present], outputs(learner, meta, wide))
    assert relative(maps, plain) < 1e-10
    assert relative(slopes(meta, wide), slopes(meta, episode)) < 1e-10


@BOTH
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_keeps_the_dtype(float64, build, dtype):
    learner, episode = build(dtype=dtype), scene_episode(dtype=dtype)
    meta = learner.init(KEY)
    shapes = (
        jax.eval_shape(learner.loss, meta, episode),
        jax.eval_shape(gradient(learner), meta, episode),
        jax.eval_shape(learner.adapt, meta, episode.support),
    )
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype(dtype)}


@BOTH
def test_a_label_out_of_range_shows(float64, build):
    (learner, _), (support, query) = compiled(build), scene_episode()
    meta = meta_of(learner)
    labels = support.targets.labels.at[0, 0].set(WAYS)
    wrong = support._replace(targets=support.targets._replace(labels=labels))
    heat = outputs(learner, meta, Episode(wrong, query)).heat
    assert jnp.all(jnp.isnan(heat))


def sampler(key, tasks):
    keys = jax.random.split(key, tasks)
    return jax.vmap(lambda key: scene_episode(key, jnp.float32))(keys)


@BOTH
def test_trains_and_is_evaluated(build):
    learner = build(dtype=jnp.float32, metrics={"again": LOSS})
    state = mj.fit(learner, optax.sgd(0.01), sampler, steps=4, tasks=2)
    result = mj.evaluate(learner, state.meta, sampler, LOSS, tasks=4, tasks_per_call=2)
    together, apart = result.transductive.mean, result.inductive.mean
    np.testing.assert_allclose(apart, together, rtol=1e-5)  # no query sees another
    one = mj.task_outputs(learner, state.meta, sampler, tasks=2, tasks_per_call=2)
    maps, boxes = one.transductive
    assert isinstance(maps, CentreMaps) and isinstance(boxes, Boxes)


@pytest.mark.parametrize("setting", ["stride", "scale", "channels", "filters"])
def test_refuses(setting):
    for factory in (
        lambda **sizes: mj.correlation_detector(small_body(), 2, LOSS, **sizes),
        lambda **sizes: mj.fine_tuned_detector(
            small_body(), 2, LOSS, optax.sgd(0.1), steps=1, **sizes
        ),
    ):
        with pytest.raises(mj.InputError, match="must be a"):
            factory(**SIZES | {setting: 0})


def test_outputs_that_are_several_arrays_have_no_allowed_logits(float64):
    learner, (support, query) = correlation(), scene_episode()
    present, allowed = jnp.ones(2, bool), jnp.ones((2, WAYS), bool)
    padded = query._replace(targets=Padded(query.targets, present, allowed))
    with pytest.raises(mj.InputError, match="one array of logits, got CentreMaps"):
        learner.loss(learner.init(KEY), Episode(support, padded))
