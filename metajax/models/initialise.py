"""The initial parameters of several networks, from one key."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from metajax.types import Array, Params


def init_named(models: Mapping[str, Any], key: Array) -> dict[str, Params]:
    """The parameters of each network by its name.

    Args:
      models: by name, anything with an `init(key)`; each gets a key by its place.
      key: the key that theirs are split from.

    Returns:
      `{name: params}`.

    >>> from metajax.models import dense
    >>> list(init_named({"body": dense(2, 8), "head": dense(8, 3)}, jax.random.key(0)))
    ['body', 'head']
    """
    return dict(zip(models, init_each(list(models.values()), key)))


def init_each(models: Sequence[Any], key: Array) -> list[Params]:
    """The parameters of each network of a list.

    Args:
      models: anything with an `init(key)`; each gets a key by its place.
      key: the key that theirs are split from.

    Returns:
      `[params]`, in the order of the networks.
    """
    keys = jax.random.split(key, max(1, len(models)))
    return [model.init(k) for model, k in zip(models, keys)]
