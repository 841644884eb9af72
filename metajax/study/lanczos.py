"""Lanczos' method: a symmetric matrix seen through its products with vectors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Array


class Tridiagonal(NamedTuple):
    """The matrix T of Lanczos' method, of m steps.

    Attributes:
      diagonal: α, `[..., m]`.
      off_diagonal: β, `[..., m]`, the entries beside it; the last is outside T.
    """

    diagonal: Array
    off_diagonal: Array


class Quadrature(NamedTuple):
    """What m products say of a symmetric matrix A and a unit vector v.

      vᵀ f(A) v ≈ Σ_i w_i f(λ_i),   exact for polynomials of degree 2m - 1

    Attributes:
      eigenvalues: Ritz values λ_i in rising order, `float64[..., m]`; the outermost are
        near eigenvalues of A, of which each distinct one is seen once. NaN, at the end,
        where v's part of the space was exhausted before m steps, or the matrix was not
        finite.
      weights: w_i, likewise, of sum 1; 0 where there is no value.
    """

    eigenvalues: np.ndarray
    weights: np.ndarray


def quadrature(result: Tridiagonal) -> Quadrature:
    """Gauss' quadrature of a tridiagonal matrix, or of a stack of them, on the host.

    λ = eig(T),   w_i = (first entry of eigenvector i)²
    """
    diagonal, beside = (np.asarray(x, float) for x in result)
    values, weights = np.full(diagonal.shape, np.nan), np.zeros(diagonal.shape)
    for place in np.ndindex(diagonal.shape[:-1]):
        alpha, beta = diagonal[place], beside[place]
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            continue
        size = 1 + int(np.argmin(np.append(beta[:-1], 0.0) != 0))  # before the first 0
        matrix = np.diag(alpha[:size]) + np.diag(beta[: size - 1], -1)
        values[place][:size], vectors = np.linalg.eigh(matrix)  # of the lower half
        weights[place][:size] = vectors[0] ** 2
    return Quadrature(values, weights)


def lanczos(product: Callable[[Array], Array], start: Array, steps: int) -> Tridiagonal:
    """Runs m = `steps` steps, each new vector made orthogonal to all before it.

      A Q = Q T + β_m q_{m+1} e_mᵀ,   Q = (v, q_2, ..., q_m)

    Args:
      product: `product(v) -> A v`, of a symmetric matrix `[n, n]`.
      start: v, `[n]`, of any length but 0.
      steps: m; no more than n are taken.

    Returns:
      `Tridiagonal`, for `quadrature`.

    >>> matrix = jnp.diag(jnp.array([1.0, 2.0, 10.0]))
    >>> result = lanczos(lambda v: matrix @ v, jnp.ones(3), 3)
    >>> [round(float(x), 3) for x in quadrature(result).eigenvalues]
    [1.0, 2.0, 10.0]

    Source: Golub & Meurant, "Matrices, Moments and Quadrature with Applications", 2010,
    chapters 4 and 6.
    """
    length = min(steps, len(start))
    first = start / jnp.linalg.norm(start)
    basis = jnp.zeros((length, len(start)), start.dtype).at[0].set(first)
    tiny = 10 * jnp.finfo(start.dtype).eps

    def step(carry: tuple[Array, Array], k: Array):
        basis, scale = carry
        v = basis[k]
        w = product(v)
        diagonal = v @ w
        # Twice is enough: once leaves rounding errors of the size of what is removed.
        for _ in range(2):
            along = jnp.matmul(basis, w, precision="highest")
            w = w - jnp.matmul(basis.T, along, precision="highest")
        norm = jnp.linalg.norm(w)
        scale = jnp.maximum(scale, jnp.abs(diagonal) + norm)
        off = jnp.where(norm > tiny * scale, norm, 0)
        following = jnp.where(off > 0, w / jnp.where(off > 0, norm, 1), 0)
        basis = basis.at[k + 1].set(following, mode="drop")
        return (basis, scale), (diagonal, off)

    scale = jnp.zeros((), start.dtype)
    _, (alpha, beta) = jax.lax.scan(step, (basis, scale), jnp.arange(length))
    return Tridiagonal(alpha, beta)
