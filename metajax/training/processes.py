"""Several processes that train as one: who writes, and what all must agree on.

`jax.distributed.initialize` makes them one. Each then runs the same program, and `fit`
shares every meta-batch among the devices of all. In one process this costs nothing.
"""

import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from metajax.errors import InputError, StoppedError
from metajax.ops import Tuned
from metajax.types import PyTree

T = TypeVar("T")


class Told(IntEnum):
    """What the first process says before what it found."""

    NOTHING = 0
    FOUND = 1
    STOPPED = 2
    FAILED = 3


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def any_says(flag: bool) -> bool:
    """Whether `flag` is true in any process; all must ask.

    Raises:
      ConnectionError: if one of them has ended.
    """
    if jax.process_count() == 1:
        return flag
    return bool(np.any(_together(multihost_utils.process_allgather, np.array(flag))))


def alike(told: str) -> bool:
    """Whether all processes give the same text; all must ask.

    Raises:
      ConnectionError: if one of them has ended.
    """
    if jax.process_count() == 1:
        return True
    own = np.frombuffer(hashlib.sha256(told.encode()).digest(), np.uint8)
    return not any_says(not np.array_equal(_told(own), own))


def from_first(call: Callable[[], PyTree | None], like: PyTree = None) -> PyTree | None:
    """What `call()` returns in the first process, told to all; the others do not call.

    Args:
      call: returns None, or arrays of the shapes and dtypes of `like`.
      like: a pytree of arrays.

    Returns:
      The same in every process, bit for bit.

    Raises:
      InputError: in the others, if the call raised in the first; there, its own error.
      StoppedError: in all, if the call raised it in the first.
      ConnectionError: if one of them has ended.

    >>> from_first(lambda: np.arange(3), np.zeros(3, int)).tolist()
    [0, 1, 2]
    """
    if jax.process_count() == 1:
        return call()
    # Connections are opened by what all do first, and within half a minute or not at
    # all; open ones wait as long as the call takes.
    any_says(False)
    found, error = None, None
    if is_first():
        try:
            found = call()
        except Exception as raised:  # whatever it is, the others must not wait for ever
            error = raised
    status = Told(int(_told(np.array(_status(found, error)))))
    if error is not None:
        raise error
    if status is Told.STOPPED:
        raise StoppedError("stopped with the first process", None)
    if status is Told.FAILED:
        raise InputError("the first process failed; what it printed says why")
    if status is Told.NOTHING:
        return None
    return _from_bytes(_told(_as_bytes(like if found is None else found)), like)


def text_from_first(call: Callable[[], str]) -> str:
    """The text that `call()` returns in the first process, told to all.

    Args:
      call: called in the first process alone.

    Raises:
      InputError: see `from_first`, as for other errors.

    >>> text_from_first(lambda: "lax")
    'lax'
    """
    if jax.process_count() == 1:
        return call()
    texts: list[bytes] = []

    def length() -> np.ndarray:
        texts.append(call().encode())
        return np.array(len(texts[0]))

    size = from_first(length, np.array(0))
    like = np.zeros(int(np.asarray(size)), np.uint8)
    content = from_first(lambda: np.frombuffer(texts[0], np.uint8), like)
    return np.asarray(content).tobytes().decode()


def in_turn(call: Callable[[], T]) -> T:
    """`call()` in the first process, and then in the others together.

    So the first prepares what all then read.

    Raises:
      InputError: in the others, if the call raised in the first.
    """
    found: list[T] = []
    from_first(lambda: found.append(call()))
    return found[0] if found else call()


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Puts arrays, the same in every process, where a program of all wants them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_placed, tree, shardings)


class FirstWrites:
    """Checkpoints that only the first process reads and writes.

    Args:
      checkpoints: what `fit` takes; those of the other processes are not asked.
    """

    def __init__(self, checkpoints: Any):
        self._checkpoints = checkpoints

    def save(self, state: PyTree, position: str | None = None) -> None:
        """Saves in the first process; the others do not wait."""
        if not is_first():
            return
        if position is None or not hasattr(self._checkpoints, "position"):
            self._checkpoints.save(state)
        else:
            self._checkpoints.save(state, position)

    def position(self, step: int) -> str | None:
        """Of the iterator, if it was saved with the state of a step; in the first.

        The others' data has no position: no iterable feeds more than one process.
        """
        if not is_first():
            return None
        saved = getattr(self._checkpoints, "position", lambda step: None)
        return saved(step)

    def forms(self, choose: Callable[[], Tuned] | None) -> Tuned | None:
        """The forms of a run, told to all: those kept, or else chosen and kept now.

        Args:
          choose: called in the first process if there are none; None for the table's.

        Returns:
          The forms, or None for the table's.

        Raises:
          InputError: if forms are to be chosen, and the checkpoints cannot keep them.
        """
        if choose is not None and not hasattr(self._checkpoints, "keep_forms"):
            raise InputError(
                "a run of tuned forms keeps them with its checkpoints, which need the "
                "methods forms and keep_forms; take metajax.Checkpoints"
            )

        def text() -> str:
            kept = getattr(self._checkpoints, "forms", lambda: None)()
            if kept is None and choose is not None:
                kept = choose()
                self._checkpoints.keep_forms(kept)
            return "" if kept is None else kept.as_text()

        told = text_from_first(text)
        return Tuned.from_text(told) if told else None

    def restore(self, like: PyTree) -> PyTree | None:
        """Restores in the first process, and tells the others."""
        found = from_first(lambda: self._checkpoints.restore(like), like)
        # On no device yet: those that wrote it may have been others.
        return jax.tree.map(jnp.asarray, jax.device_get(found))


def _status(found: PyTree | None, error: Exception | None) -> Told:
    if error is not None:
        return Told.STOPPED if isinstance(error, StoppedError) else Told.FAILED
    return Told.NOTHING if found is None else Told.FOUND


def _told(x: np.ndarray) -> np.ndarray:
    return _together(multihost_utils.broadcast_one_to_all, x)


def _together(call: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    try:
        return call(x)
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ConnectionError(
            f"another process failed, or is out of reach ({first}); what it printed "
            "says why"
        ) from error


def _as_bytes(tree: PyTree) -> np.ndarray:
    """As they are: sums, by which arrays travel, would lose the sign of zero."""
    whole = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))
    return np.frombuffer(whole, np.uint8)


def _from_bytes(whole: np.ndarray, like: PyTree) -> PyTree:
    leaves, form = jax.tree.flatten(like)
    ends = np.cumsum([x.size * x.dtype.itemsize for x in leaves])
    parts = np.split(np.asarray(whole), ends[:-1])
    return form.unflatten(
        part.view(x.dtype).reshape(x.shape) for part, x in zip(parts, leaves)
    )


def _placed(x: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    values = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: values[part])
