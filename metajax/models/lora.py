"""Low-rank adaptation of a network whose own parameters stay as they are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import Constant, is_constant
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.types import Array, Model, Params, PyTree, keep


def every_kernel(path: str) -> bool:
    """True of the kernels of all layers."""
    return path.endswith("['kernel']")


def lora(model: Model, rank: int, where: Callable[[str], bool] = every_kernel) -> Model:
    """Adds a product of two thin matrices to kernels, and learns nothing else.

      W' = W + A B,  A of [inputs, rank],  B of [rank, outputs]

    B starts at zero, so that the network starts as it was. A convolution's kernel
    counts as a matrix of [height * width * channels, features]. W' is computed for each
    set of A and B, so that tasks with their own take a network's memory each.

    Args:
      model: the network; what its `init` returns is the frozen base, such as the file's
        weights of `metajax.models.load_backbone`.
      rank: of the product.
      where: `where(path) -> bool`, which arrays change, by their paths as
        `jax.tree_util.keystr` writes them: `lambda path: "['qkv']['kernel']" in path`.
        All kernels by default.

    Returns:
      A `Model` whose parameters are `{"base": ..., "down": A, "up": B}`, trees of one
      form: the base's arrays are `metajax.Constant`s, and A and B are None where
      nothing changes.

    Raises:
      InputError: for a rank below 1; from `init`, if no array, or one of fewer than two
        axes, is chosen.

    >>> from metajax.models import dense
    >>> model = lora(dense(3, 5), rank=2)
    >>> params = model.init(jax.random.key(0))
    >>> params["down"]["kernel"].shape, params["up"]["kernel"].shape
    ((3, 2), (2, 5))

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """
    check_count("rank", rank, least=1)

    def init(key: Array) -> Params:
        first, key = jax.random.split(key)
        # A constant of the model's own is one within a constant.
        base = jax.tree.map(Constant, model.init(first), is_leaf=is_constant)
        down, up = _factors(base, rank, where, key)
        return {"base": base, "down": down, "up": up}

    def apply(params: Params, inputs: PyTree) -> PyTree:
        return model.forward(_adapted(params), inputs)

    def inference(params: Params, inputs: PyTree) -> PyTree:
        return model.predict(_adapted(params), inputs)

    if model.settle is not keep:
        raise InputError(
            "lora needs a network whose parameters do not settle on a support set; "
            "build it with another norm"
        )
    return Model(init, apply, inference=model.inference and inference)


def _factors(
    base: Params, rank: int, where: Callable[[str], bool], key: Array
) -> tuple[Params, Params]:
    """A and B for each array that is chosen; None for others."""
    leaves, tree = jax.tree.flatten_with_path(base, is_leaf=is_constant)
    chosen = [where(jax.tree_util.keystr(path)) for path, _ in leaves]
    if not any(chosen):
        paths = ", ".join(jax.tree_util.keystr(path) for path, _ in leaves[:5])
        raise InputError(f"lora: where chose no array; their paths are {paths}, ...")
    keys = jax.random.split(key, len(leaves))
    pairs = [
        _pair(k, path, leaf.value, rank) if take else (None, None)
        for k, (path, leaf), take in zip(keys, leaves, chosen)
    ]
    down, up = zip(*pairs)
    return tree.unflatten(down), tree.unflatten(up)


def _pair(key: Array, path: tuple, array: Array, rank: int) -> tuple[Array, Array]:
    if is_constant(array) or array.ndim < 2:
        raise InputError(
            "lora changes learnt arrays of at least two axes, and "
            f"{jax.tree_util.keystr(path)} is none; leave it out by where"
        )
    inputs, outputs = array.size // array.shape[-1], array.shape[-1]
    a = jax.random.normal(key, (inputs, rank), array.dtype) / inputs**0.5
    return a, jnp.zeros((rank, outputs), array.dtype)


def _adapted(params: Params) -> Params:
    """The parameters W + A B."""

    def added(constant: Constant, a: Array | None, b: Array | None) -> PyTree:
        if a is None or b is None:
            return constant.value
        return constant.value + jnp.matmul(a, b).reshape(constant.value.shape)

    return jax.tree.map(
        added, params["base"], params["down"], params["up"], is_leaf=is_constant
    )
