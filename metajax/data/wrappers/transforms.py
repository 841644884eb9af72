"""Transforms of whole classes: other classes, and other names for them."""

from typing import Any

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.images import rotate
from metajax.data.wrappers.augmentation import Transform
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode, PyTree


def turn_classes(key: Array, episode: Episode) -> Episode:
    """Turns each class by its own random multiple of 90 degrees: new classes.

      x ← R_k(y) x,  k(y) ~ U{0, 1, 2, 3}, one k for each class y of the episode

    Support and query alike, whatever the order of the examples. It takes the place of
    `image_episodes(..., rotations=4)`: of an episode that holds a class twice, in two
    orientations, it may make the same class with two labels.

    Args:
      key: of the turns.
      episode: inputs `[n, size, size, channels]`, labels `int[n]`.

    Returns:
      The episode, turned.

    Raises:
      InputError: if the inputs are not square images, or the targets no labels.

    >>> batch = Batch(jnp.arange(4.0).reshape(1, 2, 2, 1), jnp.array([0]))
    >>> turned = turn_classes(jax.random.key(1), Episode(batch, batch))
    >>> turned.query.inputs[0, ..., 0].tolist()
    [[2.0, 0.0], [3.0, 1.0]]

    Source: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML
    2016, section 4.1, which makes new classes of Omniglot so.
    """

    def turn(batch: Batch) -> Batch:
        _check_square(batch.inputs)
        turns = _by_class("turn_classes", key, batch.targets, 4)
        return batch._replace(inputs=rotate(batch.inputs, turns))

    return Episode(*map(turn, episode))


def flip_classes(key: Array, episode: Episode) -> Episode:
    """Mirrors each class left to right, or not, at random: new classes.

    With `turn_classes` that is one of the eight symmetries of a square.

    Args:
      key: of the choices.
      episode: inputs `[n, height, width, channels]`, labels `int[n]`.

    Returns:
      The episode, mirrored.

    Raises:
      InputError: if the inputs are not images, or the targets no labels.

    >>> batch = Batch(jnp.arange(4.0).reshape(1, 2, 2, 1), jnp.array([0]))
    >>> flipped = flip_classes(jax.random.key(1), Episode(batch, batch))
    >>> flipped.query.inputs[0, ..., 0].tolist()
    [[1.0, 0.0], [3.0, 2.0]]
    """

    def flip(batch: Batch) -> Batch:
        check_images("flip_classes", batch.inputs)
        flips = _by_class("flip_classes", key, batch.targets, 2)
        images = jnp.where(flips == 1, jnp.flip(batch.inputs, 2), batch.inputs)
        return batch._replace(inputs=images)

    return Episode(*map(flip, episode))


def shuffle_support(key: Array, episode: Episode) -> Episode:
    """Puts the support set in a random order.

      S ← (S_π(1), ..., S_π(n)),  π a random permutation

    For learners that read it in its order, which samplers group by class: they would
    learn that order, and a support set of yours has another.

    Args:
      key: of the permutation.
      episode: any.

    Returns:
      The episode, its support set shuffled.

    >>> support = Batch(jnp.arange(3.0)[:, None], jnp.arange(3))
    >>> shuffled = shuffle_support(jax.random.key(1), Episode(support, support))
    >>> shuffled.support.targets.tolist(), shuffled.support.inputs[:, 0].tolist()
    ([2, 0, 1], [2.0, 0.0, 1.0])
    """
    examples = len(jax.tree.leaves(episode.support)[0])
    order = jax.random.permutation(key, examples)
    return episode._replace(support=jax.tree.map(lambda x: x[order], episode.support))


def shuffle_labels(ways: int) -> Transform:
    """Renames the classes of an episode by one random permutation, π.

      y ← π(y), in support and query

    Args:
      ways: classes an episode. A label out of range stays as it is.

    Returns:
      A transform of episodes with labels `int[n]`.

    Raises:
      InputError: if `ways` is below 1; when it is called, if the targets are no labels.

    >>> batch = Batch(jnp.zeros((3, 1)), jnp.array([0, 1, 2]))
    >>> renamed = shuffle_labels(3)(jax.random.key(0), Episode(batch, batch))
    >>> sorted(renamed.query.targets.tolist())
    [0, 1, 2]
    """
    check_count("ways", ways, least=1)

    def transform(key: Array, episode: Episode) -> Episode:
        order = jax.random.permutation(key, ways)

        def rename(batch: Batch) -> Batch:
            labels = batch.targets
            check_labels("shuffle_labels", labels)
            known = (labels >= 0) & (labels < ways)
            renamed = jnp.where(known, order[labels].astype(labels.dtype), labels)
            return batch._replace(targets=renamed)

        return Episode(*map(rename, episode))

    return transform


def _by_class(name: str, key: Array, labels: Array, choices: int) -> Array:
    """A number below `choices` for each class, `int32[n, 1, 1, 1]` by example."""
    check_labels(name, labels)

    def draw(label: Array) -> Array:
        return jax.random.randint(jax.random.fold_in(key, label), (), 0, choices)

    return jax.vmap(draw)(labels)[:, None, None, None]


def form(tree: PyTree) -> tuple[Any, tuple[int, ...]]:
    """The dtype and shape of an array; of another pytree, its type's name and ()."""
    return getattr(tree, "dtype", type(tree).__name__), getattr(tree, "shape", ())


def check_images(name: str, inputs: PyTree) -> None:
    """Checks that a transform's inputs are floating-point images.

    Raises:
      InputError: if they are not `float[n, height, width, channels]`.
    """
    dtype, shape = form(inputs)
    if len(shape) != 4 or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"{name} needs images float[n, height, width, channels], got "
            f"{dtype}{list(shape)}; leave it out, or write a "
            "transform(key, episode) -> episode for these inputs"
        )


def _check_square(inputs: PyTree) -> None:
    check_images("turn_classes", inputs)
    if inputs.shape[1] != inputs.shape[2]:
        raise InputError(
            f"turn_classes needs square images, got {inputs.shape[1]}x"
            f"{inputs.shape[2]}; flip_classes takes any"
        )


def check_labels(name: str, targets: PyTree) -> None:
    """Checks that targets are labels, for a transform that reads classes from them.

    Raises:
      InputError: if they are not.
    """
    dtype, shape = form(targets)
    if len(shape) != 1 or not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(
            f"{name} reads classes from labels int[n], got "
            f"{dtype}{list(shape)}; put it before mixup and "
            "metamix, and leave it out of regression"
        )
