"""Convex mixtures of examples, whose targets are probabilities of the classes."""

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.data.wrappers.augmentation import Transform
from metajax.data.wrappers.transforms import form
from metajax.errors import InputError
from metajax.losses import probabilities
from metajax.types import Array, Batch, Episode, PyTree


def mixup(alpha: float, ways: int) -> Transform:
    """Mixes each example with another of its side, support and query apart.

      x̃_i = λ_i x_i + (1 - λ_i) x_π(i),  ỹ_i = λ_i y_i + (1 - λ_i) y_π(i)

    with λ_i ~ Beta(α, α) for each example, π a random permutation of the side's
    examples, and y one-hot.

    Args:
      alpha: α, positive; at 1, λ is uniform, and near 0 hardly anything is mixed.
      ways: classes an episode.

    Returns:
      A transform of episodes with floating-point inputs and labels `int[n]`, or
      probabilities `float[n, ways]`, to episodes of probabilities; of NaN for a label
      out of range.

    Raises:
      InputError: for a number out of range; when it is called, for other episodes.

    >>> batch = Batch(jnp.zeros((4, 1)), jnp.array([0, 1, 2, 2]))
    >>> mixed = mixup(1.0, 3)(jax.random.key(0), Episode(batch, batch))
    >>> mixed.support.targets.shape
    (4, 3)

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    _check_numbers(alpha, ways)

    def transform(key: Array, episode: Episode) -> Episode:
        def side(key: Array, batch: Batch) -> Batch:
            order_key, key = jax.random.split(key)
            batch = _soft("mixup", batch, ways)
            order = jax.random.permutation(order_key, len(batch.targets))
            return _mixed(key, alpha, batch, jax.tree.map(lambda x: x[order], batch))

        return Episode(*map(side, jax.random.split(key), episode))

    return transform


def metamix(alpha: float, ways: int) -> Transform:
    """Mixes each query example with a support example: MetaMix, of the inputs.

      x̃_i = λ_i x_i + (1 - λ_i) x_s(i),  ỹ_i = λ_i y_i + (1 - λ_i) y_s(i)

    for each query example i, with λ_i ~ Beta(α, α), s(i) a support example drawn with
    replacement, and y one-hot. The learner adapts to the support set as it is. The
    paper mixes at a random layer of the adapted network; here that layer is always the
    input. It does nothing for a learner whose outer gradient sees no query, as
    Reptile's.

    Args:
      alpha: α, positive; 2 in the authors' code.
      ways: see `mixup`.

    Returns:
      See `mixup`; the support's targets stay as they are.

    Raises:
      InputError: for a number out of range; when it is called, for other episodes.

    >>> support = Batch(jnp.zeros((2, 1)), jnp.array([0, 1]))
    >>> query = Batch(jnp.ones((1, 1)), jnp.array([0]))
    >>> mixed = metamix(2.0, 2)(jax.random.key(0), Episode(support, query))
    >>> mixed.support.targets.shape, mixed.query.targets.shape
    ((2,), (1, 2))

    Source: Yao et al., "Improving Generalization in Meta-learning via Task
    Augmentation", ICML 2021.
    """
    _check_numbers(alpha, ways)

    def transform(key: Array, episode: Episode) -> Episode:
        choice_key, key = jax.random.split(key)
        support, query = (_soft("metamix", batch, ways) for batch in episode)
        shape, n = query.targets.shape[:1], len(support.targets)
        chosen = jax.random.randint(choice_key, shape, 0, n)
        others = jax.tree.map(lambda x: x[chosen], support)
        return episode._replace(query=_mixed(key, alpha, query, others))

    return transform


def _mixed(key: Array, alpha: float, batch: Batch, others: Batch) -> Batch:
    """λ times the examples of a batch, and 1 - λ times those of another."""
    weights = jax.random.beta(key, alpha, alpha, batch.targets.shape[:1])

    def mix(x: Array, other: Array) -> Array:
        w = weights.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return w * x + (1 - w) * other

    return jax.tree.map(mix, batch, others)


def _soft(name: str, batch: Batch, ways: int) -> Batch:
    """The batch with probabilities for targets, NaN for those of no class."""
    inputs, targets = batch
    _check_floating(name, inputs)
    _check_targets(name, targets, ways)
    p = probabilities(targets, ways, jnp.result_type(float))
    return Batch(inputs, jnp.where(jnp.sum(p, 1, keepdims=True) > 0, p, jnp.nan))


def _check_numbers(alpha: float, ways: int) -> None:
    check_count("ways", ways, least=1)
    check_positive("alpha", alpha)


def _check_floating(name: str, inputs: PyTree) -> None:
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(inputs)}
    if not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        raise InputError(
            f"{name} mixes floating-point inputs, got {', '.join(sorted(kinds))}; turn "
            "them into floats first"
        )


def _check_targets(name: str, targets: PyTree, ways: int) -> None:
    dtype, shape = form(targets)
    labels = len(shape) == 1 and jnp.issubdtype(dtype, jnp.integer)
    soft = shape[1:] == (ways,) and jnp.issubdtype(dtype, jnp.floating)
    if not labels and not soft:
        raise InputError(
            f"{name} needs labels int[n] or probabilities float[n, {ways}], got "
            f"{dtype}{list(shape)}; leave it out of "
            "regression"
        )
