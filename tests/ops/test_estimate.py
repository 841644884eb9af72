import jax
import jax.numpy as jnp
import optax
import pytest

import metajax as mj
from metajax.ops import conv2d
from metajax.ops.estimate import allocated_bytes, live_bytes, tiled_bytes, written_bytes

ONE, X = 10 * 4, jnp.zeros(10)


def stacks(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, length=100)[1]


def carries(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=100)[0]


def test_allocated_bytes_sees_into_loops_and_calls():
    assert 100 * ONE <= allocated_bytes(stacks, X) <= 104 * ONE
    assert 2 * ONE <= allocated_bytes(jax.jit(carries), X) <= 4 * ONE


def test_written_bytes_counts_a_loop_as_often_as_it_runs():
    def twice(x):
        return jax.lax.scan(lambda c, _: (carries(c), None), x, length=2)[0]

    assert 100 * ONE <= written_bytes(jax.jit(carries), X) <= 104 * ONE
    assert 200 * ONE <= written_bytes(twice, X) <= 208 * ONE


@pytest.mark.parametrize("settings", [dict(devices=2), dict(tasks_per_chunk=100)])
def test_written_bytes_of_a_meta_step_however_it_is_cut(settings):
    learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    key = jax.random.key(0)
    args = learner.init(key), mj.data.sinusoid()(key, 400)
    whole = written_bytes(mj.meta_gradient(learner, tasks_per_chunk=None), *args)
    cut = written_bytes(mj.meta_gradient(learner, **settings), *args)
    assert abs(cut / whole - 1) < 0.1


def deep(x):
    """No two of its arrays are of one kernel."""
    for _ in range(5):
        x = jnp.cumsum(x)
    return x


def test_what_lives_at_one_time():
    assert live_bytes(deep, X) == 2 * ONE < allocated_bytes(deep, X)
    assert live_bytes(lambda x: (deep(x), jnp.sin(x), jnp.cos(x)), X) == 3 * ONE
    # Read again in the end: kept through all the others.
    assert live_bytes(lambda x: (y := jnp.cumsum(x)) * deep(y), X) == 3 * ONE
    # A view keeps what it is of.
    views = lambda x: deep(y := jnp.cumsum(x).reshape(2, 5)).sum() + y.sum()  # noqa: E731
    assert 3 * ONE <= live_bytes(views, X) <= 3.1 * ONE


def test_what_is_fused_is_no_array():
    def each(x):
        return jnp.exp(jnp.sin(x) * 2 + 1).sum()

    assert live_bytes(each, X) == 4 < ONE
    # Two read it, or one that needs it whole: it is made.
    assert live_bytes(lambda x: (y := jnp.sin(x)).sum() + y[::-1].sum(), X) >= ONE
    assert live_bytes(lambda x: jnp.dot(jnp.sin(x), x), X) == ONE + 4
    # What it is made of is kept until then.
    kept = lambda x: jnp.sin(jnp.cumsum(x)).sum() + 0 * deep(x).sum()  # noqa: E731
    assert live_bytes(kept, X) >= 2 * ONE


def test_what_lives_in_loops_and_calls():
    assert 101 * ONE <= live_bytes(stacks, X) <= 104 * ONE
    assert 2 * ONE <= live_bytes(jax.jit(carries), X) <= 4 * ONE

    def branch(x):
        return jax.lax.cond(x.sum() > 0, deep, jnp.cumsum, x)

    assert 2 * ONE <= live_bytes(branch, X) <= 2.3 * ONE


def test_what_is_made_in_a_convolution():
    """Shallow patches live beside the result, where the backend's form makes them."""
    x, kernel = jnp.zeros((2, 8, 8, 1)), jnp.zeros((3, 3, 1, 4))
    result, patches = 4 * 2 * 8 * 8 * 4, 4 * 2 * 8 * 8 * 9
    assert live_bytes(conv2d, x, kernel) == result
    for backend in ("gpu", "tpu"):
        taken = live_bytes(conv2d, x, kernel, backend=backend)
        assert result + patches <= taken


@pytest.mark.parametrize(
    "shape, rows",
    [((), 1), ((300,), 3), ((5, 128), 8), ((128, 3, 9), 36), ((4, 75, 9), 36)],
)
def test_a_tpus_tiles_are_padded_as_little_as_can_be(shape, rows):
    assert tiled_bytes(jax.ShapeDtypeStruct(shape, jnp.float32)) == rows * 4 * 128
    assert tiled_bytes(jax.ShapeDtypeStruct(shape, jnp.bfloat16)) == rows * 2 * 128
