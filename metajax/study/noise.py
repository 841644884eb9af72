"""How certain a meta-gradient is: its bias and variance against the meta-batch."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.gradients import exact, first_order
from metajax.study.layers import ALL, difference, layer_names, squares
from metajax.study.named import Named
from metajax.study.tasks import Build, count_tasks, mean_of_tasks
from metajax.types import Array, Episode, GradTransform, Params, PyTree

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Noise(NamedTuple):
    """Meta-gradients of single tasks, g the exact and g₁ the first-order one, by layer.

    The estimates of signal, variances and bias are unbiased, and so may be negative
    where the truth is near 0.

    Attributes:
      layers: the names along the axis "layer", the last of them "all".
      sizes: the sizes of meta-batches along "size".
      signal: ‖E g‖², `[layer]`.
      variance: tr Cov g, `[layer]`.
      first_order_variance: tr Cov g₁, `[layer]`.
      bias: ‖E g₁ - E g‖², `[layer]`.
      useful: tr Cov g / ‖E g‖², the "simple noise scale": the meta-batch at which noise
        equals signal, so that larger ones gain little. Infinite where no signal was
        seen. `[layer]`.
      error: E‖ḡ - E g‖² of the mean over a meta-batch, `[size, layer]`.
      first_order_error: E‖ḡ₁ - E g‖², `[size, layer]`.
    """

    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    signal: Named
    variance: Named
    first_order_variance: Named
    bias: Named
    useful: Named
    error: Named
    first_order_error: Named


def noise(
    build: Build, meta: PyTree, episodes: Episode, *, sizes: Sequence[int] = SIZES
) -> Noise:
    """Estimates bias and variance of the meta-gradient from a sample of T tasks.

      tr Cov g ≈ T/(T-1) (mean ‖g_i‖² - ‖mean g_i‖²)
      ‖E g‖² ≈ ‖mean g_i‖² - tr Cov g / T
      E‖ḡ₁ - E g‖² = ‖E g₁ - E g‖² + tr Cov g₁ / B

    Args:
      build: `build(grad) -> learner`.
      meta: the meta-parameters.
      episodes: a meta-batch of T tasks, at least 2; a hundred are usually enough.
      sizes: meta-batches B whose errors are estimated.

    Returns:
      `Noise`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch of at least 2 tasks.

    >>> import optax, metajax as mj
    >>> def build(grad):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), 1, grad=grad)
    >>> meta = build(mj.exact).init(jax.random.key(0))
    >>> result = noise(build, meta, mj.data.sinusoid()(jax.random.key(1), 20))
    >>> result.layers, result.error.axes
    (('body/0', 'body/1', 'head', 'all'), ('size', 'layer'))

    Source: McCandlish et al., "An Empirical Model of Large-Batch Training", 2018,
    section 2.2, for the useful batch.
    """
    if (tasks := count_tasks(episodes)) < 2:
        raise InputError(f"a variance needs at least 2 tasks, got {tasks}")

    def one(meta: PyTree, episode: Episode) -> tuple[tuple[Params, ...], Array]:
        def gradient(grad: GradTransform) -> Params:
            return jax.grad(build(grad).loss, has_aux=True)(meta, episode)[0]

        whole, first = gradient(exact), gradient(first_order)
        all_three = whole, first, difference(first, whole)
        return all_three, jnp.stack([squares(x) for x in all_three])

    means, squared = mean_of_tasks(one, meta, episodes)
    of_mean = np.stack([np.asarray(squares(x), float) for x in means])
    # Of g, g₁ and g₁ - g: the trace of the covariance, and the square of the mean.
    trace = tasks / (tasks - 1) * (np.asarray(squared, float) - of_mean)
    names = (*layer_names(meta), ALL)
    return _noise(names, tuple(sizes), trace, of_mean - trace / tasks)


def _noise(
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    trace: np.ndarray,
    square: np.ndarray,
) -> Noise:
    signal, seen = square[0], square[0] > 0
    # Without a signal no meta-batch is large enough; of NaN nothing is known.
    nothing = np.where(np.isnan(signal), np.nan, np.inf)
    useful = np.where(seen, trace[0] / np.where(seen, signal, np.nan), nothing)
    batch = np.asarray(sizes, float)[:, None]
    by_layer = (Named(x, ("layer",)) for x in (signal, *trace[:2], square[2], useful))
    errors = trace[0] / batch, square[2] + trace[1] / batch
    by_size = (Named(x, ("size", "layer")) for x in errors)
    return Noise(names, sizes, *by_layer, *by_size)
