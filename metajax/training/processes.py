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


class Status(IntEnum):
    """How a call in the first process ended, which it sends before the result."""

    NOTHING = 0
    RESULT = 1
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


def alike(text: str) -> bool:
    """Whether all processes give the same text; all must ask.

    Raises:
      ConnectionError: if one of them has ended.
    """
    if jax.process_count() == 1:
        return True
    own = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    return not any_says(not np.array_equal(_sent(own), own))


def from_first(call: Callable[[], PyTree | None], like: PyTree = None) -> PyTree | None:
    """What `call()` returns in the first process, sent to all; the others do not call.

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
    result, error = None, None
    if is_first():
        try:
            result = call()
        except Exception as raised:  # whatever it is, the others must not wait for ever
            error = raised
    status = Status(int(_sent(np.array(_status(result, error)))))
    if error is not None:
        raise error
    if status is Status.STOPPED:
        raise StoppedError("stopped with the first process", None)
    if status is Status.FAILED:
        raise InputError("the first process failed; what it printed says why")
    if status is Status.NOTHING:
        return None
    return _from_bytes(_sent(_as_bytes(like if result is None else result)), like)


def text_from_first(call: Callable[[], str]) -> str:
    """The text that `call()` returns in the first process, sent to all.

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
    results: list[T] = []
    from_first(lambda: results.append(call()))
    return results[0] if results else call()


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
        """The forms of a run, sent to all: those kept, or else chosen and kept now.

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

        forms = text_from_first(text)
        return Tuned.from_text(forms) if forms else None

    def restore(self, like: PyTree) -> PyTree | None:
        """Restores in the first process, and sends the state to the others."""
        state = from_first(lambda: self._checkpoints.restore(like), like)
        # On no device yet: those that wrote it may have been others.
        return jax.tree.map(jnp.asarray, jax.device_get(state))


def _status(result: PyTree | None, error: Exception | None) -> Status:
    if error is not None:
        return Status.STOPPED if isinstance(error, StoppedError) else Status.FAILED
    return Status.NOTHING if result is None else Status.RESULT


def _sent(x: np.ndarray) -> np.ndarray:
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
