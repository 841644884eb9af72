"""One table of learners; every property runs over it."""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import metajax as mj
from metajax.detection import Boxes, centre_loss
from metajax.models import Tokens, convolution
from metajax.models.convolved import upsampled
from metajax.training.checkpoints import Checkpoints
from metajax.types import Batch, Episode, Padded, unpadded
from tests.helpers import KEY, compilations, gradient, lenient, relative

SGD = optax.sgd(0.01)


def blobs(key, tasks, shots=3, ways=2):
    """Points about a centre a class, in the plane."""
    keys = jax.random.split(key, 3)
    centres = jax.random.normal(keys[0], (tasks, ways, 1, 2))

    def batch(key):
        x = centres + 0.3 * jax.random.normal(key, (tasks, ways, shots, 2))
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), shots)
        return Batch(
            x.reshape(tasks, -1, 2), jnp.broadcast_to(labels, (tasks, len(labels)))
        )

    return Episode(*map(batch, keys[1:]))


class Family(NamedTuple):
    """Tasks, and what they ask of a model."""

    episodes: Callable[..., Episode]
    loss: Callable[..., jax.Array]
    inputs: int
    outputs: int


WAVES = Family(mj.data.sinusoid(5, 5), mj.mse, 1, 1)
BLOBS = Family(blobs, mj.cross_entropy, 2, 2)
SCORES, PAIRS = (BLOBS._replace(loss=f) for f in (mj.score_mse, mj.pair_cross_entropy))


def half_labelled(key, tasks):
    """Blobs of whose support set every third example has no label."""
    support, query = blobs(key, tasks)
    labelled = jnp.arange(support.targets.shape[1]) % 3 > 0
    labelled = labelled.astype(jnp.float32)[None, :, None]
    targets = jax.nn.one_hot(support.targets, 2, dtype=jnp.float32) * labelled
    return Episode(support._replace(targets=targets), query)


GAUSSIAN = WAVES._replace(loss=mj.gaussian, inputs=2)  # an input and its target
HALF_LABELLED = BLOBS._replace(episodes=half_labelled)
WIDTH = 4  # of the body
CODES = 3  # numbers of a neural process's representation


class Row(NamedTuple):
    """`factory(model, loss, inner, steps, metrics=...)` and where it is at home."""

    factory: Callable[..., mj.Learner]
    inner: Any = SGD
    family: Family = WAVES
    network: Callable[..., mj.Model] = mj.mlp


def plus_plus(model, loss, rate, steps, **settings):
    inner = mj.learners.step_rates(rate, max(1, steps))
    return mj.maml_plus_plus(model, loss, inner, steps, **settings)


def cavia(model, *args, **settings):
    """The context in place of the input's one feature: `model` stays what it is."""
    join = lambda x, context: x + context[None]  # noqa: E731
    return mj.cavia(model, *args, context=1, join=join, **settings)


def mtl(model, *args, **settings):
    """Its backbone has the same numbers in every type."""

    def is_constant(x):
        return isinstance(x, mj.Constant)

    def numbers(x):
        if is_constant(x):
            return x
        return jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)

    is_model = isinstance(model, mj.Model)
    drawn = model.init(KEY)["body"] if is_model else {}
    backbone = jax.tree.map(numbers, drawn, is_leaf=is_constant)
    return mj.mtl(model, *args, backbone=backbone, **settings)


def in_context(model, loss, inner, steps, **settings):
    """It takes no steps."""
    return mj.in_context(model, loss, **settings)


def of_pairs(inputs, hidden, outputs, **settings):
    """Of sequences of an input, a target and a flag: the mean token, and the last."""
    network = mj.mlp(2 * (inputs + outputs + 1), hidden, outputs, **settings)

    def apply(params, sequences):
        plain = not isinstance(sequences, Tokens)
        x, present = (sequences, None) if plain else sequences
        weights = jnp.ones_like(x[..., 0]) if plain else present.astype(x.dtype)
        mean = jnp.einsum("nt,ntf->nf", weights, x) / weights.sum(1)[:, None]
        return network.apply(params, jnp.concatenate([mean, x[:, -1]], axis=1))

    return mj.Model(network.init, apply)


