"""Several processes that train together: which one writes, and how results are shared.

After `jax.distributed.initialize`, each runs the same program, and `fit` shares every
meta-batch among the devices of all. These functions cost nothing in a single process.
"""

import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from metajax.errors import InputError, StoppedError
from metajax.ops import Tuned
from metajax.types import PyTree

T = TypeVar("T")


class Status(IntEnum):
    """How a call in the first process ended; it is sent before the result."""

    NOTHING = 0
    RESULT = 1
    STOPPED = 2
    FAILED = 3


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def any_says(flag: bool) -> bool:
    """Whether `flag` is true in any process; every process must call it.

    Raises:
      ConnectionError: if a process has ended.
    """
    if jax.process_count() == 1:
        return flag
    return bool(np.any(_together(multihost_utils.process_allgather, np.array(flag))))


def alike(text: str) -> bool:
    """Whether all processes pass the same text; every process must call it.

    Raises:
      ConnectionError: if a process has ended.
    """
    if jax.process_count() == 1:
        return True
    own = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    return not any_says(not np.array_equal(_sent(own), own))


def from_first(call: Callable[[], PyTree | None], like: PyTree = None) -> PyTree | None:
    """Sends to all processes what `call()` returns in the first, which alone calls it.

    Args:
      call: returns None, or arrays of the shapes and dtypes of `like`.
      like: a pytree of arrays.

    Returns:
      The result, bit for bit the same in every process.

    Raises:
      InputError: in the others, if the call raised an error, which the first raises.
      StoppedError: in all, if the call raised it.
      ConnectionError: if a process has ended.

    >>> from_first(lambda: np.arange(3), np.zeros(3, int)).tolist()
    [0, 1, 2]
    """
    if jax.process_count() == 1:
        return call()
    # The first exchange opens connections, and fails after half a minute; open ones
    # wait however long the call takes.
    any_says(False)
    result, error = None, None
    if is_first():
        try:
            result = call()
        except Exception as raised:  # the others must learn of it, or wait for ever
            error = raised
    status = Status(int(_sent(np.array(_status(result, error)))))
    if error is not None:
        raise error
    if status is Status.STOPPED:
        raise StoppedError("stopped with the first process", None)
    if status is Status.FAILED:
        raise InputError("the first process failed; see its output")
    if status is Status.NOTHING:
        return None
    return _from_bytes(_sent(_as_bytes(result, like)), like)


def text_from_first(call: Callable[[], str]) -> str:
    """`from_first` for a call that returns text.

    Args:
      call: returns the text; only the first process calls it.

    Returns:
      The text, in every process.

    Raises:
      InputError: see `from_first`.

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
    """Runs `call()` in the first process, and then in all others at the same time.

    Raises:
      InputError: in the others, if the call raised an error in the first.
    """
    results: list[T] = []
    from_first(lambda: results.append(call()))
    return results[0] if results else call()


def placed_as(tree: PyTree, like: PyTree) -> PyTree:
    """Places arrays as those of `like` lie: on the host, or over devices, or on one."""

    def placed(x: np.ndarray, like: Any) -> Any:
        if isinstance(like, np.ndarray):
            return np.asarray(x)
        over = getattr(like, "sharding", None)
        return place(x, over) if isinstance(over, NamedSharding) else jnp.asarray(x)

    return jax.tree.map(placed, tree, like)


def on_host(tree: PyTree) -> PyTree:
    """Copies arrays to the host, whole; every process must call it."""

    def copied(x: jax.Array) -> np.ndarray:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            whole = x.is_fully_replicated
            return np.array(x if whole else multihost_utils.process_allgather(x, True))
        return np.array(x)

    return jax.tree.map(copied, tree)


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Places arrays, which are the same in every process, by the shardings."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_placed, tree, shardings)


class FirstWrites:
    """Checkpoints that only the first process reads and writes.

    Args:
      checkpoints: the checkpoints that `fit` takes; the other processes ignore theirs.
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
        """The iterator's position at a step, or None if it was not saved.

        It is None in the other processes, since an iterable feeds one process only.
        """
        if not is_first():
            return None
        saved = getattr(self._checkpoints, "position", lambda step: None)
        return saved(step)

    def forms(self, choose: Callable[[], Tuned] | None) -> Tuned | None:
        """The saved forms of a run, in all processes; new ones are chosen and saved.

        Args:
          choose: chooses them in the first process; None to take the table's.

        Returns:
          The forms, or None for the table's.

        Raises:
          InputError: if `choose` is given and the checkpoints cannot save forms.
        """
        if choose is not None and not hasattr(self._checkpoints, "keep_forms"):
            raise InputError(
                "tuned forms are saved with the checkpoints, which need the methods "
                "forms and keep_forms; use metajax.Checkpoints"
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
        asked = jax.tree.map(_as_host, like)
        state = from_first(lambda: self._checkpoints.restore(asked), asked)
        # The saved devices may not be those of this run, so it comes from the host.
        return None if state is None else placed_as(jax.device_get(state), like)


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
            f"another process failed or cannot be reached ({first}); see its output"
        ) from error


def _as_bytes(tree: PyTree | None, like: PyTree) -> np.ndarray:
    """The bytes of all leaves; broadcasts are sums, which lose the sign of zero."""
    if tree is None:  # `like` may lie over the devices of several processes
        sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(like)]
        return np.zeros(sum(sizes), np.uint8)
    content = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))
    return np.frombuffer(content, np.uint8)


def _from_bytes(content: np.ndarray, like: PyTree) -> PyTree:
    leaves, form = jax.tree.flatten(like)
    ends = np.cumsum([x.size * x.dtype.itemsize for x in leaves])
    parts = np.split(np.asarray(content), ends[:-1])
    return form.unflatten(
        part.view(x.dtype).reshape(x.shape) for part, x in zip(parts, leaves)
    )


def _as_host(x: Any) -> Any:
    """Stands for an array of the host in a request; keys can only be refused."""
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key else np.zeros(x.shape, x.dtype)


def _placed(x: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)  # already over all processes
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    values = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: values[part])
