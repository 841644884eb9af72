"""Segmenters by a support set, against plain loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data import Page
from metajax.learners.correlation_segmenter import in_colours
from metajax.models import convolution, pixel_head, unet_body
from metajax.training import cutting
from metajax.training.programs import many_steps
from metajax.types import Batch, Episode, Padded, unpadded
from tests.helpers import KEY, compiled, gradient, relative

WAYS, WIDTH, SCALE = 2, 4, 5.0
LOSS = mj.pixel_cross_entropy


def small_body(dtype=jnp.float64):
    """A convolution and a pool, of images of any size."""
    layer = convolution(3, 1, WIDTH, bias=0.3, dtype=dtype)

    def apply(params, images):
        images = unpadded(images)[0]
        return mj.ops.max_pool(jax.nn.relu(layer.apply(params, images)))

    return mj.Model(layer.init, apply)


def prototypical(ways=WAYS, dtype=jnp.float64, alignment=1.0, **settings):
    settings = dict(scale=SCALE, alignment=alignment) | settings
    return mj.prototypical_segmenter(small_body(dtype), ways, LOSS, **settings)


def unet_parts(dtype=jnp.float64):
    body = unet_body((WIDTH, WIDTH), channels=1, groups=2, dtype=dtype)
    return body, pixel_head(WIDTH, 1, dtype=dtype)


def siamese(ways=WAYS, dtype=jnp.float64, **settings):
    return mj.siamese_segmenter(*unet_parts(dtype), ways, LOSS, **settings)


def correlation(ways=WAYS, dtype=jnp.float64, channels=(WIDTH, WIDTH), **settings):
    settings = dict(features=3, scale=2.0) | settings
    parts = unet_parts(dtype)
    return mj.correlation_segmenter(*parts, ways, LOSS, channels=channels, **settings)


EVERY = pytest.mark.parametrize("build", [prototypical, siamese, correlation])


def mask_episode(key=KEY, dtype=jnp.float64):
    """Two support images, one without class 2, and pixels that have no label.

    The queries are larger.
    """

    def batch(key, n, size):
        x = jax.random.normal(key, (n, size, size, 1), dtype)
        labels = jax.random.randint(jax.random.fold_in(key, 1), x.shape[:3], 0, 4)
        return Batch(x, jnp.where(labels == 3, mj.losses.UNLABELLED, labels))

    support, query = (
        batch(jax.random.fold_in(key, n), n, size) for n, size in ((2, 4), (3, 6))
    )
    one = jnp.where(support.targets[1] == 2, 0, support.targets[1])
    return Episode(support._replace(targets=support.targets.at[1].set(one)), query)


def meta_of(learner):
    """Parameters at which no kernel or offset is zero."""
    leaves, tree = jax.tree.flatten(learner.init(KEY))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = (0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves))
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise)])


def triangles(inputs, outputs):
    """The weights of linear interpolation along an axis, by a loop over both."""
    wide = max(1.0, inputs / outputs)
    weights = np.zeros((outputs, inputs))
    for i in range(outputs):
        middle = (i + 0.5) * inputs / outputs - 0.5
        for j in range(inputs):
            weights[i, j] = max(0.0, 1 - abs(j - middle) / wide)
    return weights / weights.sum(1, keepdims=True)


def plain_resized(x, size):
    """One image `[rows, columns, channels]`."""
    rows, columns = (jnp.asarray(triangles(x.shape[i], size[i])) for i in (0, 1))
    return jnp.einsum("ai,bj,ijc->abc", rows, columns, x)


def plain_means(maps, members):
    """By loops over classes and images: of maps and weights of the same size."""
    means = []
    for c in range(WAYS + 1):
        total, images = jnp.zeros(maps.shape[-1]), 0.0
        for image, weights in zip(maps, members):
            mass = jnp.sum(weights[..., c])
            inside = jnp.sum(image * weights[..., c : c + 1], (0, 1))
            total = total + inside / jnp.where(mass > 0, mass, 1.0)
            images = images + jnp.where(mass > 0, 1.0, 0.0)
        means.append(total / jnp.maximum(images, 1.0))
    return means


def plain_members(masks):
    each = [(masks == c).astype(jnp.float64) for c in range(WAYS + 1)]
    return jnp.stack(each, -1)


def length(x):
    """With a finite derivative at zero."""
    return jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1), 1e-200))


def plain_cosines(features, classes, size):
    """Logits, enlarged to a size."""
    cosines = [features @ c / (length(features) * length(c)) for c in classes]
    maps = SCALE * jnp.stack(cosines, -1)
    return jnp.stack([plain_resized(x, size) for x in maps])


def plain_prototypical(meta, support, query, targets):
    """Logits of the queries, from a support set of these masks."""
    body = small_body()
    features = body.apply(meta, support)
    enlarged = jnp.stack([plain_resized(x, support.shape[1:3]) for x in features])
    classes = plain_means(enlarged, plain_members(targets))
    return plain_cosines(body.apply(meta, query), classes, query.shape[1:3])


def plain_aligned(meta, episode, alignment):
    """The loss of the queries, and that of the support set by them."""
    (x, masks), (queries, truth) = episode
    outputs = plain_prototypical(meta, x, queries, masks)
    guesses = jnp.argmax(outputs, -1)
    back = plain_prototypical(meta, queries, x, guesses)
    return LOSS(outputs, truth) + alignment * LOSS(back, masks)


def plain_siamese(meta, episode):
    (encoder, decoder), head = unet_parts()[0].parts, unet_parts()[1]
    (x, masks), query = episode.support, episode.query.inputs
    params = meta["body"]
    *_, top = encoder.apply(params["body"], x)
    members = plain_members(masks)
    members = jnp.stack([plain_resized(m, top.shape[1:3]) for m in members])
    codes = plain_means(top, members)[1:]
    *maps, top = encoder.apply(params["body"], query)
    logits = [jnp.zeros(query.shape[:3])]
    for code in codes:
        matched = []
        for image in top * code.reshape(1, 1, 1, -1):
            centred = image - jnp.mean(image)
            matched.append(centred / jnp.sqrt(jnp.mean(centred**2) + 1e-5))
        features = decoder.apply(params["head"], (*maps, jnp.stack(matched)))
        logits.append(head.apply(meta["head"], features)[..., 0])
    return jnp.stack(logits, -1)


def plain_correlation(meta, episode):
    (encoder, decoder), head = unet_parts()[0].parts, unet_parts()[1]
    (x, masks), query = episode.support, episode.query.inputs
    params = meta["network"]["body"]

    def embed(images):
        maps = encoder.apply(params["body"], images)
        decoded = decoder.apply(params["head"], maps)
        embedded = []
        for layer, level in zip(meta["embeddings"], (decoded, *maps[1:])):
            bias = layer["bias"].reshape(1, 1, 1, -1)
            embedded.append(level @ layer["kernel"][0, 0] + bias)
        return decoded, embedded

    _, of_support = embed(x)
    decoded, of_queries = embed(query)
    ink = head.apply(meta["network"]["head"], decoded)[..., 0]
    logits = [jnp.zeros_like(ink)]
    for c in range(1, WAYS + 1):
        total = ink
        for level, own in enumerate(of_support):
            members = plain_members(masks)
            members = jnp.stack([plain_resized(m, own.shape[1:3]) for m in members])
            code, y = plain_means(own, members)[c], of_queries[level]
            cosines = (y @ code) / (length(y) * length(code)) - 1
            wide = [plain_resized(z[..., None], query.shape[1:3]) for z in cosines]
            scale = jnp.exp(meta["log_scales"][level])
            total = total + scale * jnp.stack(wide)[..., 0]
        logits.append(total)
    return jnp.stack(logits, -1)


def plain_coloured(logits, image, colour):
    """The logits of an image whose classes have the colours that were found, twice."""
    coloured = logits
    for _ in range(2):
        found = jax.nn.softmax(coloured) ** 3
        each = [logits[..., 0]]
        for c in range(1, WAYS + 1):
            code = jnp.sum(found[..., c : c + 1] * image, (0, 1))
            cosines = (image @ code) / (length(image) * length(code))
            each.append(logits[..., c] + colour * (cosines - 1))
        coloured = jnp.stack(each, -1)
    return coloured


PLAIN = {siamese: plain_siamese, correlation: plain_correlation}


def outputs(learner, meta, episode):
    adapted = learner.adapt(meta, episode.support)
    return learner.predict(adapted, episode.query.inputs)


@pytest.mark.parametrize("alignment", [0.0, 0.5])
def test_the_gradient_of_the_prototypical_is_that_of_a_loop(float64, alignment):
    learner, episode = prototypical(alignment=alignment), mask_episode()
    meta = meta_of(learner)
    support, query = episode
    plain = jax.jit(plain_prototypical)(
        meta, support.inputs, query.inputs, support.targets
    )
    assert relative(outputs(compiled(prototypical)[0], meta, episode), plain) < 1e-12
    expected = jax.jit(jax.grad(plain_aligned))(meta, episode, alignment)
    assert relative(gradient(learner)(meta, episode), expected) < 1e-10


@pytest.mark.parametrize("build", PLAIN)
def test_the_gradient_of_others_is_that_of_a_loop(float64, build):
    (learner, slopes), plain = compiled(build), PLAIN[build]
    episode = mask_episode()
    meta, truth = meta_of(learner), episode.query.targets
    logits = jax.jit(plain)(meta, episode)
    assert relative(outputs(learner, meta, episode), logits) < 1e-12
    expected = jax.jit(jax.grad(lambda m: LOSS(plain(m, episode), truth)))(meta)
    assert relative(slopes(meta, episode), expected) < 1e-10


@pytest.mark.parametrize("dtype, most", [(jnp.float32, 1e-5), (jnp.float64, 1e-12)])
def test_colours_are_those_of_a_loop(float64, dtype, most):
    """Also of what is hardly found: in float32 the cubes of its shares vanish."""
    images = jax.random.uniform(KEY, (2, 6, 6, 3), jnp.float64)
    logits = jax.random.normal(KEY, (2, 6, 6, WAYS + 1), jnp.float64)
    logits = logits.at[..., 1].add(-20.0)
    coloured = in_colours(logits.astype(dtype), images.astype(dtype), 5.0)
    assert coloured.dtype == dtype
    expected = [plain_coloured(*image, 5.0) for image in zip(logits, images)]
    assert relative(coloured.astype(jnp.float64), jnp.stack(expected)) < most


def test_the_loss_goes_by_no_colour(float64):
    episode, plain = mask_episode(), correlation()
    meta, coloured = meta_of(plain), correlation(colour=5.0)
    value, _ = plain.loss(meta, episode)
    assert value == coloured.loss(meta, episode)[0]
    differing = outputs(coloured, meta, episode) - outputs(plain, meta, episode)
    assert float(jnp.max(jnp.abs(differing))) > 0.1  # of bright and dark pixels


def test_alignment_is_a_part_of_the_loss(float64):
    episode = mask_episode()
    meta = meta_of(prototypical())
    (plain, none), (half, some), (whole, all_of_it) = (
        jax.jit(prototypical(alignment=weight).loss)(meta, episode)
        for weight in (0.0, 0.5, 1.0)
    )
    assert "alignment" not in none and some["loss"] == half
    np.testing.assert_allclose(half, plain + 0.5 * some["alignment"], rtol=1e-12)
    np.testing.assert_allclose(whole, plain + all_of_it["alignment"], rtol=1e-12)


@EVERY
def test_a_permutation_of_the_classes_permutes_the_outputs(float64, build):
    (learner, _), episode = compiled(build), mask_episode()
    meta, masks = meta_of(learner), episode.support.targets
    swapped = jnp.where((masks == 1) | (masks == 2), 3 - masks, masks)
    turned = episode._replace(support=episode.support._replace(targets=swapped))
    plain, other = (outputs(learner, meta, e) for e in (episode, turned))
    np.testing.assert_allclose(other, plain[..., jnp.array([0, 2, 1])], rtol=1e-10)
    assert relative(other, plain) > 1e-3


@EVERY
def test_a_class_without_a_shot_is_never_predicted(float64, build):
    """And changes nothing for others."""
    episode = mask_episode()
    (wider, slopes), (learner, _) = compiled(build, WAYS + 2), compiled(build)
    meta = meta_of(learner)
    wide, plain = (outputs(x, meta, episode) for x in (wider, learner))
    np.testing.assert_allclose(wide[..., : WAYS + 1], plain, rtol=1e-10)
    assert not np.any(jax.nn.softmax(wide)[..., WAYS + 1 :])
    assert finite(slopes(meta, episode))


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


@EVERY
def test_a_support_set_without_a_label_has_a_finite_gradient(float64, build):
    (learner, slopes), (support, query) = compiled(build), mask_episode()
    meta, nothing = meta_of(learner), jnp.full_like(support.targets, 255)
    empty = Episode(support._replace(targets=nothing), query)
    assert finite(slopes(meta, empty))


@EVERY
def test_queries_do_not_see_each_other(float64, build):
    (learner, _), episode = compiled(build), mask_episode()
    adapted = learner.adapt(meta_of(learner), episode.support)
    together = learner.predict(adapted, episode.query.inputs)
    apart = [learner.predict(adapted, x[None]) for x in episode.query.inputs]
    np.testing.assert_allclose(jnp.concatenate(apart), together, rtol=1e-10)


@EVERY
def test_padding_changes_nothing(float64, build):
    """With the alignment too."""
    (learner, slopes), episode = compiled(build), mask_episode()
    # Every image has as many labels: of padded tasks, images weigh the same.
    episode = jax.tree.map(lambda x: jnp.where(x == 255, 0, x), episode)
    meta = meta_of(learner)

    def padded(batch):
        present = jnp.array([True, False] + [True] * (len(batch.targets) - 1))
        rows = jnp.cumsum(present.astype(jnp.int32)) - 1
        inputs, targets = jax.tree.map(lambda x: x[rows], batch)
        return Batch(Padded(inputs, present), Padded(targets, present))

    wide = Episode(*map(padded, episode))
    assert relative(slopes(meta, wide), slopes(meta, episode)) < 1e-10


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_alignment_keeps_the_dtype(float64, dtype):
    learner, episode = prototypical(dtype=dtype), mask_episode(dtype=dtype)
    meta = learner.init(KEY)
    shapes = (
        jax.eval_shape(learner.loss, meta, episode),
        jax.eval_shape(gradient(learner), meta, episode),
    )
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype(dtype)}


STORE = mj.data.ImageStore(
    np.full((5, 4, 8, 8, 1), 255, np.uint8), np.full(5, 4), tuple("abcde")
)
SCENES = mj.data.scenes(
    STORE, WAYS, 1, 1, characters=3, page=Page(size=12, side=8, channels=1)
)


@EVERY
def test_devices_meet_once(monkeypatch, build):
    monkeypatch.setattr(cutting, "WORTH_BYTES", 1)
    learner, optimizer = build(dtype=jnp.float32), optax.sgd(0.1)
    step = mj.train_step(learner, optimizer, devices=2)
    state = mj.init_state(learner, optimizer, KEY)
    run = many_steps(step, tasks=4, most=2)
    text = run.lower(state, SCENES, KEY, 2).compile().as_text()
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == 1
    for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert other not in text


@EVERY
def test_is_evaluated_at_other_ways(build):
    meta = meta_of(build(dtype=jnp.float32))
    one = mj.data.scenes(STORE, 1, 1, 2, page=SCENES.page)
    metric, budget = mj.metrics.image_iou(), dict(tasks=4, tasks_per_call=2)
    result = mj.evaluate(build(1, jnp.float32), meta, one, metric, **budget)
    together, apart = result.transductive.mean, result.inductive.mean
    np.testing.assert_allclose(apart, together, rtol=1e-5)  # no query sees another


BAD = [
    (lambda: prototypical(0), "ways must be a whole number of at least 1, got 0"),
    (lambda: prototypical(scale=0.0), "scale must be a positive number, got 0.0"),
    (lambda: prototypical(alignment=-1.0), "alignment must be a positive number"),
    (lambda: siamese(0), "ways must be a whole number of at least 1, got 0"),
    (
        lambda: mj.siamese_segmenter(small_body(), pixel_head(4, 1), 1),
        "siamese_segmenter needs a model that knows its body and its head",
    ),
    (lambda: correlation(0), "ways must be a whole number of at least 1, got 0"),
    (lambda: correlation(features=0), "features must be a whole number"),
    (lambda: correlation(scale=0.0), "scale must be a positive number, got 0.0"),
    (lambda: correlation(colour=-1.0), "colour must be a positive number, got -1.0"),
    (
        lambda: mj.correlation_segmenter(
            small_body(), pixel_head(4, 1), 1, channels=(4,)
        ),
        "correlation_segmenter needs a model that knows its body and its head",
    ),
    (
        lambda: correlation(channels=(WIDTH,)).loss(
            meta_of(correlation(channels=(WIDTH,))), mask_episode()
        ),
        "needs channels of every level of its encoder, 2 of them, got 1",
    ),
]


@pytest.mark.parametrize("make, message", BAD)
def test_refuses(float64, make, message):
    with pytest.raises(mj.InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@EVERY
def test_refuses_masks_of_another_form(float64, build):
    learner, episode = build(), mask_episode()
    for targets, message in (
        (
            jnp.zeros((2, 4, 3), jnp.int32),
            r"of shape \(2, 4, 4\) .* got int32\[2, 4, 3",
        ),
        (jnp.zeros(2, jnp.int32), r"for these images, got int32\[2\]"),
        (jnp.zeros((2, 4, 4)), "masks must be whole numbers .* got float64"),
    ):
        with pytest.raises(mj.InputError, match=message):
            learner.adapt(learner.init(KEY), episode.support._replace(targets=targets))


@EVERY
def test_without_images_to_learn_from_all_is_background(build, float64):
    learner, episode = build(), mask_episode()
    nothing = jax.tree.map(lambda x: x[:0], episode.support)
    predicted = learner.predict(
        learner.adapt(learner.init(KEY), nothing), episode.query.inputs
    )
    assert jnp.all(jnp.argmax(predicted, -1) == 0)
