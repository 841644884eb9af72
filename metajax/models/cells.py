"""Networks of cells whose operations are searched, or are given."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.blocks import check_images, map_shape
from metajax.models.cell import Cell, cell_output, init_cell
from metajax.models.cell_operations import normed
from metajax.models.convolved import HE
from metajax.models.dense import Head, linear_head
from metajax.models.genotype import KINDS, CellKind, CellSpace, Genotype
from metajax.models.headed import headed
from metajax.models.resnet12 import Readout
from metajax.ops import conv2d
from metajax.types import Array, Model, Params, PyTree, keep, unpadded

LAYERS: tuple[CellKind, ...] = ("normal", "reduction", "normal", "reduction")


class Plan(NamedTuple):
    """The cells of a network, one after the other, and the shape of its last maps."""

    cells: tuple[Cell, ...]
    maps: tuple[int, int, int]


def cells(
    outputs: int,
    space: CellSpace | Genotype | None = None,
    layers: Sequence[CellKind] = LAYERS,
    channels: int = 16,
    *,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    stride: int = 1,
    pool: Readout = "mean",
    head: Head = "zero",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Cells of nodes, each the sum of operations on the states before it; a head.

      x_j = Σ_{i<j} Σ_o softmax(α_ij)_o o(x_i)

    States 0 and 1 are the outputs of the two cells before, taken to `channels` by 1x1
    convolutions, and a cell returns its nodes, concatenated. All cells of a kind share
    their α, and have their own weights. Batch norm has no scale and no offset, which
    would make up for a small softmax; pooling is normalised too.

    Args:
      outputs: the number of outputs.
      space: nodes and operations to search, `CellSpace()` by default; or a `Genotype`,
        whose edges are one operation each, without α.
      layers: the kind of each cell. Reductions halve the maps and double the channels.
      channels: of the first convolution, which is 3x3, and of the first nodes.
      image_shape: (height, width, channels).
      stride: of the first convolution.
      pool: what the body returns of the last maps: "mean", their averages; "flat", the
        maps.
      head: where the linear head's kernel starts; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, height, width, channels]` to logits
      `[n, outputs]`. `alphas` of its body's parameters is `{"normal": float[edges,
      operations], "reduction": ...}`, in the order of `space.edges`.

    Raises:
      InputError: for a number below 1, no layer, or an unknown kind, `pool` or `head`.

    >>> model = cells(5, CellSpace(2), channels=4)
    >>> params = jax.eval_shape(model.init, jax.random.key(0))
    >>> jax.eval_shape(model.apply, params, jnp.zeros((3, 28, 28, 1))).shape
    (3, 5)
    >>> params["body"]["alphas"]["normal"].shape
    (5, 8)

    Source: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019.
    """
    check_count("outputs", outputs, least=1)
    check_one_of("pool", pool, get_args(Readout))
    space = space or CellSpace()
    plan = _plan(space, tuple(layers), channels, image_shape, stride)
    features = plan.maps[-1] if pool == "mean" else math.prod(plan.maps)

    init = partial(_init, space, plan, channels, image_shape[-1], dtype)
    body = Model(init, partial(_apply, plan, image_shape, stride, pool))
    return headed(body, linear_head(features, outputs, head, dtype=dtype))


def _apply(
    plan: Plan,
    image_shape: tuple[int, int, int],
    stride: int,
    pool: Readout,
    params: Params,
    inputs: PyTree,
) -> Array:
    """The features of images."""
    x, present = unpadded(inputs)
    check_images(x, image_shape)
    first = before = normed(conv2d(x, params["stem"], stride=stride), present)
    shares = jax.tree.map(partial(jax.nn.softmax, axis=-1), params.get("alphas"))
    for place, (cell, weights) in enumerate(zip(plan.cells, params["layers"])):
        mixture = shares and shares[cell.kind]
        x = cell_output(cell, weights, (first, before), mixture, present)
        first, before = before, checkpoint_name(x, f"block{place}")
    return jnp.mean(before, (1, 2)) if pool == "mean" else before