def of_body(factory, **more):
    """A factory that takes a body and the number of ways, and no steps."""

    def build(model, loss, inner, steps, metrics=None):
        del inner, steps
        body = model.parts[0] if isinstance(model, mj.Model) else model
        return factory(body, 2, loss=loss, metrics=metrics, **more)

    return build


def dtype_of(model):
    """That of a model's parameters, and float32 of what is no model."""
    is_model = isinstance(model, mj.Model)
    return model.init(KEY)["head"]["bias"].dtype if is_model else jnp.float32


def compared(factory, comparator):
    """Likewise, with a comparator, which the model's parameters do not include."""

    def build(model, loss, inner, steps, metrics=None):
        body = model.parts[0] if isinstance(model, mj.Model) else model
        return factory(body, comparator(dtype_of(model)), 2, loss, metrics=metrics)

    return build


def process(model, loss, inner, steps, metrics=None):
    """Of one input and a Gaussian; the model is the encoder."""
    del inner, steps
    decoder = mj.mlp(1 + CODES, (4,), 2, dtype=dtype_of(model))
    return mj.neural_process(model, decoder, loss, metrics=metrics)


def of_codes(inputs, hidden, outputs, **settings):
    """To the numbers of a process's representation."""
    return mj.mlp(inputs, hidden, CODES, **settings)


def scenes(key, tasks, images=3):
    """Noise, and two boxes in each image."""
    keys = jax.random.split(key, 4)
    labels = jnp.broadcast_to(jnp.arange(2, dtype=jnp.int32), (tasks, images, 2))

    def batch(key, place):
        x = jax.random.normal(key, (tasks, images, 8, 8, 1))
        corner = 4 * jax.random.uniform(place, (tasks, images, 2, 2))
        corners = jnp.concatenate([corner, corner + 3.5], -1)
        return Batch(x, Boxes(corners, labels, jnp.ones_like(labels, bool)))

    return Episode(batch(*keys[:2]), batch(*keys[2:]))


def of_maps(inputs, hidden, outputs, activation=jax.nn.relu, **settings):
    """To maps of features, of half the size of the images."""
    layer = convolution(3, inputs, outputs, **settings)

    def apply(params, images):
        return mj.ops.max_pool(activation(layer.apply(params, images)))

    return mj.Model(layer.init, apply)


def correlation(model, loss, inner, steps, metrics=None):
    """It takes no steps."""
    del inner, steps
    sizes = dict(stride=2, channels=WIDTH, filters=3)
    return mj.correlation_detector(model, 2, loss, metrics=metrics, **sizes)


def outlines(key, tasks, images=3):
    """The same noise, and a class, or none, for each pixel."""
    support, query = scenes(key, tasks, images)

    def batch(key, x):
        return Batch(x, jax.random.randint(key, x.shape[:-1], 0, 3))

    keys = jax.random.split(jax.random.fold_in(key, 1))
    return Episode(*map(batch, keys, (support.inputs, query.inputs)))


def of_levels(inputs, hidden, outputs, activation=jax.nn.relu, **settings):
    """To features of each pixel, by an encoder of two levels and a decoder."""
    fine, coarse, joined = (
        convolution(3, n, outputs, **settings) for n in (inputs, outputs, 2 * outputs)
    )

    def encode(params, images):
        x = activation(fine.apply(params[0], unpadded(images)[0]))
        return x, activation(coarse.apply(params[1], x[:, ::2, ::2]))

    def decode(params, maps):
        both = jnp.concatenate([maps[0], upsampled(maps[1])], -1)
        return activation(joined.apply(params, both))

    def init(key):
        return [layer.init(key) for layer in (fine, coarse)]

    return mj.headed(mj.Model(init, encode), mj.Model(joined.init, decode))


def of_parts(factory, model, loss, inner, steps, metrics=None):
    """It takes no steps."""
    del inner, steps
    is_model = isinstance(model, mj.Model)
    dtype = jax.tree.leaves(model.init(KEY))[0].dtype if is_model else jnp.float32
    head = convolution(1, WIDTH, 1, dtype=dtype)
    return factory(model, head, 2, loss, metrics=metrics)


