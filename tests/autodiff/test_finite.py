"""Derivatives at points where those of the primitives are infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from metajax._autodiff.finite import finite, obstacle

pytestmark = pytest.mark.usefixtures("relaxed", "float64")
NORM = jnp.linalg.norm


def below(norm, kept, otherwise):
    return jnp.where(norm < 1, kept, otherwise)


# Each with its derivative at zero, the limit where there is one.
FUNCTIONS = {
    "quotient": (lambda g: below(NORM(g), g, g / NORM(g)), 1),
    "rsqrt": (lambda g: below(NORM(g), g, g * lax.rsqrt(jnp.sum(g * g))), 1),
    "square": (lambda g: below(NORM(g), g, jnp.square(g / NORM(g))), 1),
    "exp": (lambda g: below(NORM(g), g, jnp.exp(jnp.log(NORM(g)) / 2)), 1),
    "log": (lambda g: jnp.where(g == 0, g, g * jnp.log(jnp.abs(g))), 1),
    "inverse": (lambda g: jnp.where(g == 0, g, g**-2), 1),
    "powers": (lambda g: g**2.0 + jnp.abs(g) ** 0.5 + g, 1),
    "cube root": (lambda g: jnp.cbrt(g) + g, 1),
    "angle": (lambda g: g + jnp.arctan2(g, jnp.abs(g)), 1),
    "arcosh": (lambda g: g + jnp.arccosh(1 + g * g), 1),
    "adam": (jax.jit(lambda g: g / (jnp.sqrt(g * g) + 0.1)), 10),
    "cond": (lambda g: lax.cond(jnp.sum(g) > 1, jnp.sin, lambda g: g + NORM(g), g), 1),
    "scan": (lambda g: lax.scan(lambda c, x: (c + x, c + NORM(c)), g, g[:1])[1][0], 1),
    "loop": (lambda g: lax.fori_loop(0, 2, lambda _, c: c + jnp.sqrt(c * c), g), 1),
    "remat": (jax.checkpoint(lambda g: g + jnp.sqrt(g * g)), 1),
    "complex": (lambda g: jnp.real(below(NORM(g + 0j), g, g / NORM(g + 0j))), 1),
}


def replayed(fun):
    def replay(x):
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(x)
        return jax.tree.unflatten(jax.tree.structure(shape), finite(closed)(x))

    return replay


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_limit_in_both_modes_and_the_rest_unchanged(name):
    fun, slope = FUNCTIONS[name]
    ours, zero, x = replayed(fun), jnp.zeros(3), jnp.array([0.3, 0.2, 0.4])
    np.testing.assert_array_equal(ours(x), fun(x))
    np.testing.assert_array_equal(ours(zero), fun(zero))
    for mode in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(mode(ours)(zero), slope * jnp.eye(3), rtol=1e-14)
        np.testing.assert_allclose(mode(ours)(x), jax.jacfwd(fun)(x), rtol=1e-13)
        assert np.isfinite(jax.jacfwd(mode(ours))(zero)).all()


def test_a_second_derivative_is_kept():
    ours = replayed(lambda x: x**2.0 + jnp.abs(x) ** 1.5)
    assert jax.grad(jax.grad(ours))(0.0) == 2.0


def test_without_a_singular_primitive_the_program_is_the_same():
    fun = lambda x: jax.jit(jnp.sin)(x) * 3 / 2 - x**3  # noqa: E731
    assert str(jax.make_jaxpr(replayed(fun))(1.0)) == str(jax.make_jaxpr(fun)(1.0))


def test_a_rule_of_ones_own_is_left_alone():
    fun = jax.custom_jvp(jnp.sqrt)
    fun.defjvp(lambda x, t: (jnp.sqrt(*x), 7 * t[0]))
    assert jax.grad(replayed(lambda x: fun(x) + jnp.sqrt(x)))(0.0) == 7


def test_what_has_no_derivative():
    search = lambda x: lax.while_loop(lambda x: x < 1, lambda x: x + 1, x)  # noqa: E731
    assert "line search" in obstacle(jax.make_jaxpr(jax.jit(search))(0.0))
    assert "svd" in obstacle(jax.make_jaxpr(jnp.linalg.svd)(jnp.eye(2)))
    assert obstacle(jax.make_jaxpr(search)(0)) is None


def test_the_numerator_keeps_its_derivative_near_a_pole():
    near = jnp.float32(1e-20)
    slope = jax.grad(replayed(lambda x: jnp.sum(x / near)))(jnp.float32(2.0))
    np.testing.assert_allclose(slope, 1e20, rtol=1e-6)
    both = jax.grad(replayed(lambda z: z[0] / z[1]))(
        jnp.array([2.0, 1e-20], jnp.float32)
    )
    np.testing.assert_allclose(both, [1e20, -np.inf], rtol=1e-6)


def test_a_slope_that_overflows_does_not_make_nan_of_zero():
    f = replayed(lambda g: g * lax.rsqrt(g * g + jnp.float32(1e-30)))
    assert jax.grad(f)(jnp.float32(0.0)) == np.float32(1e15)
    near = jax.grad(f)(jnp.float32(3e-15))
    np.testing.assert_allclose(near, 1e15 / 10**1.5, rtol=1e-3)


@pytest.mark.parametrize("near", [1e-19, 1e-25])
def test_an_angle_keeps_its_derivatives_near_the_origin(near):
    def f(g):
        return jnp.arctan2(g, jnp.abs(g))

    near, ours = jnp.float32(near), replayed(f)
    for mode in (jax.grad, jax.jacfwd):
        assert mode(ours)(near) == 0
    assert jax.jacfwd(jax.jacfwd(ours))(near) == 0
    slopes = jax.grad(replayed(lambda z: jnp.arctan2(*z)))(
        near * jnp.array([3, 4], jnp.float32)
    )
    np.testing.assert_allclose(slopes * near, [4 / 25, -3 / 25], rtol=1e-6)


@pytest.mark.parametrize("call", ["jit", "cond", "remat"])
def test_what_is_not_selected_may_reach_into_a_call(float64, call):
    def scaled(root, g):
        product = lambda r, g: r * g  # noqa: E731
        if call == "cond":
            return jax.lax.cond(g > -9, product, lambda r, g: g, root, g)
        return {"jit": jax.jit, "remat": jax.checkpoint}[call](product)(root, g)

    def f(g):
        n = g * g
        return jnp.where(n > 0, scaled(jax.lax.rsqrt(n), g), g)

    assert jax.grad(replayed(f))(0.0) == 1
