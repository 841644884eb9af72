"""Spectra against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import metajax as mj
from metajax import study
from metajax.study.curvature import Spectrum
from metajax.study.named import Named
from tests.helpers import KEY, image_episode, small_conv

pytestmark = pytest.mark.usefixtures("float64")
SMALL = {"inputs": 1, "hidden": (4, 4), "outputs": 1, "activation": jnp.tanh}


def symmetric(size, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    return jnp.asarray(matrix + matrix.T)


@pytest.fixture
def waves(float64):
    model = mj.mlp(**SMALL, dtype=jnp.float64)
    learner = mj.maml(model, mj.mse, optax.sgd(0.05), 3, grad=mj.reverse)
    episodes = mj.data.sinusoid(6, 6)(KEY, 2)
    episodes = jax.tree.map(lambda x: x.astype(jnp.float64), episodes)
    return learner, learner.init(jax.random.key(1)), episodes


def dense_hessians(learner, meta, episodes, steps):
    _, unravel = ravel_pytree(meta)

    def loss(x, support):
        predicted = learner.predict(unravel(x), support.inputs)
        return mj.mse(predicted, support.targets)

    @jax.jit
    def hessians(support):
        path = learner.trajectory(meta, support)
        flat = jax.vmap(lambda params: ravel_pytree(params)[0])(path)
        return jax.lax.map(lambda x: jax.hessian(loss)(x, support), flat)

    for task in range(2):
        each = hessians(jax.tree.map(lambda x, i=task: x[i], episodes.support))
        for k in steps:
            yield task, k, np.asarray(each[k])


def test_lanczos_gives_the_whole_spectrum():
    matrix, start = symmetric(12), jax.random.normal(KEY, (12,), jnp.float64)
    found = study.quadrature(study.lanczos(lambda v: matrix @ v, start, 12))
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(matrix), rtol=1e-9)
    values, vectors = np.linalg.eigh(matrix)
    shares = (vectors.T @ start / np.linalg.norm(start)) ** 2
    np.testing.assert_allclose(found.weights, shares, rtol=1e-7)


def test_few_products_give_moments_exactly():
    matrix, start = symmetric(40), jax.random.normal(KEY, (40,), jnp.float64)
    found = study.quadrature(study.lanczos(lambda v: matrix @ v, start, 4))
    unit = start / jnp.linalg.norm(start)
    for power in range(8):
        truth = unit @ jnp.linalg.matrix_power(matrix, power) @ unit
        seen = np.sum(found.weights * found.eigenvalues**power)
        np.testing.assert_allclose(seen, truth, rtol=1e-9)


def test_lanczos_stops_where_the_space_does():
    matrix = jnp.diag(jnp.array([3.0, 3.0, 3.0, -1.0], jnp.float64))
    start = jnp.ones(4, jnp.float64)
    found = study.quadrature(study.lanczos(lambda v: matrix @ v, start, 4))
    np.testing.assert_allclose(found.eigenvalues, [-1, 3, np.nan, np.nan], atol=1e-12)
    np.testing.assert_allclose(found.weights, [0.25, 0.75, 0, 0], atol=1e-12)


def test_what_is_not_finite_spoils_nothing_else():
    good = study.lanczos(lambda v: symmetric(4) @ v, jnp.ones(4, jnp.float64), 4)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), good)
    both = study.quadrature(jax.tree.map(lambda *x: jnp.stack(x), bad, good))
    assert np.isnan(both.eigenvalues[0]).all() and (both.weights[0] == 0).all()
    alone = study.quadrature(good)
    np.testing.assert_array_equal(both.eigenvalues[1], alone.eigenvalues)


def test_a_task_that_diverges_spoils_no_other(waves):
    learner, meta, episodes = waves
    huge = jax.tree.map(lambda x: x.at[1].multiply(1e200), episodes)
    found, alone = (
        study.spectrum(learner, meta, e, mj.mse, steps=(3,), products=6)
        for e in (huge, episodes)
    )
    assert np.isnan(found.largest.values[1]).all() and np.isnan(
        found.trace.values[1, 0]
    )
    np.testing.assert_allclose(found.trace.values[0], alone.trace.values[0], rtol=1e-9)
    assert np.isfinite(study.density(found).density.values).all()


def test_few_parameters_have_few_eigenvalues():
    """CAVIA's context: no eigenvalue is made up to fill the rank."""
    model = mj.mlp(1 + 3, (4,), 1, activation=jnp.tanh, dtype=jnp.float64)
    learner = mj.cavia(model, mj.mse, optax.sgd(0.1), 2, context=3)
    episodes = mj.data.sinusoid(6, 6)(KEY, 1)
    episodes = jax.tree.map(lambda x: x.astype(jnp.float64), episodes)
    meta = learner.init(KEY)
    found = study.spectrum(learner, meta, episodes, mj.mse, steps=(2,), products=16)
    support = jax.tree.map(lambda x: x[0], episodes.support)
    adapted = learner.adapt(meta, support)

    def loss(context):
        outputs = learner.predict({**adapted, "context": context}, support.inputs)
        return mj.mse(outputs, support.targets)

    truth = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(adapted["context"]))
    assert found.dimension == 3
    wanted = [*truth[::-1], np.nan, np.nan]
    scale = np.abs(truth).max()
    np.testing.assert_allclose(found.largest.values[0, 0], wanted, atol=1e-6 * scale)
    wanted = [*truth, np.nan, np.nan]
    np.testing.assert_allclose(found.smallest.values[0, 0], wanted, atol=1e-6 * scale)