def prototypical_segmenter(model, loss, inner, steps, metrics=None):
    """Likewise; its loss is that of the queries alone."""
    del inner, steps
    return mj.prototypical_segmenter(
        model, 2, loss, scale=5.0, alignment=0.0, metrics=metrics
    )


def labelled_signals(key, tasks, points=5):
    """Noise in the plane, one of two classes a task."""
    keys = jax.random.split(key, 3)
    labels = jax.random.randint(keys[0], (tasks, 1), 0, 2)

    def batch(key):
        x = jax.random.normal(key, (tasks, points, 3))
        return Batch(x[..., :2], x[..., 2:])

    support, query = map(batch, keys[1:])
    every = jnp.broadcast_to(labels, (tasks, points))
    targets = mj.LabelledValues(query.targets, every)
    return Episode(support, query._replace(targets=targets))


def label_and_value(outputs, targets):
    """What `mwt` minimises, of two losses."""
    named = mj.cross_entropy(outputs.labels, targets.labels)
    return named + 0.5 * mj.mse(outputs.values, targets.values)


def mwt(model, loss, rate, steps, **settings):
    """Of the weights of the model, and of a small classifier."""
    del loss
    weights = (2 + 1) * WIDTH + WIDTH + 1
    classifier = mj.mlp(weights, (4,), 2, activation=jnp.tanh, dtype=dtype_of(model))
    settings |= {"reconstruction": 0.5}
    return mj.mwt(model, classifier, mj.mse, rate, steps=steps, **settings)


def nudged(key, episode):
    """Points a little beside those of an episode."""

    def side(key, batch):
        noise = jax.random.normal(key, batch.inputs.shape, batch.inputs.dtype)
        return batch._replace(inputs=batch.inputs + 0.1 * noise)

    return Episode(*map(side, jax.random.split(key), episode))


def searched(inputs, hidden, outputs, **settings):
    """A perceptron of whose features a softmax of α is the scale."""
    body, head = mj.mlp(inputs, hidden, outputs, **settings).parts

    def init(key):
        alphas = jnp.ones(WIDTH, settings.get("dtype", jnp.float32))
        return {"alphas": alphas, "body": body.init(key)}

    def apply(params, inputs):
        features = body.forward(params["body"], inputs)
        return features * jax.nn.softmax(params["alphas"]).astype(features.dtype)[None]

    return mj.headed(mj.Model(init, apply), head)


