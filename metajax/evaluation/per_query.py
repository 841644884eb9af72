"""Predicting each query independently of the others."""

import jax
import jax.numpy as jnp

from metajax.types import Array, Batch, Learner, Padded, PyTree, unpadded


def per_query(learner: Learner, *, at_a_time: int | None = None) -> Learner:
    """A learner that predicts each query independently of the others.

      predict({φ, X}, x_i) = learner.predict(φ, [X, x_i])[-1],   X the support inputs

    Networks that mix the examples of a batch, by batch norm or attention, predict a
    query differently if the batch has other queries. For networks that do not mix them,
    or that settle on the support set, predictions are the same without this, and
    cheaper: here, each query costs a pass over the support set. If queries differ in
    size from the support inputs, X is left out, and a network that mixes examples sees
    only the query.

    Args:
      learner: the learner. Its loss stays as it is.
      at_a_time: the number of queries that are predicted at a time; all by default.

    Returns:
      A `Learner`; what it adapts to is `{"adapted": φ, "support": X}`.

    >>> import metajax as mj
    >>> learner = mj.prototypical(mj.mlp(2, (4,), 1).parts[0], ways=2)
    >>> points = jax.random.normal(jax.random.key(0), (5, 2))
    >>> alone, meta = per_query(learner), learner.init(jax.random.key(1))
    >>> taught = alone.adapt(meta, Batch(points[:2], jnp.array([0, 1])))
    >>> one, more = (alone.predict(taught, points[2:n]) for n in (3, 5))
    >>> bool(jnp.allclose(one, more[:1]))
    True

    Source: Nichol et al., "On First-Order Meta-Learning Algorithms", 2018, section 6.1.
    """

    def adapt(meta: PyTree, support: Batch) -> dict[str, PyTree]:
        return {"adapted": learner.adapt(meta, support), "support": support.inputs}

    def trajectory(meta: PyTree, support: Batch) -> dict[str, PyTree]:
        path = learner.trajectory(meta, support)
        steps = len(jax.tree.leaves(path)[0])
        inputs = jax.tree.map(
            lambda x: jnp.broadcast_to(x[None], (steps, *x.shape)), support.inputs
        )
        return {"adapted": path, "support": inputs}

    def predict(taught: dict[str, PyTree], queries: PyTree) -> PyTree:
        def one(query: PyTree) -> PyTree:
            inputs = _joined(taught["support"], query)
            outputs = learner.predict(taught["adapted"], inputs)
            return jax.tree.map(lambda y: y[-1], outputs)

        if at_a_time is None:
            return jax.vmap(one)(queries)
        return jax.lax.map(one, queries, batch_size=at_a_time)

    return learner._replace(adapt=adapt, trajectory=trajectory, predict=predict)


def _joined(support: PyTree, query: PyTree) -> PyTree:
    """The support inputs and one query, or the query alone where sizes differ."""
    last = jax.tree.map(lambda x: x[None], query)
    (first, some), (one, there) = unpadded(support), unpadded(last)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(one), strict=True)
    if any(s.shape[1:] != q.shape[1:] for s, q in pairs):
        return last
    values = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), first, one)
    if some is None and there is None:
        return values
    sides = ((first, some), (one, there))
    return Padded(values, jnp.concatenate([_present(*side) for side in sides]))


def _present(values: PyTree, present: Array | None) -> Array:
    """Which examples are present, all if none is padding."""
    if present is not None:
        return present
    return jnp.ones(len(jax.tree.leaves(values)[0]), bool)
