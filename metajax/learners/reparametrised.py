"""A learner of other meta-parameters than its own."""

from collections.abc import Callable

from metajax.types import Array, Learner, Metrics, PyTree


def reparametrised(
    learner: Learner,
    init: Callable[[Array], PyTree],
    expand: Callable[[PyTree], PyTree],
) -> Learner:
    """A learner whose meta-parameters are a function g of others.

      adapt'(φ, S) = adapt(g(φ), S),   L'(φ, T) = L(g(φ), T)

    With a g that adds constants, a part of the learner is never meta-trained.

    Args:
      learner: the learner.
      init: `init(key) -> φ`, the start of the others.
      expand: g, from them to the learner's meta-parameters.

    Returns:
      A `Learner` of φ, which adapts to what the learner does, and predicts alike.

    >>> import jax, metajax as mj
    >>> body, _ = mj.mlp(2, (4,), 3).parts
    >>> fixed = lambda meta: {"body": meta, "scale": jax.numpy.ones(())}
    >>> learner = reparametrised(mj.meta_baseline(body, 3), body.init, fixed)
    >>> jax.eval_shape(learner.init, jax.random.key(0))[0]["kernel"].shape
    (2, 4)
    """

    def adapt(meta: PyTree, support: PyTree) -> PyTree:
        return learner.adapt(expand(meta), support)

    def loss(meta: PyTree, task: PyTree) -> tuple[Array, Metrics]:
        return learner.loss(expand(meta), task)

    def trajectory(meta: PyTree, support: PyTree) -> PyTree:
        return learner.trajectory(expand(meta), support)

    def collect(meta: PyTree, task: PyTree) -> PyTree:
        return learner.collect(expand(meta), task)

    return Learner(init, adapt, learner.predict, loss, trajectory, collect)
