"""A network that starts from parameters that were trained before."""

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.types import Array, Model, Params


def pretrained(model: Model, params: Params) -> Model:
    """`model`, whose `init` returns parameters that were trained before.

    So any learner can start from a body of `metajax pretrain`, or from yours.

    Args:
      model: the network, such as a body: put its head on after, by `metajax.headed`.
      params: its parameters.

    Returns:
      The same `Model`, whose `init` takes no notice of its key.

    Raises:
      InputError: if the structure or the shapes of the parameters are not the model's.

    >>> from metajax.models import dense, headed
    >>> body = dense(2, 3)
    >>> weights = body.init(jax.random.key(0))  # train them first
    >>> model = headed(pretrained(body, weights), dense(3, 5))
    >>> same = model.init(jax.random.key(1))["body"]
    >>> bool((same["kernel"] == weights["kernel"]).all())
    True
    """
    check_params("the pre-trained parameters", model, params)

    def init(key: Array) -> Params:
        return jax.tree.map(jnp.asarray, params)

    return model._replace(init=init, parts=None)


def check_params(name: str, model: Model, params: Params) -> None:
    """Checks that parameters have the structure and the shapes of a model's.

    Raises:
      InputError: if they have not.
    """
    expected = jax.eval_shape(model.init, jax.random.key(0))
    ours, theirs = (jax.tree.map(jnp.shape, tree) for tree in (expected, params))
    if ours != theirs:
        raise InputError(
            f"{name} must have the shapes of the model's, {ours}, got {theirs}"
        )
