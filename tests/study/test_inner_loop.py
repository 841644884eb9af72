"""Trajectories and meta-gradients against a quadratic, known in closed form."""

from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import study
from tests.helpers import INNER, KEY, relative, sine_episode
from tests.study import quadratic as q

pytestmark = pytest.mark.usefixtures("float64", "kept_programs")


@pytest.fixture
def problem(float64):
    learner, episodes = q.build(), q.episodes(KEY)
    return learner, learner.init(jax.random.key(1)), episodes


def test_trajectories(problem):
    learner, meta, episodes = problem
    found = study.trajectories(learner, meta, episodes, q.half_square, q.half_square)
    assert found.layers == ("w", "all")
    start = np.asarray(meta["w"])
    for task, (support, query) in enumerate(q.each_task(episodes)):
        path = np.stack([q.solution(support, start, k) for k in range(q.STEPS + 1)])
        slopes = np.stack([q.gradient(support, w) for w in path])
        sizes = np.linalg.norm(slopes, axis=1)
        moved = np.diff(path, axis=0)
        expected = {
            "support_loss": [q.loss(support, w) for w in path],
            "query_loss": [q.loss(query, w) for w in path],
            "support_score": [q.loss(support, w) for w in path],
            "query_score": [q.loss(query, w) for w in path],
            "gradient_norm": sizes,
            "distance": np.linalg.norm(path - start, axis=1),
            "step_norm": np.linalg.norm(moved, axis=1),
            "cosine": np.sum(slopes[1:] * slopes[:-1], 1) / (sizes[1:] * sizes[:-1]),
        }
        for name, truth in expected.items():
            values = getattr(found, name).take("task", task)
            if "layer" in values.axes:
                both = values.take("layer", 0), values.take("layer", 1)
                np.testing.assert_allclose(both[0].values, both[1].values, rtol=1e-12)
                values = both[0]
            np.testing.assert_allclose(values.values, truth, 1e-9, 1e-12, err_msg=name)


def test_layers_that_do_not_move_have_steps_of_zero():
    learner = mj.anil(mj.mlp(dtype=jnp.float64), mj.mse, optax.sgd(0.01), 2)
    episodes = jax.tree.map(lambda x: x[None], sine_episode(KEY, jnp.float64))
    meta = learner.init(KEY)
    found = study.trajectories(learner, meta, episodes, mj.mse, mj.mse)
    assert found.layers == ("body/0", "body/1", "head", "all")
    moves = found.step_norm.values.max(axis=(0, 1))
    assert (moves[:2] == 0).all() and moves[2] == moves[3] > 0
    assert (found.gradient_norm.values > 0).all()


def test_orders(problem):
    _, meta, episodes = problem
    steps, rates = (1, q.STEPS), (0.05, q.RATE)
    found = study.orders(
        lambda grad, k, rate: q.build(grad, k, rate),
        meta,
        episodes,
        steps=steps,
        rates=rates,
    )
    for task, (support, query) in enumerate(q.each_task(episodes)):
        for i, k in enumerate(steps):
            for j, rate in enumerate(rates):
                shrink = np.eye(q.SIZE) - rate * q.hessian(support)
                end = q.solution(support, np.asarray(meta["w"]), k, rate)
                first = q.gradient(query, end)
                whole = np.linalg.matrix_power(shrink, k) @ first
                sizes = np.linalg.norm(whole), np.linalg.norm(first)
                truth = {
                    "exact": sizes[0],
                    "first_order": sizes[1],
                    "second_order": np.linalg.norm(whole - first),
                    "cosine": whole @ first / (sizes[0] * sizes[1]),
                }
                for name, value in truth.items():
                    seen = getattr(found, name).values[i, j, task]
                    np.testing.assert_allclose(seen, value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("steps", [0, q.STEPS])
def test_expansion(steps, problem):
    _, meta, episodes = problem
    found = study.expansion(lambda grad: q.build(grad, steps), meta, episodes)
    terms = np.zeros((steps + 1, q.SIZE))
    for support, query in q.each_task(episodes):
        end = q.solution(support, np.asarray(meta["w"]), steps)
        for j in range(steps + 1):
            power = np.linalg.matrix_power(-q.RATE * q.hessian(support), j)
            term = comb(steps, j) * power @ q.gradient(query, end)
            terms[j] += term / q.TASKS
    np.testing.assert_allclose(
        found.norm.values[:, 0], np.linalg.norm(terms, axis=1), rtol=1e-8
    )
    np.testing.assert_allclose(found.cosine.values[-1], 1.0, rtol=1e-12)
    assert found.residual < 1e-12


def test_the_floor_is_what_rounding_makes_of_a_term(problem):
    """In float32 the terms of high order are noise, and are not above the floor."""
    _, meta, episodes = problem
    steps = 14

    def found(dtype):
        cast = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)  # noqa: E731
        build = lambda grad: q.build(grad, steps)  # noqa: E731
        return study.expansion(build, cast(meta), cast(episodes))

    truth, rough = found(jnp.float64), found(jnp.float32)
    error = np.abs(rough.norm.values[:, -1] - truth.norm.values[:, -1])
    assert (error <= rough.floor.values).all()
    assert (error[-2:] > truth.norm.values[-2:, -1]).all()  # nothing but noise
    assert (rough.norm.values[:4, -1] > 10 * rough.floor.values[:4]).all()


