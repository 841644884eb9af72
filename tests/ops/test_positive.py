"""Positive definite systems, against numpy's solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.ops.positive import solve_positive


def system(n, m, seed=0, least=1.0):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n, n))
    return half @ half.T + least * np.eye(n), rng.normal(size=(n, m))


@pytest.mark.parametrize("n, m", [(1, 1), (5, 2), (60, 5)])
def test_solves(float64, n, m):
    a, b = system(n, m)
    np.testing.assert_allclose(
        solve_positive(jnp.asarray(a), jnp.asarray(b)), np.linalg.solve(a, b), rtol=1e-9
    )


def test_a_batch_is_its_systems(float64):
    pairs = [system(7, 2, seed) for seed in range(3)]
    a, b = (np.stack(x) for x in zip(*pairs))
    np.testing.assert_allclose(
        jax.jit(jax.vmap(solve_positive))(a, b), np.linalg.solve(a, b), rtol=1e-9
    )


def test_float32_keeps_what_the_condition_leaves():
    a, b = system(40, 3, least=1e-2)
    found = solve_positive(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    exact = np.linalg.solve(a, b)
    assert found.dtype == jnp.float32
    worst = np.linalg.cond(a) * np.finfo(np.float32).eps
    assert np.linalg.norm(found - exact) < worst * np.linalg.norm(exact)


def test_derivatives(float64):
    a, b = map(jnp.asarray, system(4, 2))

    @jax.jit
    def solve(half, b):
        return solve_positive(half @ half.T + jnp.eye(4), b)

    check_grads(solve, (a / 4, b), order=2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 1)), ((2, 2), (3, 1)), ((2, 2), (2,))])
def test_refuses_other_shapes(shapes):
    with pytest.raises(mj.InputError, match=r"takes \[n, n\] and \[n, m\]"):
        solve_positive(*map(jnp.zeros, shapes))
