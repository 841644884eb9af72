"""What a sampler is: tasks are drawn, fetched and made.

A sampler is called as `sampler(key, tasks)` and gives a meta-batch: any pytree of tasks
with a leading axis of `tasks` on every leaf. It has three stages,

  sampler(key, tasks) = make(fetch(draw(key, tasks)))

`draw` and `make` are traced, `fetch` runs on the host. `metajax.fit` calls `fetch`
ahead of the device, and each device makes its own tasks. A plain function of (key,
tasks) is a sampler whose tasks are made where they are drawn.
"""

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metajax._pytrees.key_data import data_to_keys, keys_to_data
from metajax.data.arrays import check_same_form, host_arrays, length
from metajax.errors import InputError
from metajax.types import Array, PyTree

FREED = (
    "what this sampler reads was freed; keep the sampler as long as one that was made "
    "of its leaves"
)


class Fetching(NamedTuple):
    """How a sampler's `fetch` may be called ahead of the device.

    Attributes:
      threads: how many calls may run at once. With 1, calls come in the order of the
        meta-steps, from one thread.
      workers: processes that call it; 0 for threads.
    """

    threads: int = 1
    workers: int = 0


class StagedSampler:
    """A sampler of three stages, for a sampler of yours to inherit.

    Override `make_task`, for tasks that are made of a key each; or `draw` and `make`;
    and `fetch`, if tasks need something of the host: files, a database, a simulator.
    It may be registered as a pytree, which makes its arrays arguments of the compiled
    program in place of constants.

    >>> import jax, numpy as np, metajax as mj
    >>> class Waves(mj.data.StagedSampler):
    ...     def draw(self, key, tasks):
    ...         return jax.random.uniform(key, (tasks, 1))
    ...     def fetch(self, drawn):  # NumPy arrays, on the host
    ...         x = np.linspace(-5, 5, 10, dtype=np.float32)
    ...         return np.sin(x + drawn)
    ...     def make_task(self, fetched):
    ...         batch = mj.Batch(fetched[:5, None], fetched[5:, None])
    ...         return mj.Episode(batch, batch)
    >>> Waves()(jax.random.key(0), 4).query.inputs.shape
    (4, 5, 1)
    """

    def draw(self, key: Array, tasks: int) -> PyTree:
        """Draws what sets the tasks apart: by default a key for each.

        Args:
          key: a PRNG key.
          tasks: how many.

        Returns:
          A pytree, small and the same on every device, with a leading axis of `tasks`.
        """
        return jax.random.split(key, tasks)

    def fetch(self, drawn: PyTree, /) -> PyTree:
        """Fetches on the host what tasks are made of: by default, what was drawn.

        Args:
          drawn: of `draw`, as NumPy arrays (keys stay keys), of any number of tasks.

        Returns:
          A pytree of arrays with the same leading axis. It must depend on `drawn`
          alone, and have the same form for all tasks.
        """
        return drawn

    def make(self, fetched: PyTree, /) -> PyTree:
        """Makes tasks of what was fetched, some of them or all."""
        # Operation by operation, a first call would compile about a hundred programs.
        make = _make_in_a_program if is_argument(self) else _make_each
        return make(self, fetched)

    def make_task(self, fetched: PyTree, /) -> PyTree:
        """Makes ONE task of what was fetched for it."""
        raise NotImplementedError(f"{type(self).__name__} needs make_task or make")

    @property
    def fetching(self) -> Fetching | None:
        """How `fetch` may be called ahead; None if it is the identity."""
        return None if type(self).fetch is StagedSampler.fetch else Fetching()

    def fetched_like(self, tasks: int) -> PyTree:
        """What `fetch` gives for so many tasks, abstract; by default fetches a task."""
        if self.fetching is None:
            return jax.eval_shape(lambda: self.draw(jax.random.key(0), tasks))

        def like(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((tasks, *x.shape[1:]), x.dtype)

        return jax.tree.map(like, self._one_fetched)

    def traced_fetch(self, drawn: PyTree) -> PyTree:
        """`fetch`; inside a traced function by a callback, as the program runs."""
        if self.fetching is None:
            return drawn
        like = self.fetched_like(length(drawn))

        def checked(drawn: PyTree) -> PyTree:
            fetched = fetch_on_host(self, drawn)
            check_same_form(fetched, like, f"fetch of {type(self).__name__}")
            return fetched

        def on_host(data: PyTree) -> PyTree:
            return keys_to_data(checked(data_to_keys(data)))

        if not any(isinstance(x, Tracer) for x in jax.tree.leaves(drawn)):
            # JAX would keep a callback, and what it reads, as long as the process.
            return jax.tree.map(jnp.asarray, checked(drawn))

        data = jax.pure_callback(
            on_host,
            jax.eval_shape(keys_to_data, like),
            keys_to_data(drawn),
            vmap_method="sequential",
        )
        return data_to_keys(data)

    def __call__(self, key: Array, tasks: int) -> PyTree:
        """A meta-batch of `tasks` tasks."""
        return self.make(self.traced_fetch(self.draw(key, tasks)))

    @cached_property
    def _one_fetched(self) -> PyTree:
        # Inside a trace this has values too, unless the sampler holds traced arrays.
        with jax.ensure_compile_time_eval():
            drawn = self.draw(jax.random.key(0), 1)
            if any(isinstance(x, Tracer) for x in jax.tree.leaves(drawn)):
                raise InputError(
                    f"{type(self).__name__} is an argument of a jitted function, and "
                    "so cannot fetch a task to learn the shapes; give it "
                    "fetched_like(tasks)"
                )
            return fetch_on_host(self, drawn)


def _make_each(sampler: StagedSampler, fetched: PyTree) -> PyTree:
    return jax.vmap(sampler.make_task)(fetched)


_make_in_a_program = jax.jit(_make_each, inline=True)


class SamplerWrapper(StagedSampler):
    """A sampler that changes the tasks of another one, for a wrapper to inherit.

    Override `draw`, which returns a pair: what the other one draws, and what the
    wrapper draws of its own, which is not fetched; and `make`, which takes a pair too.

    Attributes:
      episodes: the other sampler; `staged` makes one of any.
    """

    episodes: StagedSampler

    def fetch(self, drawn: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Fetches for the other sampler."""
        return self.episodes.fetch(drawn[0]), drawn[1]

    def traced_fetch(self, drawn: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Fetches for the other sampler."""
        return self.episodes.traced_fetch(drawn[0]), drawn[1]

    @property
    def fetching(self) -> Fetching | None:
        """As the other sampler has it."""
        return self.episodes.fetching

    def fetched_like(self, tasks: int) -> tuple[PyTree, PyTree]:
        """What the other one fetches, and what the wrapper draws."""
        _, own = jax.eval_shape(lambda: self.draw(jax.random.key(0), tasks))
        return self.episodes.fetched_like(tasks), own


def innermost(sampler: Any) -> Any:
    """The sampler inside all wrappers of a sampler."""
    while isinstance(sampler, StagedSampler) and "episodes" in vars(sampler):
        sampler = vars(sampler)["episodes"]
    return sampler


def is_argument(sampler: StagedSampler) -> bool:
    """Whether a sampler may be an argument of a compiled function.

    A function, or a static one, would be a part of the argument's type, which JAX keeps
    for as long as the process; and what is no array cannot be an argument at all.
    """
    inner = innermost(sampler)
    node = jax.tree.structure(inner).node_data()
    is_type = isinstance(inner, jax.tree_util.Partial) or (
        node is not None and node[1] is inner
    )
    leaves = jax.tree.leaves((sampler, inner))
    return not is_type and all(isinstance(x, jax.Array | np.ndarray) for x in leaves)


def fetch_on_host(sampler: StagedSampler, drawn: PyTree) -> PyTree:
    """`fetch` of NumPy arrays, and what it gives as NumPy arrays.

    Raises:
      InputError: if it gives anything else, or other than a row for each task.
    """
    if sampler.fetching is None:
        return drawn
    name = f"fetch of {type(innermost(sampler)).__name__}"
    drawn = host_arrays(drawn, f"draw of {type(innermost(sampler)).__name__}")
    fetched = host_arrays(sampler.fetch(drawn), name)
    shapes, tasks = [x.shape for x in jax.tree.leaves(fetched)], length(drawn)
    if not shapes or any(shape[:1] != (tasks,) for shape in shapes):
        raise InputError(
            f"the {name} must give arrays with a leading axis of the {tasks} tasks "
            f"drawn, got {shapes}"
        )
    return fetched
