"""Episodes of which some support examples have no label."""

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.wrappers.augmentation import Transform
from metajax.data.wrappers.transforms import check_labels
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode


def hide_labels(ways: int, labelled: int, *, distractors: int = 0) -> Transform:
    """Leaves the labels of the first few support examples of each class.

      y_i ← e_{y_i} if fewer than `labelled` of its class come before it, else 0

    The targets of the support set become probabilities, and zeros where there is no
    label, as `metajax.prototypical(..., refinements=1)` takes them. With distractors,
    the episodes come from a sampler of `ways + distractors` classes: of the last ones
    no support example has a label, and no query is asked.

    Args:
      ways: the number of classes to tell apart.
      labelled: support examples a class that keep their label; the rest of the shots
        are unlabelled.
      distractors: the number of classes that are not to be told apart.

    Returns:
      A transform of episodes with labels `int[n]`, for `metajax.data.augmented`.

    Raises:
      InputError: if a number is out of range; when it is called, if the targets are no
        labels, or there are not as many queries of each class.

    >>> batch = Batch(jnp.zeros((6, 1)), jnp.array([0, 0, 1, 1, 2, 2]))
    >>> changed = hide_labels(2, 1, distractors=1)(None, Episode(batch, batch))
    >>> changed.support.targets.tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    >>> changed.query.targets.tolist()
    [0, 0, 1, 1]

    Source: Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification",
    ICLR 2018, section 3.
    """
    check_count("ways", ways, least=1)
    check_count("labelled", labelled, least=1)
    check_count("distractors", distractors, least=0)

    def transform(key: Array | None, episode: Episode) -> Episode:
        del key  # it draws nothing
        for batch in episode:
            check_labels("hide_labels", batch.targets)
        return Episode(_hidden(episode.support), _asked(episode.query))

    def _hidden(support: Batch) -> Batch:
        classes = jax.nn.one_hot(support.targets, ways, dtype=jnp.float32)
        first = (jnp.cumsum(classes, 0) <= labelled).astype(classes.dtype)
        return support._replace(targets=classes * first)

    def _asked(query: Batch) -> Batch:
        classes = ways + distractors
        each, left = divmod(len(query.targets), classes)
        if left:
            raise InputError(
                f"hide_labels expected as many queries of each of {classes} classes, "
                f"got {len(query.targets)}; draw episodes of ways + distractors classes"
            )
        rows = jnp.argsort(query.targets, stable=True)[: ways * each]
        return jax.tree.map(lambda x: x[jnp.sort(rows)], query)

    return transform