def at_temperature(model: Model, temperature: Array | float) -> Model:
    """A network whose softmax of α is taken at a temperature.

      softmax(α / τ)

    A low τ makes the likeliest operation of an edge count nearly alone, so that little
    changes when the others are cut.

    Args:
      model: `cells`, or its body; a network without α is returned as it is.
      temperature: τ, which may be traced.

    Returns:
      A `Model` of the same parameters.

    >>> def apply(params, x):
    ...     return x * jax.nn.softmax(params["alphas"])
    >>> model = Model(lambda key: {"alphas": jnp.array([1.0, 2.0])}, apply)
    >>> cold = at_temperature(model, 0.05)
    >>> [f"{y:.2f}" for y in cold.apply(cold.init(jax.random.key(0)), jnp.ones(2))]
    ['0.00', '1.00']

    Source: Elsken et al., "Meta-Learning of Neural Architectures for Few-Shot Learning"
    (MetaNAS), CVPR 2020, section 4.2.
    """
    if model.parts is not None:
        body, head = model.parts
        return headed(at_temperature(body, temperature), head)

    def scaled(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda params, inputs: function(_divided(params, temperature), inputs)

    def settle(params: Params, inputs: PyTree) -> Params:
        settled = scaled(model.settle)(params, inputs)
        return {**settled, "alphas": params["alphas"]} if _searched(params) else settled

    return model._replace(
        apply=scaled(model.apply),
        settle=keep if model.settle is keep else settle,
        inference=model.inference and scaled(model.inference),
    )


def _searched(params: Params) -> bool:
    return isinstance(params, Mapping) and "alphas" in params


def _divided(params: Params, temperature: Array | float) -> Params:
    if not _searched(params):
        return params

    def divided(alpha: Array) -> Array:
        return alpha / jnp.asarray(temperature, alpha.dtype)

    return {**params, "alphas": jax.tree.map(divided, params["alphas"])}


def _plan(
    space: CellSpace | Genotype,
    layers: tuple[CellKind, ...],
    channels: int,
    image_shape: tuple[int, int, int],
    stride: int,
) -> Plan:
    """What each cell takes and gives."""
    check_count("channels", channels, least=1)
    check_count("stride", stride, least=1)
    if not layers:
        raise InputError("layers must be at least one kind of cell, got none")
    for kind in layers:
        check_one_of("a layer", kind, KINDS)
    height, width, _ = map_shape(image_shape, channels, ())
    height, width = -(-height // stride), -(-width // stride)
    inputs, halved, plan = (channels, channels), False, []
    for kind in layers:
        reduces = kind == "reduction"
        channels *= 2 if reduces else 1
        plan.append(Cell(kind, space.edges(kind), inputs, channels, halved))
        inputs, halved = (inputs[1], channels * space.nodes), reduces
        if reduces:
            height, width = -(-height // 2), -(-width // 2)
    return Plan(tuple(plan), (height, width, inputs[1]))


def _init(
    space: CellSpace | Genotype,
    plan: Plan,
    channels: int,
    depth: int,
    dtype: jnp.dtype | type,
    key: Array,
) -> Params:
    first, searched, *keys = jax.random.split(key, 2 + len(plan.cells))
    stem = HE(first, (3, 3, depth, channels), dtype)
    layers = [init_cell(cell, k, dtype) for cell, k in zip(plan.cells, keys)]
    params: dict[str, Params] = {"layers": layers, "stem": stem}
    if isinstance(space, Genotype):
        return params
    sizes = {kind: (len(space.edges(kind)), len(space.operations)) for kind in KINDS}
    draw = jax.nn.initializers.normal(1e-3)  # as in DARTS
    alphas = [
        draw(k, sizes[n], dtype) for n, k in zip(KINDS, jax.random.split(searched))
    ]
    return params | {"alphas": dict(zip(KINDS, alphas))}