SCENES = Family(scenes, centre_loss(2), 1, WIDTH)
OUTLINES = Family(outlines, mj.pixel_cross_entropy, 1, WIDTH)
SIGNALS = Family(labelled_signals, label_and_value, 2, 1)
LEARNERS = {
    "maml": Row(mj.maml),
    "fomaml": Row(mj.fomaml),
    "anil": Row(mj.anil),
    "boil": Row(mj.boil),
    "mtl": Row(mtl),
    "tnas": Row(partial(mj.tnas, alphas=SGD), network=searched),
    "meta-sgd": Row(mj.meta_sgd, 0.01),
    "meta-lstm": Row(mj.learned_maml, mj.learners.meta_lstm(0.01)),
    "learned-optimizer": Row(mj.learned_maml, mj.learners.learned_optimizer()),
    "maml++": Row(plus_plus, 0.01),
    "mwt": Row(mwt, 0.01, SIGNALS),
    "imaml": Row(partial(mj.imaml, strength=10.0)),
    "cavia": Row(cavia),
    "reptile": Row(partial(mj.reptile, view=mj.mini_batches(2))),
    "proto-maml": Row(mj.proto_maml, family=BLOBS),
    "fo-proto-maml": Row(partial(mj.proto_maml, grad=mj.first_order), family=BLOBS),
    "baseline": Row(mj.baseline, family=BLOBS),
    "baseline++": Row(mj.baseline_plus_plus, family=BLOBS),
    "pmf": Row(partial(mj.pmf, augment=nudged), family=BLOBS),
    "meta-baseline": Row(of_body(mj.meta_baseline), family=BLOBS),
    "simple-shot": Row(of_body(mj.simple_shot), family=BLOBS),
    "in-context": Row(in_context, network=of_pairs),
    "prototypical": Row(of_body(mj.prototypical), family=BLOBS),
    "soft-k-means": Row(
        of_body(mj.prototypical, refinements=1, distractors=True), family=HALF_LABELLED
    ),
    "matching": Row(of_body(mj.matching), family=BLOBS),
    "full-context": Row(
        of_body(mj.matching, context=mj.learners.full_context(WIDTH, 2)), family=BLOBS
    ),
    "relation": Row(
        compared(mj.relation, lambda dtype: mj.mlp(2 * WIDTH, (4,), 1, dtype=dtype)),
        family=SCORES,
    ),
    "siamese": Row(
        compared(mj.siamese, lambda dtype: mj.dense(WIDTH, 1, dtype=dtype)),
        family=PAIRS,
    ),
    "r2d2": Row(of_body(mj.r2d2), family=BLOBS),
    "lr-d2": Row(of_body(mj.lr_d2, steps=2), family=BLOBS),
    "meta-opt-net": Row(of_body(mj.meta_opt_net), family=BLOBS),
    "mann": Row(
        of_body(mj.mann, features=WIDTH, memory=(5, 3), hidden=6, heads=2), family=BLOBS
    ),
    "snail": Row(
        of_body(
            mj.snail, features=WIDTH, length=7, filters=3, attention=[(3, 2), (3, 2)]
        ),
        family=BLOBS,
    ),
    "neural-process": Row(process, family=GAUSSIAN, network=of_codes),
    "correlation-detector": Row(correlation, family=SCENES, network=of_maps),
    "prototypical-segmenter": Row(
        prototypical_segmenter, family=OUTLINES, network=of_maps
    ),
    "siamese-segmenter": Row(
        partial(of_parts, mj.siamese_segmenter), family=OUTLINES, network=of_levels
    ),
    "correlation-segmenter": Row(
        partial(
            of_parts,
            partial(mj.correlation_segmenter, channels=(WIDTH, WIDTH), features=3),
        ),
        family=OUTLINES,
        network=of_levels,
    ),
}
TRAINED_OTHERWISE = ("pmf",)  # its loss is that before its steps
# Proto-MAML and P>M>F of no steps compare with prototypes; others take none.
WITHOUT_STEPS = (
    "pmf",
    "meta-baseline",
    "simple-shot",
    "proto-maml",
    "fo-proto-maml",
    "in-context",
    "prototypical",
    "soft-k-means",
    "matching",
    "full-context",
    "relation",
    "siamese",
    "r2d2",
    "lr-d2",
    "meta-opt-net",
    "mann",
    "snail",
    "neural-process",
    "correlation-detector",
    "prototypical-segmenter",
    "siamese-segmenter",
    "correlation-segmenter",
)
by_learner = partial(pytest.mark.parametrize, "name", scope="module")  # row by row
every_learner = by_learner(LEARNERS)
of_steps = by_learner([name for name in LEARNERS if name not in WITHOUT_STEPS])
trained_as_used = by_learner(
    [name for name in LEARNERS if name not in TRAINED_OTHERWISE]
)
BY_LOSS = "baseline", "baseline++"  # as MAML, of which only the support loss shows it
of_labels = by_learner(
    [
        name
        for name, row in LEARNERS.items()
        if row.family.episodes is blobs and name not in BY_LOSS
    ]
)


def network(name, hidden=(WIDTH,), **settings):
    _, _, family, build = LEARNERS[name]
    return build(family.inputs, hidden, family.outputs, **settings)


def build(name, model=None, steps=2):
    factory, inner, family, _ = LEARNERS[name]
    model = network(name) if model is None else model
    metrics = {"error": family.loss}
    return factory(model, family.loss, inner, steps, metrics=metrics)


def meta_batch(name, tasks, key=KEY):
    return LEARNERS[name].family.episodes(key, tasks)


