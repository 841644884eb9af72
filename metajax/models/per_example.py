"""A model that computes each example independently of the others."""

from metajax._pytrees.keyed import is_keyed
from metajax.types import Model, Params, PyTree, unpadded


def per_example(model: Model) -> Model:
    """`model` for `Padded` inputs too, if it computes each example independently.

    Args:
      model: a network without batch norm, or any other layer that mixes examples.

    Returns:
      A `Model` that takes inputs with or without padding.

    >>> import jax, jax.numpy as jnp
    >>> from metajax.types import Padded
    >>> scale = per_example(Model(lambda key: jnp.ones(()), lambda w, x: w * x))
    >>> inputs = Padded(jnp.ones((2, 1)), jnp.array([True, False]))
    >>> scale.apply(scale.init(jax.random.key(0)), inputs).shape
    (2, 1)
    """

    def apply(params: Params, inputs: PyTree) -> PyTree:
        return model.apply(params, _plain(inputs))

    def inference(params: Params, inputs: PyTree) -> PyTree:
        return model.predict(params, _plain(inputs))

    parts = model.parts and (per_example(model.parts[0]), per_example(model.parts[1]))
    return model._replace(
        apply=apply, parts=parts, inference=model.inference and inference
    )


def _plain(inputs: PyTree) -> PyTree:
    """The values of `Padded` inputs, with the keys of `Keyed` ones."""
    values = unpadded(inputs)[0]
    return inputs._replace(values=values) if is_keyed(inputs) else values
