"""Inputs with keys, from which networks draw random numbers such as dropout's masks."""

from typing import Any, NamedTuple

import jax

from metajax.errors import InputError

PyTree = Any
# Folded into a key, these numbers separate its uses. They are large, so that no step or
# task has the same number.
OF_OUTPUTS, OF_INPUTS = 0x6F757470, 0x696E7075


class Keyed(NamedTuple):
    """Inputs with a PRNG key for each example, for networks that use random numbers.

    A network that mixes the examples of a batch uses the key of the first one. A
    network that uses no random numbers ignores them. `metajax.data.keyed` adds them to
    episodes.

    Attributes:
      values: the inputs, with leaves `[examples, ...]`, or `Padded`.
      keys: typed PRNG keys `key[examples]`; None for a pass without random numbers,
        such as a prediction.

    >>> x = jax.numpy.ones((3, 2))
    >>> Keyed(x, jax.random.split(jax.random.key(0), len(x))).keys.shape
    (3,)
    """

    values: PyTree
    keys: jax.Array | None

    @staticmethod
    def of(inputs: PyTree) -> "Keyed":
        """Checks the inputs of a network that draws, for its `apply`.

        Raises:
          InputError: if they are not `Keyed`.
        """
        if isinstance(inputs, Keyed):
            return inputs
        raise InputError(
            "the network draws random numbers (dropout) in training and adaptation, "
            "and its inputs have no keys; wrap the samplers for training and tests in "
            "metajax.data.keyed, or the inputs in metajax.Keyed(inputs, keys); "
            "Model.predict draws nothing"
        )


def is_keyed(inputs: Any) -> bool:
    """Whether inputs are `Keyed`, with keys or with None."""
    return isinstance(inputs, Keyed)


def values_of(inputs: PyTree) -> PyTree:
    """The inputs without their keys."""
    return inputs.values if isinstance(inputs, Keyed) else inputs


def undrawn(inputs: PyTree) -> Keyed:
    """The inputs for a pass that draws nothing."""
    return Keyed(values_of(inputs), None)


def with_keys(inputs: PyTree, key: jax.Array) -> Keyed:
    """The inputs with a key for each example, split from one key."""
    values = values_of(inputs)
    return Keyed(values, jax.random.split(key, len(jax.tree.leaves(values)[0])))


def keyed_as(inputs: PyTree, outputs: PyTree) -> PyTree:
    """Outputs with keys derived from those of the inputs, if the inputs have keys.

    >>> keyed_as(jax.numpy.ones(3), "features")
    'features'
    >>> keyed_as(undrawn(jax.numpy.ones(3)), "features")
    Keyed(values='features', keys=None)
    """
    if not isinstance(inputs, Keyed):
        return outputs
    if inputs.keys is None:
        return undrawn(outputs)
    return with_keys(outputs, jax.random.fold_in(inputs.keys[0], OF_OUTPUTS))


def check_unkeyed(name: str, episode: PyTree) -> None:
    """Checks that the episodes that a wrapper changes have no keys yet.

    Raises:
      InputError: if they have keys.
    """
    if any(map(is_keyed, jax.tree.leaves(episode, is_leaf=is_keyed))):
        raise InputError(
            f"{name} takes episodes without keys, got Keyed inputs; wrap it last: "
            f"metajax.data.keyed({name}(...))"
        )


def at_step(tree: PyTree, step: Any) -> PyTree:
    """A tree whose keys are derived for one step."""

    def own(node: Any) -> Any:
        if not isinstance(node, Keyed) or node.keys is None:
            return node
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return node._replace(keys=fold(node.keys, step))

    return jax.tree.map(own, tree, is_leaf=is_keyed)