def test_the_spectrum_is_that_of_the_dense_hessian(waves):
    learner, meta, episodes = waves
    found = study.spectrum(
        learner, meta, episodes, mj.mse, steps=(0, 1, 3), rank=3, products=40
    )
    assert found.dimension == 8 + 20 + 5
    for task, k, matrix in dense_hessians(learner, meta, episodes, found.steps):
        place = found.steps.index(k)
        truth = np.linalg.eigvalsh(matrix)
        scale = np.abs(truth).max()
        for seen, wanted in (
            (found.largest, truth[::-1][:3]),
            (found.smallest, truth[:3]),
        ):
            np.testing.assert_allclose(
                seen.values[task, place], wanted, atol=1e-6 * scale
            )
        stable = found.stable_rate.values[task, place]
        np.testing.assert_allclose(stable, 2 / truth[-1], rtol=1e-6)


def test_the_trace_is_estimated_without_bias(waves):
    learner, meta, episodes = waves
    found = [
        study.spectrum(
            learner, meta, episodes, mj.mse, steps=(0,), products=1, probes=60, seed=s
        )
        for s in range(2)
    ]
    each = np.concatenate([f.eigenvalues.values[:, 0, :, 0] for f in found], axis=1)
    each = found[0].dimension * each
    for task, _, matrix in dense_hessians(learner, meta, episodes, (0,)):
        error = each[task].std(ddof=1) / np.sqrt(each.shape[1])
        assert abs(each[task].mean() - np.trace(matrix)) < 3 * error
        mean = np.mean([f.trace.values[task, 0] for f in found])
        np.testing.assert_allclose(mean, each[task].mean(), rtol=1e-9)


def test_only_what_moves_is_looked_at():
    model = small_conv(jnp.float64, "stride")
    learner = mj.anil(model, mj.cross_entropy, optax.sgd(0.1), 2)
    episodes = jax.tree.map(lambda x: x[None], image_episode(KEY, dtype=jnp.float64))
    meta = learner.init(KEY)
    # A head of zeros has each eigenvalue twice, of which Lanczos sees one; after two
    # steps all are distinct.
    found = study.spectrum(
        learner, meta, episodes, mj.cross_entropy, steps=(2,), products=30
    )
    support = jax.tree.map(lambda x: x[0], episodes.support)
    path = learner.trajectory(meta, support)
    head, unravel = ravel_pytree(jax.tree.map(lambda x: x[2], path)["head"])

    def loss(x):
        outputs = learner.predict({**meta, "head": unravel(x)}, support.inputs)
        return mj.cross_entropy(outputs, support.targets)

    assert found.dimension == len(head)
    truth = np.linalg.eigvalsh(jax.hessian(loss)(head))[::-1]
    np.testing.assert_allclose(found.largest.values[0, 0, :3], truth[:3], rtol=1e-6)


def test_the_density_integrates_to_one():
    values = np.array([[[[-1.0, 0.0, 4.0]], [[0.0, 1.0, 2.0]]]])
    weights = np.full_like(values, 1 / 3)
    axes = ("task", "step", "probe", "rank")
    blank = Named(np.zeros((1, 2)), ("task", "step"))
    found = Spectrum(
        (0, 1),
        9,
        *(2 * [blank]),
        *(2 * [blank]),
        Named(values, axes),
        Named(weights, axes),
    )
    seen = study.density(found, points=2000)
    totals = np.trapezoid(seen.density.values, seen.eigenvalue, axis=1)
    np.testing.assert_allclose(totals, 1.0, rtol=1e-3)
    centre = np.trapezoid(seen.density.values * seen.eigenvalue, seen.eigenvalue)
    np.testing.assert_allclose(centre, [1.0, 1.0], rtol=1e-3)


