"""Forms that were chosen by timing them, and how operations take them.

The forms are a parameter of every primitive. They are read from the context in which an
operation is traced, like the precision of its products. So derivatives take them too,
and a compiled program keeps its forms.
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

BY_TABLE = "table"  # no form was faster than the table's


class Tuned(NamedTuple):
    """The form of each operation that was timed; others take the table's form.

    Attributes:
      forms: pairs of a `Site`'s key and the name of its form, sorted.
    """

    forms: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_forms(cls, forms: Mapping[str, str]) -> "Tuned":
        """Builds it from the names of forms by the keys of their sites."""
        return cls(tuple(sorted(forms.items())))

    @classmethod
    def from_text(cls, text: str | bytes) -> "Tuned":
        """The inverse of `as_text`.

        Raises:
          InputError: if the text is not such JSON, or names unknown forms.
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
        """Converts it to JSON.

        >>> forms = {"max_pool, ((1, 4, 4, 1),), float32": "window"}
        >>> print(Tuned.from_forms(forms).as_text())
        {
          "max_pool, ((1, 4, 4, 1),), float32": "window"
        }
        """
        return json.dumps(dict(self.forms), indent=2)

    def form(self, key: str) -> str | None:
        """The form at the site with a key, or None for the table's."""
        form = dict(self.forms).get(key, BY_TABLE)
        return None if form == BY_TABLE else form


class Site(NamedTuple):
    """An operation in a program, with all that the speed of its forms depends on.

    Attributes:
      operation: a key of `metajax.ops.forms.TABLE`.
      sizes: see `metajax.ops.forms.choose`.
      dtype: the dtype of the arrays.
      key: a text that identifies the site.
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

    `jax.jit` traces a function anew for other forms.

    Args:
      tuned: the result of `metajax.ops.tune`; None for the table's forms.

    Returns:
      A context manager.

    >>> import metajax as mj
    >>> double = jax.jit(lambda x: mj.ops.max_pool(2.0 * x))
    >>> tuned = mj.ops.tune(double, jnp.ones((1, 4, 4, 1)), timer=lambda *_: 1.0)
    >>> with taking(tuned):
    ...     double(jnp.ones((1, 4, 4, 1))).shape
    (1, 2, 2, 1)
    """
    return _TAKEN(tuned)


def taken() -> Tuned | None:
    """The forms of the current context; None for the table's."""
    return _TAKEN.value
