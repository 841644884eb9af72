"""Forms that were chosen by timing them, and how operations come to take them.

The forms are a parameter of every primitive, read from the context where an operation
is traced, as the precision of its products is. So derivatives take them too, and a
compiled program keeps the forms that it was compiled with.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from metajax.errors import InputError
from metajax.ops.forms import FORMS

BY_TABLE = "table"  # where no form was faster than the table's


class Tuned(NamedTuple):
    """The form of each operation that was timed; every other takes the table's.

    Attributes:
      forms: pairs of a `Site`'s key and the name of its form, sorted.
    """

    forms: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_forms(cls, forms: Mapping[str, str]) -> "Tuned":
        """From the names of forms, by the keys of their sites."""
        return cls(tuple(sorted(forms.items())))

    @classmethod
    def from_text(cls, text: str | bytes) -> "Tuned":
        """The inverse of `as_text`.

        Raises:
          InputError: if the text is no such JSON, or names unknown forms.
        """
        try:
            forms = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"expected forms as JSON, got {error}") from error
        known = {BY_TABLE, *(name for named in FORMS.values() for name in named)}
        if not isinstance(forms, dict) or not all(
            isinstance(form, str) and form in known for form in forms.values()
        ):
            raise InputError("expected a JSON object whose values name forms")
        return cls.from_forms(forms)

    def as_text(self) -> str:
        """As JSON.

        >>> forms = {"max_pool, ((1, 4, 4, 1),), float32": "window"}
        >>> print(Tuned.from_forms(forms).as_text())
        {
          "max_pool, ((1, 4, 4, 1),), float32": "window"
        }
        """
        return json.dumps(dict(self.forms), indent=2)

    def form(self, key: str) -> str | None:
        """The form at a site, or None for the table's."""
        form = dict(self.forms).get(key, BY_TABLE)
        return None if form == BY_TABLE else form


class Site(NamedTuple):
    """An operation in a program, and what the speed of its forms depends on.

    Attributes:
      operation: a key of `metajax.ops.forms.TABLE`.
      sizes: what the table's choice depends on; see `metajax.ops.forms.choose`.
      dtype: the type of the arrays.
      key: a text that differs from those of other sites.
    """

    operation: str
    sizes: Any
    dtype: jnp.dtype
    key: str


# `SITES[primitive](*arrays, **params)`, for each primitive whose forms can be tuned.
SITES: dict[Primitive, Callable[..., Site]] = {}

_TAKEN = jax.make_user_context(default_value=None)


def taking(tuned: Tuned | None) -> AbstractContextManager:
    """A context in which operations take tuned forms.

    A function of `jax.jit` is traced anew for other forms.

    Args:
      tuned: from `metajax.ops.tune`; None for the table's forms.

    >>> import metajax as mj
    >>> double = jax.jit(lambda x: mj.ops.max_pool(2.0 * x))
    >>> tuned = mj.ops.tune(double, jnp.ones((1, 4, 4, 1)), timer=lambda *_: 1.0)
    >>> with taking(tuned):
    ...     double(jnp.ones((1, 4, 4, 1))).shape
    (1, 2, 2, 1)
    """
    return _TAKEN(tuned)


def taken() -> Tuned | None:
    """The forms of the context where this is called; None for the table's."""
    return _TAKEN.value
