"""Inputs with keys, of which networks draw random numbers: dropout's masks."""

from typing import Any, NamedTuple

import jax

from metajax.errors import InputError

PyTree = Any
# Folded into a key, these set apart what is drawn of it: no small number, which a
# split into tasks or steps would give too.
OF_OUTPUTS, OF_INPUTS = 0x6F757470, 0x696E7075


class Keyed(NamedTuple):
    """Inputs, and a PRNG key for each example, of which a network draws.

    A network that mixes the examples of a batch draws of the first one's key. One that
    draws nothing ignores them. `metajax.data.keyed` gives them to episodes.

    Attributes:
      values: the inputs, of leaves `[examples, ...]`, or `Padded`.
      keys: typed PRNG keys `key[examples]`; None for a pass that draws nothing, as a
        prediction is.

    >>> x = jax.numpy.ones((3, 2))
    >>> Keyed(x, jax.random.split(jax.random.key(0), len(x))).keys.shape
    (3,)
    """

    values: PyTree
    keys: jax.Array | None

    @staticmethod
    def of(inputs: PyTree) -> "Keyed":
        """Returns `Keyed` inputs: for the `apply` of a network that draws.

        Raises:
          InputError: if they are of another kind.
        """
        if isinstance(inputs, Keyed):
            return inputs
        raise InputError(
            "the network draws random numbers (dropout) in a training pass, as "
            "adaptation is, and its inputs have no keys; wrap the sampler, of training "
            "and of tests, in metajax.data.keyed, or the inputs in "
            "metajax.Keyed(inputs, keys); Model.predict draws nothing"
        )


def is_keyed(inputs: Any) -> bool:
    """Whether inputs have keys, or say that nothing is to be drawn."""
    return isinstance(inputs, Keyed)


def values_of(inputs: PyTree) -> PyTree:
    """The inputs without their keys."""
    return inputs.values if isinstance(inputs, Keyed) else inputs


def undrawn(inputs: PyTree) -> Keyed:
    """The inputs, of a pass that draws nothing."""
    return Keyed(values_of(inputs), None)


def with_keys(inputs: PyTree, key: jax.Array) -> Keyed:
    """The inputs, and keys of one for each example."""
    values = values_of(inputs)
    return Keyed(values, jax.random.split(key, len(jax.tree.leaves(values)[0])))


def keyed_as(inputs: PyTree, outputs: PyTree) -> PyTree:
    """What was computed of inputs, with keys that follow from theirs, if they have any.

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
    """Checks that episodes to be changed have no keys yet.

    Raises:
      InputError: if they have.
    """
    if any(map(is_keyed, jax.tree.leaves(episode, is_leaf=is_keyed))):
        raise InputError(
            f"{name} takes episodes without keys, got Keyed inputs; wrap it last: "
            f"metajax.data.keyed({name}(...))"
        )


def at_step(tree: PyTree, step: Any) -> PyTree:
    """A tree whose keys are those of one step."""

    def own(node: Any) -> Any:
        if not isinstance(node, Keyed) or node.keys is None:
            return node
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return node._replace(keys=fold(node.keys, step))

    return jax.tree.map(own, tree, is_leaf=is_keyed)
