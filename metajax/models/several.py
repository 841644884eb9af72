"""Several networks that start from one key."""

from collections.abc import Mapping, Sequence

import jax

from metajax.types import Array, Model, Params


def init_named(models: Mapping[str, Model], key: Array) -> dict[str, Params]:
    """The parameters of each network by its name, each from a key of its own.

    Args:
      models: by name; their order says which key is whose.
      key: of all.

    Returns:
      `{name: params}`.

    >>> from metajax.models import dense
    >>> list(init_named({"body": dense(2, 8), "head": dense(8, 3)}, jax.random.key(0)))
    ['body', 'head']
    """
    keys = jax.random.split(key, max(1, len(models)))
    return {name: models[name].init(k) for name, k in zip(models, keys)}


def init_each(models: Sequence[Model], key: Array) -> list[Params]:
    """The parameters of each network of a list, each from a key of its own.

    Args:
      models: the networks.
      key: of all.

    Returns:
      As many.
    """
    return list(init_named(dict(enumerate(models)), key).values())