def cast(tree, dtype):
    def one(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(one, tree)


def one_episode(name, dtype=jnp.float32, key=KEY):
    return cast(jax.tree.map(lambda x: x[0], meta_batch(name, 1, key)), dtype)


# What several properties compare with is compiled and computed once. A program costs
# far more than what it computes here, so each property compiles one of its own.


class Wide(NamedTuple):
    """A learner in float64, and the value and gradient of each task by itself."""

    learner: mj.Learner
    meta: Any
    tasks: Any
    slopes: Callable[..., Any]
    each: list[Any]


def smooth(name, **settings):
    return network(name, (WIDTH,), activation=jnp.tanh, **settings)


@lru_cache(maxsize=4)
def wide(name):
    with jax.enable_x64(True):
        learner = build(name, smooth(name, dtype=jnp.float64))
        meta, tasks = learner.init(KEY), cast(meta_batch(name, 4), jnp.float64)
        slopes = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
        each = [slopes(meta, task(tasks, i)) for i in range(4)]
        return Wide(learner, meta, tasks, slopes, jax.tree.map(np.asarray, each))


def task(tasks, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], tasks)


def mean(trees):
    return jax.tree.map(lambda *x: np.mean(x, 0), *trees)


@cache
def once(name):
    """A learner, and a program of all it does with an episode but its gradient."""
    learner = build(name)

    @jax.jit
    def run(meta, episode):
        adapted = learner.adapt(meta, episode.support)
        outputs = learner.predict(adapted, episode.query.inputs)
        path = learner.trajectory(meta, episode.support)
        return adapted, outputs, path, learner.loss(meta, episode)

    return learner, run


@every_learner
def test_protocol(name):
    learner, run = once(name)
    episode = one_episode(name)
    _, outputs, _, (value, metrics) = run(learner.init(KEY), episode)
    examples = len(episode.query.inputs)
    assert all(len(x) == examples for x in jax.tree.leaves(outputs))
    assert value.shape == () and metrics["error"].shape == ()


@every_learner
def test_a_module_is_no_model(name):
    with pytest.raises(mj.InputError, match="from_linen"):
        build(name, nn.Dense(1))


@trained_as_used
def test_predict_is_consistent_with_loss(name):
    (learner, run), episode = once(name), one_episode(name)
    _, outputs, _, (value, metrics) = run(learner.init(KEY), episode)
    np.testing.assert_allclose(
        metrics["error"], LEARNERS[name].family.loss(outputs, episode.query.targets)
    )
    np.testing.assert_allclose(metrics["error"], value)


@of_labels
def test_a_label_out_of_range_shows(name):
    (learner, run), (support, query) = once(name), one_episode(name)
    wrong = support._replace(targets=support.targets.at[1].set(2))
    *_, (value, _) = run(learner.init(KEY), Episode(wrong, query))
    assert np.isnan(value)


@every_learner
def test_trajectory_ends_in_adapt(name):
    learner, run = once(name)
    adapted, _, path, _ = run(learner.init(KEY), one_episode(name))
    assert relative(jax.tree.map(lambda x: np.asarray(x)[-1], path), adapted) < 1e-6


@every_learner
def test_jit_changes_nothing(name, float64):
    learner, meta, tasks, _, (((value, metrics), _), *_) = wide(name)
    ours, found = learner.loss(meta, jax.tree.map(jnp.asarray, task(tasks, 0)))
    np.testing.assert_allclose(ours, value, rtol=1e-12)
    np.testing.assert_allclose(found["error"], metrics["error"], rtol=1e-12)


@every_learner
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_keeps_the_dtype_and_the_form(name, dtype, float64):
    learner = build(name, network(name, (WIDTH,), dtype=dtype))
    meta = jax.eval_shape(learner.init, KEY)
    if dtype == jnp.float64:
        found = wide(name).each[0]
    else:
        slopes = jax.value_and_grad(learner.loss, has_aux=True)
        found = jax.eval_shape(slopes, meta, one_episode(name, dtype))
    assert jax.tree.map(jnp.shape, found[1]) == jax.tree.map(jnp.shape, meta)
    leaves = jax.tree.leaves((meta, found))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@every_learner
