"""Representations, layers, landscapes: against numpy, and against adapting by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.ad_checkpoint import checkpoint_name

import metajax as mj
from metajax import study
from metajax.study.layers import layers_in_use
from metajax.types import Model
from tests.helpers import INNER, KEY, image_episode, small_conv

ADAM = INNER["adam"](1e-2)
pytestmark = pytest.mark.usefixtures("float64")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.fixture
def waves(float64):
    model = mj.mlp(1, (6, 6), 1, activation=jnp.tanh, dtype=jnp.float64)
    episodes = mj.data.sinusoid(6, 20)(KEY, 2)
    episodes = jax.tree.map(lambda x: x.astype(jnp.float64), episodes)
    meta = model.init(jax.random.key(1))
    return (
        lambda grad=mj.exact: mj.maml(model, mj.mse, optax.sgd(0.05), 3, grad=grad),
        meta,
        episodes,
    )


def task(episodes, index):
    return jax.tree.map(lambda x: x[index], episodes)


def test_cka_is_what_its_equation_says():
    x, y = normal(0, 9, 4), normal(1, 9, 5)
    a, b = (np.asarray(z) - np.mean(z, axis=0, keepdims=True) for z in (x, y))
    f = np.linalg.norm
    truth = f(b.T @ a) ** 2 / (f(a.T @ a) * f(b.T @ b))
    np.testing.assert_allclose(study.linear_cka(x, y), truth, rtol=1e-12)


def test_cka_ignores_turns_scales_and_shifts_and_no_more():
    x, y = normal(0, 9, 4), normal(1, 9, 4)
    turn = jnp.linalg.qr(normal(2, 4, 4))[0]
    alike = study.linear_cka(x, y)
    np.testing.assert_allclose(study.linear_cka(3 * x @ turn + 1, y), alike, rtol=1e-12)
    np.testing.assert_allclose(study.linear_cka(y, x), alike, rtol=1e-12)
    np.testing.assert_allclose(study.linear_cka(x, 2 * x @ turn), 1.0, rtol=1e-12)
    stretch = jnp.diag(jnp.array([9.0, 1.0, 1.0, 1.0]))
    assert study.linear_cka(x, x @ stretch) < 0.95
    images = normal(3, 9, 2, 2, 3)
    np.testing.assert_allclose(
        study.linear_cka(images, images.reshape(9, 12)), 1.0, rtol=1e-12
    )


def test_cca_ignores_any_invertible_map():
    x, y = normal(0, 40, 4), normal(1, 40, 4)
    mapped = x @ normal(2, 4, 4) + 1
    np.testing.assert_allclose(study.mean_cca(x, mapped), 1.0, rtol=1e-10)
    np.testing.assert_allclose(
        study.mean_cca(mapped, y), study.mean_cca(x, y), rtol=1e-10
    )
    a, b = (np.linalg.qr(z - np.mean(z, axis=0, keepdims=True))[0] for z in (x, y))
    truth = np.linalg.svd(a.T @ b, compute_uv=False).mean()
    np.testing.assert_allclose(study.mean_cca(x, y), truth, rtol=1e-10)
    assert truth < 0.5


def test_cca_where_columns_depend_on_each_other():
    x = normal(0, 40, 3)
    doubled = jnp.concatenate([x, x[:, :1] + x[:, 1:2]], axis=1)
    np.testing.assert_allclose(study.mean_cca(doubled, x), 1.0, rtol=1e-10)


def test_activations_are_the_network_s_own():
    model = small_conv(jnp.float64, "stride")
    params, images = model.init(KEY), normal(0, 5, 16, 16, 1)
    found = study.activations(model.apply)(params, images)
    assert list(found) == ["block0", "block1", "block2", "block3", "outputs"]
    body, head = model.parts
    features = body.apply(params["body"], images)
    np.testing.assert_array_equal(found["block3"], features)
    outputs = head.apply(params["head"], features)
    np.testing.assert_array_equal(found["outputs"], outputs)


def test_names_inside_a_jitted_function_are_seen():
    @jax.jit
    def inner(params, x):
        return checkpoint_name(params * x, "product")

    found = study.activations(lambda p, x: inner(p, x) + 1)(2.0, jnp.ones(3))
    assert found["product"].tolist() == [2.0] * 3 and found["outputs"][0] == 3.0


def test_a_name_that_comes_twice():
    def apply(params, x):
        return checkpoint_name(checkpoint_name(x, "same") + params, "same")

    found = study.activations(apply)(2.0, jnp.ones(3))
    values = {name: value[0] for name, value in found.items()}
    assert values == {"same": 1.0, "same (2)": 3.0, "outputs": 3.0}


def test_similarity_of_half_precision_is_that_of_its_numbers():
    x, y = (normal(i, 40, 4).astype(jnp.bfloat16) for i in range(2))
    for alike in (study.linear_cka, study.mean_cca):
        seen = alike(x, y)
        truth = alike(x.astype(jnp.float64), y.astype(jnp.float64))
        np.testing.assert_allclose(seen, truth, rtol=1e-4)


def test_a_layer_that_does_not_vary_is_like_nothing():
    x = normal(0, 9, 4)
    for alike in (study.linear_cka, study.mean_cca):
        assert np.isnan(alike(jnp.zeros_like(x), x))


def test_padded_queries_are_refused(waves):
    build, meta, episodes = waves
    padded = episodes.query._replace(inputs=mj.Padded(*2 * [episodes.query.inputs]))
    with pytest.raises(mj.InputError, match="the query set is padded"):
        study.reuse(build(), meta, episodes._replace(query=padded))


def test_what_is_no_meta_batch_is_refused(waves):
    build, meta, episodes = waves
    for diagnose in (
        lambda e: study.reuse(build(), meta, e),
        lambda e: study.contributions(build(), meta, e, mj.mse),
        lambda e: study.freezing(build, meta, e, mj.mse),
    ):
        with pytest.raises(mj.InputError, match="episodes must be a metajax.Episode"):
            diagnose(None)
    none = jax.tree.map(lambda x: x[:0], episodes)
    with pytest.raises(mj.InputError, match="tasks of a meta-batch"):
        study.reuse(build(), meta, none)


def test_a_frozen_body_is_reused():
    learner = mj.anil(
        small_conv(jnp.float64, "stride"), mj.cross_entropy, optax.sgd(0.5), 2
    )
    episodes = jax.tree.map(
        lambda x: x[None], image_episode(KEY, queries=4, dtype=jnp.float64)
    )
    meta = learner.init(KEY)
    meta["head"]["kernel"] = normal(5, *meta["head"]["kernel"].shape)
    found = study.reuse(learner, meta, episodes)
    np.testing.assert_allclose(found.cka.values[0, :-1], 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.cca.values[0, :-1], 1.0, rtol=1e-9)
    assert found.cka.values[0, -1] < 0.999


def test_reuse_is_that_of_the_adapted_network(waves):
    build, meta, episodes = waves
    found = study.reuse(build(), meta, episodes)
    one = task(episodes, 1)
    adapted, model = build().adapt(meta, one.support), build()
    named = study.activations(model.predict)
    for i, name in enumerate(found.layers):
        pair = (named(p, one.query.inputs)[name] for p in (meta, adapted))
        seen, truth = found.cka.values[1, i], study.linear_cka(*pair)
        np.testing.assert_allclose(seen, truth, rtol=1e-9)


class Unsorted:
    """A network whose layers do not stand in the order of their names."""

    names = ("stem", "body", "last")

    @staticmethod
    def init(key):
        sizes = (1, 6, 6, 1)
        keys = jax.random.split(key, 3)
        weights = [
            jax.random.normal(k, (n, m), jnp.float64)
            for k, n, m in zip(keys, sizes, sizes[1:])
        ]
        return {name: {"w": w} for name, w in zip(Unsorted.names, weights)}

    @staticmethod
    @jax.jit
    def apply(params, x):
        turned = params["stem"]["w"].T.astype(jnp.float64)  # before the data come
        x = checkpoint_name(jnp.tanh(x @ turned.T), "stem")
        x = checkpoint_name(jnp.tanh(x @ params["body"]["w"]), "body")
        return x @ params["last"]["w"]


def test_layers_stand_as_the_network_uses_them(waves):
    _, _, episodes = waves
    model = Model(Unsorted.init, Unsorted.apply)
    meta = model.init(KEY)

    def build(grad=mj.exact):
        return mj.maml(model, mj.mse, optax.sgd(0.02), 2, grad=grad)

    one = task(episodes, 0)
    used = layers_in_use(model.apply, meta, one.query.inputs)
    assert used == Unsorted.names

    found = study.reuse(build(), meta, episodes)
    assert found.layers == ("stem", "body", "outputs")
    named = study.activations(model.apply)
    adapted = build().adapt(meta, one.support)
    before, after = (named(p, one.query.inputs) for p in (meta, adapted))
    for place, name in enumerate(found.layers):
        truth = study.linear_cka(before[name], after[name])
        np.testing.assert_allclose(found.cka.values[0, place], truth, rtol=1e-9)

    frozen = study.freezing(build, meta, episodes, mj.mse)
    assert frozen.layers == Unsorted.names
    last = build(lambda f: lambda p, *a: keep(mj.exact(f)(p, *a), "last"))
    truth = mj.mse(
        last.predict(last.adapt(meta, one.support), one.query.inputs), one.query.targets
    )
    np.testing.assert_allclose(frozen.up_to.values[0, 1], truth, rtol=1e-9)
    mixed = study.contributions(build(), meta, episodes, mj.mse)
    assert mixed.layers == Unsorted.names


def keep(grads, name):
    return {
        n: jax.tree.map(lambda g, n=n: g if n == name else jnp.zeros_like(g), part)
        for n, part in grads.items()
    }


def test_contributions_are_of_mixed_networks(waves):
    build, meta, episodes = waves
    learner = build()
    found = study.contributions(learner, meta, episodes, mj.mse)
    assert found.layers == ("body/0", "body/1", "head")
    one = task(episodes, 1)
    adapted = learner.adapt(meta, one.support)

    def score(params):
        return mj.mse(learner.predict(params, one.query.inputs), one.query.targets)

    head = {"body": meta["body"], "head": adapted["head"]}
    rest = {"body": adapted["body"], "head": meta["head"]}
    for values, truth in (
        (found.before.values[1], meta),
        (found.after.values[1], adapted),
        (found.alone.values[1, 2], head),
        (found.without.values[1, 2], rest),
    ):
        np.testing.assert_allclose(values, score(truth), rtol=1e-12)


def test_freezing_the_body_is_anil(waves):
    build, meta, episodes = waves
    found = study.freezing(build, meta, episodes, mj.mse)
    model = mj.mlp(1, (6, 6), 1, activation=jnp.tanh, dtype=jnp.float64)
    anil = mj.anil(model, mj.mse, optax.sgd(0.05), 3)
    boil = mj.boil(model, mj.mse, optax.sgd(0.05), 3)
    for index in range(2):
        one = task(episodes, index)

        def score(learner, one=one):
            adapted = learner.adapt(meta, one.support)
            return mj.mse(learner.predict(adapted, one.query.inputs), one.query.targets)

        before = mj.mse(build().predict(meta, one.query.inputs), one.query.targets)
        for values, truth in (
            (found.none.values[index], score(build())),
            (found.up_to.values[index, 1], score(anil)),
            (found.each.values[index, 2], score(boil)),
            (found.up_to.values[index, 2], before),
        ):
            np.testing.assert_allclose(values, truth, rtol=1e-12)


def test_freezing_is_for_whole_networks(waves):
    _, meta, episodes = waves
    model = mj.mlp(1, (6, 6), 1, dtype=jnp.float64)
    with pytest.raises(mj.InputError, match="which is no layer of what"):
        study.freezing(
            lambda grad: mj.anil(model, mj.mse, optax.sgd(0.05), 1, grad=grad),
            meta,
            episodes,
            mj.mse,
        )


def test_the_landscape_is_the_loss_on_its_plane(waves):
    build, meta, episodes = waves
    learner, one = build(), task(episodes, 0)
    corner = study.joint_optimum(learner, meta, episodes, mj.mse, ADAM, 30)
    found = study.landscape(learner, meta, one, mj.mse, corner, resolution=5)

    def flat(tree):
        return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])

    unravel = jax.flatten_util.ravel_pytree(meta)[1]
    origin, end, third = (
        flat(meta),
        flat(learner.adapt(meta, one.support)),
        flat(corner),
    )
    (_, (first, zero), (a, b)) = found.points
    u = (end - origin) / first
    v = (third - origin - a * u) / b
    assert zero == 0
    np.testing.assert_allclose([u @ u, v @ v, u @ v], [1, 1, 0], atol=1e-9)
    for row in (0, 3):
        for column in (1, 4):
            place = origin + found.first[column] * u + found.second[row] * v
            params = unravel(jnp.asarray(place))
            for values, batch in (
                (found.support_loss, one[0]),
                (found.query_loss, one[1]),
            ):
                truth = mj.mse(learner.predict(params, batch.inputs), batch.targets)
                np.testing.assert_allclose(values.values[row, column], truth, rtol=1e-9)


def test_the_joint_optimum_is_better_for_all_tasks_at_once(waves):
    build, meta, episodes = waves
    learner = build()
    corner = study.joint_optimum(learner, meta, episodes, mj.mse, ADAM, 100)

    def joint(params):
        batches = (task(side, i) for side in episodes for i in range(2))
        return np.mean(
            [mj.mse(learner.predict(params, b.inputs), b.targets) for b in batches]
        )

    assert joint(corner) < 0.8 * joint(meta)


def test_a_plane_needs_three_points(waves):
    build, meta, episodes = waves
    one = task(episodes, 0)
    with pytest.raises(mj.InputError, match="lie on a line"):
        study.landscape(build(), meta, one, mj.mse, meta)


def test_the_heat_map_is_of_each_rate_and_step(waves):
    _, meta, episodes = waves
    model = mj.mlp(1, (6, 6), 1, activation=jnp.tanh, dtype=jnp.float64)
    rates = (0.01, 0.1)
    found = study.heat_map(
        lambda rate: mj.maml(model, mj.mse, optax.sgd(rate), 2),
        meta,
        episodes,
        mj.mse,
        rates=rates,
    )
    one = task(episodes, 1)
    for i, rate in enumerate(rates):
        for k in range(3):
            learner = mj.maml(model, mj.mse, optax.sgd(rate), k)
            outputs = learner.predict(
                learner.adapt(meta, one.support), one.query.inputs
            )
            truth = mj.mse(outputs, one.query.targets)
            np.testing.assert_allclose(found.score.values[1, i, k], truth, rtol=1e-9)


def test_a_network_that_names_nothing_has_outputs():
    model = Model(lambda key: jnp.ones(2), lambda p, x: x @ p)
    learner = mj.maml(model, mj.mse, optax.sgd(0.1), 1)
    batch = mj.Batch(normal(0, 3, 5, 2), normal(1, 3, 5))
    found = study.reuse(learner, jnp.ones(2), mj.Episode(batch, batch))
    assert found.layers == ("outputs",)