def test_expansion_of_any_optimizer(problem):
    _, meta, episodes = problem

    def build(grad):
        optimizer = INNER["adam"](0.3)
        return mj.maml(q.MODEL, q.half_square, optimizer, 3, grad=grad)

    def norm(grad):
        gradient = jax.jit(mj.meta_gradient(build(grad)))
        return optax.tree.norm(gradient(meta, episodes)[1])

    found = study.expansion(build, meta, episodes)
    assert found.residual < 1e-10
    truth = norm(mj.first_order)
    np.testing.assert_allclose(found.norm.values[0, -1], truth, rtol=1e-9)
    assert abs(truth - norm(mj.exact)) > 1e-3 * truth


def test_scaled_lies_between_first_order_and_exact(problem):
    _, meta, episodes = problem
    episode = q.each_task(episodes)[0]

    def gradient(grad):
        slopes = jax.jit(jax.grad(q.build(grad, 1).loss, has_aux=True))
        return slopes(meta, episode)[0]

    none, half, whole = (gradient(study.scaled(share)) for share in (0.0, 0.5, 1.0))
    assert relative(none, gradient(mj.first_order)) < 1e-12
    assert relative(whole, gradient(mj.exact)) < 1e-12
    middle = jax.tree.map(lambda x, y: (x + y) / 2, none, whole)
    assert relative(half, middle) < 1e-12


def one_number(key, tasks, mean=1.0, spread=2.0):
    """w is to be near y, whose support and query are independent and normal."""
    y = mean + spread * jax.random.normal(key, (2, tasks, 1), jnp.float64)
    x = jnp.ones((tasks, 1, q.SIZE), jnp.float64) / q.SIZE
    return mj.Episode(mj.Batch(x, y[0]), mj.Batch(x, y[1]))


def test_noise_is_estimated_without_bias():
    """One gradient step on (w̄ - s)²/2, w̄ the mean entry of w: c = w̄_1 - y is normal."""
    meta = {"w": jnp.full(q.SIZE, 0.5, jnp.float64)}
    tasks, repeats, a = 3, 30, 1 / q.SIZE
    sample = one_number(KEY, tasks * repeats)
    parts = (
        jax.tree.map(lambda x, i=i: x[i * tasks : (i + 1) * tasks], sample)
        for i in range(repeats)
    )
    found = [
        study.noise(lambda grad: q.build(grad, 1, 1.0), meta, part) for part in parts
    ]
    # w̄_1 = (1 - a) 0.5 + a s, and the gradient has c / 3 in each of 3 entries.
    mean, variance = (1 - a) * 0.5 + a * 1.0 - 1.0, 4.0 * (a**2 + 1)
    truth = {
        "signal": (1 - a) ** 2 * mean**2 * a,
        "variance": (1 - a) ** 2 * variance * a,
        "first_order_variance": variance * a,
        "bias": a**2 * mean**2 * a,
    }
    for name, value in truth.items():
        seen = np.array([getattr(one, name).values[-1] for one in found])
        error = seen.std(ddof=1) / np.sqrt(repeats)
        assert abs(seen.mean() - value) < 3 * error, name


def test_noise_of_many_tasks():
    """The same truth from one large sample, and the errors that follow from it."""
    meta = {"w": jnp.full(q.SIZE, 0.5, jnp.float64)}
    a, sizes = 1 / q.SIZE, (1, 16)
    sample = one_number(KEY, 20_000)
    found = study.noise(lambda grad: q.build(grad, 1, 1.0), meta, sample, sizes=sizes)
    mean, variance = (1 - a) * 0.5 + a * 1.0 - 1.0, 4.0 * (a**2 + 1)
    signal, trace = (1 - a) ** 2 * mean**2 * a, (1 - a) ** 2 * variance * a
    bias, first = a**2 * mean**2 * a, variance * a
    for values, truth in (
        (found.useful, trace / signal),
        (found.error, [trace / size for size in sizes]),
        (found.first_order_error, [bias + first / size for size in sizes]),
    ):
        np.testing.assert_allclose(values.values[..., -1], truth, rtol=0.15)


def test_a_variance_needs_two_tasks():
    meta = {"w": jnp.zeros(q.SIZE, jnp.float64)}
    with pytest.raises(mj.InputError, match="at least 2 tasks, got 1"):
        study.noise(lambda grad: q.build(grad, 1), meta, one_number(KEY, 1))


def test_one_task_is_no_meta_batch(problem):
    learner, meta, episodes = problem
    with pytest.raises(mj.InputError, match="leading axis of tasks"):
        study.trajectories(learner, meta, None, mj.mse, mj.mse)  # pyright: ignore


@pytest.mark.parametrize(
    "tried", [dict(steps=(), rates=[0.1]), dict(steps=[1], rates=())]
)
def test_orders_are_of_some_steps_and_rates(problem, tried):
    learner, meta, episodes = problem[:3]
    with pytest.raises(mj.InputError, match="the number of (steps|rates) must be"):
        study.orders(lambda *_: learner, meta, episodes, **tried)