def test_computes_in_bfloat16(name):
    _, meta, tasks, *_ = wide(name)
    narrow = [cast(x, np.float32) for x in (meta, task(tasks, 0))]
    # In float32 too: what no learner meta-trains is drawn otherwise in float64.
    exact, half = (
        jax.jit(gradient(build(name, mj.in_precision(smooth(name), precision))))(
            *narrow
        )
        for precision in ("float32", "bfloat16")
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    assert 1e-4 < relative(half, exact) < 0.05


@of_steps
def test_no_steps_learn_nothing_of_the_support_set(name):
    learner = build(name, steps=0)
    meta, episode = learner.init(KEY), one_episode(name)
    other = episode._replace(support=one_episode(name, key=jax.random.key(1)).support)
    np.testing.assert_array_equal(
        learner.loss(meta, episode)[0], learner.loss(meta, other)[0]
    )


@every_learner
def test_two_devices_change_nothing(name, float64):
    learner, meta, tasks, _, each = wide(name)
    mesh = Mesh(jax.devices(), "task")
    sharded = jax.device_put(tasks, NamedSharding(mesh, PartitionSpec("task")))
    replicated = jax.device_put(meta, NamedSharding(mesh, PartitionSpec()))
    together = jax.jit(mj.meta_gradient(learner))(replicated, sharded)
    assert len(jax.devices()) == 2
    assert len(jax.tree.leaves(together)[0].devices()) == 2
    assert relative(together, mean(each)) < 1e-10


@every_learner
def test_chunks_of_a_vmap_change_nothing(name, float64):
    learner, meta, tasks, _, each = wide(name)
    batch = jax.tree.map(lambda x: x[:3], tasks)
    step = jax.jit(mj.meta_gradient(learner, tasks_per_chunk=2))  # and one is left
    assert relative(step(meta, batch), mean(each[:3])) < 1e-10


@of_steps
def test_computing_steps_again_changes_nothing(name, float64, monkeypatch):
    learner, meta, tasks, _, (again, *_) = wide(name)
    monkeypatch.setattr(jax, "checkpoint", lambda f, **_: f)
    slopes = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
    assert relative(slopes(meta, task(tasks, 0)), again) < 1e-12


def padded(batch, n):
    """The batch and `n` examples that are not of it, between its own."""
    examples = len(jax.tree.leaves(batch)[0])
    rows = jnp.arange(examples + n)
    present = (rows % 3 != 1) | (rows >= 3 * n)
    place = jnp.cumsum(present.astype(jnp.int32)) - 1

    def spread(x):
        there, wide = present.reshape(-1, *[1] * (x.ndim - 1)), x[place]
        return jnp.where(there, wide, jnp.full_like(wide, 1))

    assert int(jnp.sum(present)) == examples
    inputs, targets = jax.tree.map(spread, batch)
    return Batch(Padded(inputs, present), Padded(targets, present))


@every_learner
def test_padding_changes_nothing(name, float64):
    _, meta, tasks, slopes, (expected, *_) = wide(name)
    episode = jax.tree.map(jnp.asarray, task(tasks, 0))
    padding = Episode(padded(episode.support, 2), padded(episode.query, 1))
    (found, grads), ((loss, metrics), plain) = slopes(meta, padding), expected
    np.testing.assert_allclose(found[0], loss, rtol=1e-12)
    np.testing.assert_allclose(found[1]["error"], metrics["error"], rtol=1e-12)
    assert relative(grads, plain) < 1e-10


@every_learner
def test_a_second_step_compiles_nothing_nor_does_one_after_a_stop(name, tmp_path):
    """And a checkpoint goes on as if nothing had been."""
    learner, optimizer = build(name), lenient(optax.adam(1e-2))
    step = jax.jit(mj.train_step(learner, optimizer), donate_argnums=0)
    state, first = mj.init_state(learner, optimizer, KEY), meta_batch(name, 2)
    second = meta_batch(name, 2, jax.random.key(1))
    with compilations() as before:
        state, _ = step(state, first)
    assert before
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state)
    like = mj.init_state(learner, optimizer, jax.random.key(1))
    restored = checkpoints.restore(like)
    with compilations() as after:
        straight = step(state, second)
        resumed = step(restored, second)
    assert not after
    for ours, theirs in zip(*map(jax.tree.leaves, (resumed, straight)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
