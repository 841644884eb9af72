"""MetaOptNet: a support vector machine as the head."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_positive
from metajax.errors import InputError
from metajax.learners.closed_form import HeadRule, closed_form
from metajax.learners.support import SupportFeatures
from metajax.losses import cross_entropy
from metajax.ops.positive import solve_positive
from metajax.ops.precision import product
from metajax.types import Array, Learner, Loss, Model, Params, PyTree

BARRIER = 1e-8  # μ; larger ones bias the gradient, see benchmarks/README.md
SHRINK, STEPS = 0.2, 25  # the barrier's factor a step; the steps of Newton's method
SHORT = 0.95  # the largest share of the way to a bound


def meta_opt_net(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    penalty: float = 0.1,
    smoothing: float = 1.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Crammer and Singer's multi-class support vector machine, solved for each task.

      min_w  1/2 Σ_k |w_k|² + C Σ_n ξ_n,   w_{y_n}·φ_n - w_k·φ_n >= 1 - [k = y_n] - ξ_n

    The dual (`crammer_singer`) is solved, and differentiated through its optimality
    conditions. The logits are α φ(x)·w_k, and log α is learnt.

    Args:
      body: the embedding φ, from inputs to features: `metajax.conv4(ways).parts[0]`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      penalty: C.
      smoothing: added to the diagonal of the support set's Gram matrix, as in the
        paper's code, which makes the solution unique.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `metajax.learners.closed_form` returns it.

    Raises:
      InputError: if the body is not a `Model`, `ways` is not a whole number of at least
        2, or another number is not positive.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = meta_opt_net(body, ways=5)

    Source: Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR
    2019; Crammer & Singer, "On the Algorithmic Implementation of Multiclass
    Kernel-based Vector Machines", JMLR 2001.
    """
    for name, value in (("penalty", penalty), ("smoothing", smoothing)):
        check_positive(name, value)
    if ways == 1:
        raise InputError("a support vector machine needs at least 2 ways, got 1")

    def init(dtype: Any) -> PyTree:
        return {"log_scale": jnp.zeros((), dtype)}

    def solve(settings: PyTree, examples: SupportFeatures) -> Params:
        x, labels = examples.labelled(), examples.members
        # An example without features has no effect, whatever its label is.
        labels = labels + (1 - jnp.sum(labels, 1, keepdims=True)) / ways
        gram = product(x, x.T) + smoothing * jnp.eye(len(x), dtype=x.dtype)
        duals = crammer_singer(gram, labels, penalty)
        weights = jnp.exp(settings["log_scale"]) * product(x.T, duals)
        return {"kernel": weights, "bias": jnp.zeros(ways, x.dtype)}

    return closed_form(body, ways, loss, HeadRule(init, solve), metrics=metrics)


def crammer_singer(gram: Array, labels: Array, penalty: float) -> Array:
    """The dual coefficients of the multi-class support vector machine.

      min_α  1/2 Σ_k α_kᵀ K α_k - Σ_n α_n^{y_n}
      α_n^k <= C [k = y_n],  Σ_k α_n^k = 0,      and then  w_k = Σ_n α_n^k φ_n

    α = C(Y - t) makes it a program over a simplex for each example, t. A logarithmic
    barrier of 1e-8 keeps t from its bounds, which makes it a smooth function of K; its
    error is up to about √1e-8 where a bound nearly binds.

    Args:
      gram: K, positive definite, `float[n, n]`.
      labels: Y, one-hot, or rows that sum to one, `float[n, ways]`.
      penalty: C.

    Returns:
      α, `float[n, ways]`.

    >>> jnp.round(crammer_singer(jnp.eye(2), jnp.eye(2), 0.1), 3)
    Array([[ 0.1, -0.1],
           [-0.1,  0.1]], dtype=float32)
    """
    return penalty * (labels - _simplex(penalty * gram, labels))


@jax.custom_jvp
def _simplex(gram: Array, labels: Array) -> Array:
    """The t > 0 with sums of one, by a primal-dual interior-point method.

    min_t  1/2 Σ_k (t - Y)_kᵀ K (t - Y)_k + Σ Y t - μ Σ log t
    """

    def step(point: _Point, _: None) -> tuple[_Point, None]:
        return _towards(gram, labels, point), None

    even = jnp.full_like(labels, 1 / labels.shape[1])
    start = _Point(even, jnp.ones_like(labels), jnp.zeros_like(labels[:, 0]))
    return jax.lax.scan(step, start, length=STEPS)[0].shares


@_simplex.defjvp
def _simplex_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The derivative of the optimality conditions, which has derivatives itself."""
    (gram, labels), (d_gram, d_labels) = primals, tangents
    shares = _simplex(gram, labels)
    change = product(d_gram, shares - labels) - product(gram, d_labels) + d_labels
    sums = jnp.zeros_like(shares[:, 0])
    return shares, _solve(gram, BARRIER / shares**2, -change, sums)[0]


class _Point(NamedTuple):
    """t, and the multipliers of its bounds and of its sums."""

    shares: Array
    bounds: Array
    sums: Array


def _towards(gram: Array, labels: Array, point: _Point) -> _Point:
    """One step of Newton's method, with a smaller barrier."""
    t, s, total = point
    barrier = jnp.maximum(SHRINK * jnp.mean(t * s), BARRIER)
    slope = product(gram, t - labels) + labels + total[:, None]
    d_t, d_total = _solve(gram, s / t, barrier / t - slope, 1 - jnp.sum(t, 1))
    d_s = (barrier - s * d_t) / t - s
    return _Point(t + _within(t, d_t) * d_t, s + _within(s, d_s) * d_s, total + d_total)


def _within(x: Array, change: Array) -> Array:
    """The share of `change` after which x is positive still, at most 1."""
    worst = jnp.max(-change / x, initial=0)
    return jnp.minimum(1.0, SHORT / jnp.maximum(worst, SHORT)).astype(x.dtype)


def _solve(
    gram: Array, diagonal: Array, right: Array, sums: Array
) -> tuple[Array, Array]:
    """Solves (K + diag d_k) x_k + ν = r_k for all classes k, with Σ_k x_k = p.

    One system of n equations for each class, and one for ν, instead of a joint one.
    """
    identity = jnp.eye(len(gram), dtype=gram.dtype)

    def inverse(d: Array) -> Array:
        return solve_positive(gram + jnp.diag(d), identity)

    inverses = jax.vmap(inverse, 1)(diagonal)
    free = jnp.einsum("kij,jk->ik", inverses, right, precision="highest")
    total = solve_positive(jnp.sum(inverses, 0), (jnp.sum(free, 1) - sums)[:, None])
    shift = jnp.einsum("kij,jl->ik", inverses, total, precision="highest")
    return free - shift, total[:, 0]