def test_the_jacobian_of_adaptation(waves):
    learner, meta, episodes = waves
    found = study.adaptation_spectrum(learner, meta, episodes, rank=4, products=40)
    flat, unravel = ravel_pytree(meta)

    @jax.jit
    @jax.jacrev
    def jacobian(x, support):
        return ravel_pytree(learner.adapt(unravel(x), support))[0]

    for task in range(2):
        support = jax.tree.map(lambda x, i=task: x[i], episodes.support)
        truth = np.linalg.svd(jacobian(flat, support), compute_uv=False)
        seen = found.singular_values.values[task]
        np.testing.assert_allclose(seen, truth[:4], rtol=1e-6)


def test_no_steps_change_nothing():
    """J = I has one distinct singular value, and the others are not made up."""
    model = mj.mlp(**SMALL, dtype=jnp.float64)
    learner = mj.maml(model, mj.mse, optax.sgd(0.05), 0, grad=mj.reverse)
    episodes = mj.data.sinusoid(6, 6)(KEY, 2)
    episodes = jax.tree.map(lambda x: x.astype(jnp.float64), episodes)
    found = study.adaptation_spectrum(learner, learner.init(KEY), episodes, rank=3)
    wanted = np.tile([1.0, np.nan, np.nan], (2, 1))
    np.testing.assert_allclose(found.singular_values.values, wanted, rtol=1e-9)


def test_a_context_has_few_singular_values():
    model = mj.mlp(1 + 2, (4,), 1, activation=jnp.tanh, dtype=jnp.float64)
    learner = mj.cavia(model, mj.mse, optax.sgd(0.1), 2, context=2, grad=mj.reverse)
    episodes = mj.data.sinusoid(6, 6)(KEY, 1)
    episodes = jax.tree.map(lambda x: x.astype(jnp.float64), episodes)
    meta, support = learner.init(KEY), jax.tree.map(lambda x: x[0], episodes.support)
    flat, unravel = ravel_pytree(meta)
    adapt = lambda x: ravel_pytree(learner.adapt(unravel(x), support))[0]  # noqa: E731
    truth = np.linalg.svd(jax.jit(jax.jacrev(adapt))(flat), compute_uv=False)
    found = study.adaptation_spectrum(learner, meta, episodes, rank=5, products=16)
    seen = found.singular_values.values[0]
    np.testing.assert_allclose(seen[0], truth[0], rtol=1e-6)
    there = seen[np.isfinite(seen)]
    assert (np.diff(there) <= 0).all() and np.isnan(seen[len(there) :]).all()
    for value in there:
        assert np.abs(truth - value).min() < 1e-6 * truth[0]


def test_one_wild_task_does_not_flatten_the_density():
    usual = np.linspace(0.0, 4.0, 9)[:, None] + np.array([0.0, 1.0, 2.0])
    axes = ("task", "step", "probe", "rank")
    blank = [Named(np.zeros((10, 1)), ("task", "step"))] * 4

    def seen(wild):
        values = np.concatenate([usual, wild * np.ones((1, 3))])[:, None, None]
        weights = Named(np.full_like(values, 1 / 3), axes)
        found = Spectrum((0,), 9, *blank, Named(values, axes), weights)
        return study.density(found)

    assert seen(1e9).eigenvalue.max() < 10 < 1e8
    assert seen(20.0).eigenvalue.max() > 20
    assert np.isfinite(seen(np.nan).density.values).all()
    nothing = Spectrum((0,), 9, *blank, *[Named(np.zeros((1, 1, 1, 3)), axes)] * 2)
    assert np.isfinite(study.density(nothing).density.values).all()


def test_bad_input(waves):
    learner, meta, episodes = waves
    with pytest.raises(mj.InputError, match="steps must lie in 0..3"):
        study.spectrum(learner, meta, episodes, mj.mse, steps=(4,))
    with pytest.raises(mj.InputError, match="products must be a whole number"):
        study.spectrum(learner, meta, episodes, mj.mse, products=0)
    model = mj.mlp(**SMALL, dtype=jnp.float64)
    other = mj.maml(model, mj.mse, optax.sgd(0.05), 3)
    with pytest.raises(mj.InputError, match="grad=metajax.reverse"):
        study.adaptation_spectrum(other, meta, episodes)
