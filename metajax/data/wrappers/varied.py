"""Episodes of fewer ways and shots than a sampler's, padded to its shape."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import check_unkeyed
from metajax.checks import check_count
from metajax.data.sampling import SamplerWrapper, StagedSampler
from metajax.data.staging import staged
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode, Padded, PyTree, Sampler


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Varied(SamplerWrapper):
    """The sampler that `varied` makes: `episodes(key, tasks) -> Episode`."""

    episodes: StagedSampler
    ways: tuple[int, int] = field(metadata={"static": True})
    shots: tuple[int, int] = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[PyTree, Array]:
        """Draws tasks, and a key to vary each."""
        draw_key, vary_key = jax.random.split(key)
        keys = jax.random.split(vary_key, tasks)
        return self.episodes.draw(draw_key, tasks), keys

    def make(self, fetched: tuple[PyTree, Array]) -> Episode:
        """Makes episodes whose inputs and targets are `Padded`."""
        tasks, keys = fetched
        return jax.vmap(self._vary)(keys, self.episodes.make(tasks))

    def _vary(self, key: Array, episode: Episode) -> Episode:
        check_unkeyed("varied", episode)
        ways_key, shots_key = jax.random.split(key)
        fewest, most = self.ways
        ways = jax.random.randint(ways_key, (), fewest, most + 1)
        low, high = self.shots
        shots = jax.random.randint(shots_key, (most,), low, high + 1)

        def padded(batch: Batch, first: Array | None) -> Batch:
            labels = batch.targets
            present = labels < ways
            if first is not None:
                present &= _place(labels) < first[labels]
            rows = (len(labels), most)
            allowed = jnp.broadcast_to(jnp.arange(most)[None] < ways, rows)
            inputs = jax.tree.map(lambda x: _blank(x, present), batch.inputs)
            return Batch(Padded(inputs, present), Padded(labels, present, allowed))

        return Episode(padded(episode.support, shots), padded(episode.query, None))


def varied(episodes: Sampler, ways: tuple[int, int], shots: tuple[int, int]) -> Varied:
    """Classification of a random number of ways, and of shots for each class.

    A task has W ~ U{ways} of the classes that `episodes` draws, with n_c ~ U{shots}
    support examples of class c and all of its queries. The rest is padding: every task
    has the same shape, so that one compiled step serves all. A learner's loss and
    gradient are those of the episode without the padding, its absent classes out of the
    softmax; but not of `relation`, `siamese` and `meta_opt_net`, in whose losses or
    constraints the number of ways takes part.

    Args:
      episodes: a sampler of labelled episodes of as many ways and shots as the largest
        asked for.
      ways: fewest and most classes.
      shots: fewest and most support examples a class.

    Returns:
      A sampler of `Padded` inputs and targets. `conv4`, `resnet12`, `mlp` and `dense`
      take them; a model of yours does if it tells its padding apart, or treats each
      example alone (`metajax.models.per_example`).

    Raises:
      InputError: if a range is not one, or its upper end is not what `episodes` has.

    >>> from metajax.data import glyphs
    >>> episodes = varied(glyphs(5, 3, 2), ways=(2, 5), shots=(1, 3))
    >>> support, query = episodes(jax.random.key(0), 4)
    >>> support.inputs.values.shape, support.inputs.present.sum(1).tolist()
    ((4, 15, 28, 28, 1), [3, 10, 4, 4])

    Source: Triantafillou et al., "Meta-Dataset", ICLR 2020, section 3, for tasks of
    many ways and uneven shots.
    """
    _check_range("ways", ways)
    _check_range("shots", shots)
    sampler = staged(episodes)
    batch = jax.eval_shape(sampler.make, sampler.fetched_like(1))
    support, query = (side.targets for side in batch)
    if not (_are_labels(support) and _are_labels(query)):
        raise InputError(
            "episodes must have integer labels, which mixtures and regression lack, "
            f"got {support.dtype} and {query.dtype}"
        )
    expected, count = ways[1] * shots[1], support.shape[1]
    if count != expected:
        raise InputError(
            f"the largest ways times the largest shots must be the {count} support "
            f"examples of an episode, got {ways[1]} x {shots[1]} = {expected}"
        )
    return Varied(sampler, (ways[0], ways[1]), (shots[0], shots[1]))


def _check_range(name: str, ends: tuple[int, int]) -> None:
    if not isinstance(ends, tuple | list) or len(ends) != 2:
        raise InputError(f"{name} must be (min, max), got {ends!r}")
    for end, value in zip(("min", "max"), ends):
        check_count(f"the {end} of {name}", value, least=1)
    if ends[0] > ends[1]:
        raise InputError(f"{name} must be (min, max) with min <= max, got {ends!r}")


def _are_labels(targets: jax.ShapeDtypeStruct) -> bool:
    return len(targets.shape) == 2 and jnp.issubdtype(targets.dtype, jnp.integer)


def _place(labels: Array) -> Array:
    """Of each example among those of its class."""
    same = labels[:, None] == labels[None]
    return jnp.sum(jnp.tril(same, -1), axis=1)


def _blank(x: Array, present: Array) -> Array:
    """Zeros where there is nothing."""
    return jnp.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x))
