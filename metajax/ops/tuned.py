"""Forms that were chosen by timing them, and how operations come to take them.

They are a parameter of every primitive, read from the context where an operation is
traced, as the precision of its products is. So derivatives take them too, and a
compiled program is of the forms that it was made with.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from metajax.errors import InputError
from metajax.ops.forms import KNOWN

BY_TABLE = "table"  # where no form was faster than the table's


class Tuned(NamedTuple):
    """The form of each operation that was timed; every other takes the table's.

    Attributes:
      forms: the key of a `Site` and the name of its form, in order.
    """

    forms: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, forms: Mapping[str, str]) -> "Tuned":
        """Of names of forms by the keys of their sites."""
        return cls(tuple(sorted(forms.items())))

    @classmethod
    def from_text(cls, text: str | bytes) -> "Tuned":
        """The inverse of `as_text`.

        Raises:
          InputError: if the text is not of that form, or names unknown forms.
        """
        try:
            forms = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"expected forms as JSON, got {error}") from error
        if not isinstance(forms, dict) or not all(
            isinstance(form, str) and form in KNOWN | {BY_TABLE}
            for form in forms.values()
        ):
            raise InputError("expected an object of the names of forms, got another")
        return cls.of(forms)

    def as_text(self) -> str:
        """As JSON.

        >>> print(Tuned.of({"max_pool, ((1, 4, 4, 1),), float32": "window"}).as_text())
        {
          "max_pool, ((1, 4, 4, 1),), float32": "window"
        }
        """
        return json.dumps(dict(self.forms), indent=2)

    def form(self, key: str) -> str | None:
        """The form of a site, or None for the table's."""
        form = dict(self.forms).get(key, BY_TABLE)
        return None if form == BY_TABLE else form


class Site(NamedTuple):
    """An operation in a program, and what the speed of its forms depends on.

    Attributes:
      operation: a key of `metajax.ops.forms.TABLE`.
      of: what the table's choice depends on; see `metajax.ops.forms.choose`.
      dtype: of the arrays.
      key: a text that tells it from other sites.
    """

    operation: str
    of: Any
    dtype: jnp.dtype
    key: str


# `SITES[primitive](*arrays, **params)`, of the primitives whose forms can be tuned.
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
