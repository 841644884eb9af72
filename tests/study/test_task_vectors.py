"""Vectors and maps of tasks: against dense matrices, loops and known planes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import metajax as mj
from metajax import study
from metajax.types import Batch, Padded
from tests.helpers import KEY

SGD = optax.sgd(0.1)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.fixture
def network(float64):
    return mj.mlp(3, (4,), 3, activation=jnp.tanh, dtype=jnp.float64)


def mixed(model):
    """A network in which each output depends on all inputs of the batch."""

    def predict(params, x):
        outputs = model.apply(params, x)
        return outputs / jnp.std(outputs, axis=0, keepdims=True)

    return predict


@pytest.mark.parametrize("mixes", [False, True])
def test_the_diagonal_is_that_of_the_dense_matrix(network, mixes):
    predict = mixed(network) if mixes else network.apply
    params, inputs = network.init(KEY), normal(0, 5, 3)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def log_p(flat):
        return jax.nn.log_softmax(predict(unravel(flat), inputs))

    p, jacobian = np.exp(log_p(flat)), np.asarray(jax.jacfwd(log_p)(flat))
    dense = np.zeros((len(flat), len(flat)))
    for i in range(5):
        for k in range(3):
            dense += p[i, k] * np.outer(jacobian[i, k], jacobian[i, k]) / 5
    result = study.fisher_diagonal(predict, params, inputs)
    result = jax.flatten_util.ravel_pytree(result)[0]
    np.testing.assert_allclose(result, np.diag(dense), rtol=1e-10, atol=1e-14)


def test_it_is_minus_the_expected_second_derivative(network):
    params, inputs = network.init(KEY), normal(0, 5, 3)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    p = jax.nn.softmax(network.apply(params, inputs))

    def expected(flat):
        outputs = network.apply(unravel(flat), inputs)
        return -jnp.mean(jnp.sum(p * jax.nn.log_softmax(outputs), axis=1))

    result = study.fisher_diagonal(network.apply, params, inputs)
    result = jax.flatten_util.ravel_pytree(result)[0]
    # Of the last layer, in which the outputs are linear, the two are the same.
    last = jax.tree.map_with_path(
        lambda path, x: jnp.full(x.shape, _is_last(path)), params
    )
    last = np.asarray(jax.flatten_util.ravel_pytree(last)[0])
    hessian = jnp.diag(jax.hessian(expected)(flat))
    assert 0 < last.sum() < len(last)
    np.testing.assert_allclose(result[last], hessian[last], rtol=1e-9)


def _is_last(path):
    return "head" in jax.tree_util.keystr(path)


def test_a_vector_is_of_a_probe_that_has_learnt_its_task(network):
    learner = mj.maml(network, mj.cross_entropy, optax.sgd(0.5), 2)
    meta, inputs = learner.init(KEY), normal(1, 2, 6, 3)
    labels = jnp.tile(jnp.arange(3, dtype=jnp.int32), (2, 2))
    vectors = study.task2vec(learner, meta, Batch(inputs, labels))

    @jax.jit
    def of_one(inputs, labels):
        adapted = learner.adapt(meta, Batch(inputs, labels))
        fisher = study.fisher_diagonal(network.apply, adapted, inputs)
        leaves = jax.tree.leaves(fisher["body"])
        means = [x if x.ndim == 1 else jnp.mean(x, axis=0) for x in leaves]
        return jnp.concatenate(means)

    for x, y, vector in zip(inputs, labels, vectors):
        np.testing.assert_allclose(vector, of_one(x, y), rtol=1e-10)
    padded = Padded(inputs, jnp.ones((2, 6), bool))
    for each in (padded, mj.Keyed(padded, None)):
        with pytest.raises(mj.InputError, match="the tasks are padded"):
            study.task2vec(learner, meta, Batch(each, labels))
    values = mj.maml(mj.mlp(dtype=jnp.float64), mj.mse, optax.sgd(0.1), 1)
    waves = Batch(normal(3, 2, 4, 1), normal(4, 2, 4, 1))
    with pytest.raises(mj.InputError, match=r"outputs \[n, classes\] .*got \(4, 1\)"):
        study.task2vec(values, values.init(KEY), waves)


def with_moments(model):
    """A network that keeps the mean of the support set beside its parameters."""
    return model._replace(settle=lambda p, x: p | {"moments": jnp.mean(x, 0)})


@pytest.mark.parametrize(
    "build",
    [
        lambda model: mj.maml(with_moments(model), mj.cross_entropy, SGD, 1),
        lambda model: mj.proto_maml(model, mj.cross_entropy, SGD, 1),
        lambda model: mj.matching(model.parts[0], 3),
    ],
)
def test_what_is_computed_of_the_support_set_is_no_filter(network, build):
    learner, inputs = build(network), normal(1, 2, 6, 3)
    tasks = Batch(inputs, jnp.tile(jnp.arange(3, dtype=jnp.int32), (2, 2)))
    meta = learner.init(KEY)
    assert study.task2vec(learner, meta, tasks).shape == (2, 4 + 4)
    for takes in (lambda path: "moments" in path, lambda path: "examples" in path):
        with pytest.raises(mj.InputError, match="learnt arrays .* none was taken"):
            study.task2vec(learner, meta, tasks, takes=takes)


def test_distances_are_what_their_equation_says():
    vectors = np.random.default_rng(0).exponential(size=(4, 7))
    vectors[:2, 3] = 0
    distances = study.task_distances(vectors)
    for a in range(4):
        for b in range(4):
            both = (vectors[a] + vectors[b]) > 0
            u, v = (vectors[x][both] / (vectors[a] + vectors[b])[both] for x in (a, b))
            cosine = u @ v / np.sqrt((u @ u) * (v @ v))
            np.testing.assert_allclose(distances[a, b], 1 - cosine, atol=1e-14)
    np.testing.assert_allclose(distances, study.task_distances(vectors * 7.0))
    with pytest.raises(mj.InputError, match="finite, at least 0 and .tasks, filters."):
        study.task_distances(np.array([[1.0, np.nan]]))


def test_points_of_a_plane_are_where_they_were():
    points = np.random.default_rng(1).normal(size=(6, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    placed, shares = study.classical_scaling(distances)
    again = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
    np.testing.assert_allclose(again, distances, atol=1e-12)
    np.testing.assert_allclose(shares.sum(), 1)
    placed, shares = study.classical_scaling(np.zeros((3, 3)))
    assert not placed.any() and not shares.any()


def test_the_area_is_that_of_pairs_and_its_interval_leaves_out_groups():
    groups = "aaabbbcccd"
    points = np.random.default_rng(2).normal(size=10)
    distances = abs(points[:, None] - points[None])

    def counted(kept):
        pairs = [(i, j) for i in kept for j in kept if i < j]
        same = [distances[i, j] for i, j in pairs if groups[i] == groups[j]]
        other = [distances[i, j] for i, j in pairs if groups[i] != groups[j]]
        return np.mean([[s < o for o in other] for s in same])

    area, interval = study.group_area(distances, groups)
    np.testing.assert_allclose(area, counted(range(10)))
    without = [counted([i for i in range(10) if groups[i] != g]) for g in "abcd"]
    error = np.sqrt(3 / 4 * np.sum((np.array(without) - np.mean(without)) ** 2))
    student = scipy.stats.t.ppf(0.975, 3)
    np.testing.assert_allclose(interval, student * error, rtol=1e-6)
    assert np.isnan(study.group_area(distances, "aaaaabbbbb")[1])
    assert np.isnan(study.group_area(distances, "a" * 10)).all()


def test_a_map_needs_a_group_of_each_task():
    learner = mj.prototypical(mj.mlp(2, (2,), 2), ways=2)
    tasks = Batch(jnp.ones((2, 4, 2)), jnp.tile(jnp.arange(2), (2, 2)))
    with pytest.raises(mj.InputError, match="got 3 groups of 2 tasks"):
        study.task_map(learner, learner.init(KEY), tasks, ["a", "b", "b"])
    with pytest.raises(mj.InputError, match="the tasks of a map must be .* at least 2"):
        study.task_map(learner, learner.init(KEY), tasks, ["a"])
