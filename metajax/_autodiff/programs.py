"""A digest of a traced function, which tells whether two compute the same."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal


def program_digest(closed: ClosedJaxpr) -> str:
    """The SHA-256 of what a traced function computes, the same in every process.

    Args:
      closed: a traced function, such as `jax.make_jaxpr` returns.

    Returns:
      The digest in hexadecimal.

    >>> one, other = (jax.make_jaxpr(lambda x: x * rate)(1.0) for rate in (0.5, 0.25))
    >>> program_digest(one) == program_digest(other)
    False
    """
    hashed = hashlib.sha256(program_text(closed).encode())
    for constant in program_constants(closed):
        hashed.update(b"\n" + constant_bytes(constant))
    return hashed.hexdigest()


def program_text(closed: ClosedJaxpr) -> str:
    """The operations as text, without addresses in memory."""
    return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))


def program_constants(closed: ClosedJaxpr) -> list[Any]:
    """All constants, at any depth."""
    return [*closed.consts, *_constants_in(closed.jaxpr)]


def constant_bytes(x: Any) -> bytes:
    """The bytes of a constant, with its dtype and shape."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    x = np.asarray(x)
    return f"{x.dtype}{x.shape}".encode() + x.tobytes()


def _constants_in(jaxpr: Any) -> Iterator[Any]:
    yield from (x.val for x in jaxpr.outvars if isinstance(x, Literal))
    for equation in jaxpr.eqns:
        yield from (x.val for x in equation.invars if isinstance(x, Literal))
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
        ):
            if hasattr(inner := getattr(value, "jaxpr", value), "eqns"):
                yield from getattr(value, "consts", ())
                yield from _constants_in(inner)
