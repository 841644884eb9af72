"""Networks of cells: searched, cut to one operation an edge, and drawn at random."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.models import (
    CellSpace,
    Genotype,
    at_temperature,
    cells,
    parameter_count,
    random_genotype,
    remaining,
    strongest,
)
from metajax.models.cell_operations import (
    CONVOLUTIONS,
    OPERATIONS,
    convolution_of,
    convolutions,
)
from metajax.models.genotype import KINDS
from metajax.types import Padded, keep
from tests.helpers import KEY

SPACE = CellSpace(2)
LAYERS = ("reduction", "normal")  # the second takes maps of two sizes
PADS = ((0, 0), (0, 1), (0, 1), (0, 0))  # what is read later is 0 at the end
GENOTYPE = random_genotype(np.random.default_rng(2), SPACE)


def network(space, **settings):
    settings = {"image_shape": (7, 7, 1), "head": "glorot"} | settings
    return cells(3, space, LAYERS, 2, **settings)


def abstract(model):
    return jax.eval_shape(model.init, KEY)


def one_hot(genotype, space):
    """The α of which nothing but a genotype's operations is left."""
    chosen = {
        kind: {(e.source, e.node): e.operations[0] for e in genotype.edges(kind)}
        for kind in KINDS
    }

    def row(kind, edge):
        name = chosen[kind].get((edge.source, edge.node), "none")
        return [1e3 * (name == other) for other in space.operations]

    return {
        kind: jnp.array([row(kind, edge) for edge in space.edges(kind)])
        for kind in KINDS
    }


def test_a_cut_network_is_the_searched_one_of_those_edges():
    searched, cut = network(SPACE), network(GENOTYPE)
    params = searched.init(KEY)
    alphas = one_hot(GENOTYPE, SPACE)
    assert strongest(SPACE, alphas) == GENOTYPE
    params["body"]["alphas"] = alphas
    kept = remaining(params, abstract(cut))
    assert parameter_count(kept) == parameter_count(abstract(cut))
    assert parameter_count(kept) < parameter_count(params) / 2
    x = jax.random.normal(KEY, (4, 7, 7, 1))
    whole = jax.jit(searched.apply)(params, x)
    np.testing.assert_allclose(jax.jit(cut.apply)(kept, x), whole, atol=1e-5)
    # What is absent takes no part.
    padded = Padded(jnp.concatenate([x, 9 + x]), jnp.arange(8) < 4)
    of_padded = jax.jit(cut.apply)(kept, padded)[:4]
    np.testing.assert_allclose(of_padded, whole, atol=1e-5)


@pytest.mark.parametrize("name", ["separable-3x3", "dilated-3x3"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_is_two(float64, name, stride):
    operation = CONVOLUTIONS[name]
    weights = operation.init(KEY, 3, jnp.float64)
    x = jax.random.normal(KEY, (2, 5, 6, 3))
    images = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    reach = operation.dilation
    deep = jax.lax.conv_general_dilated(
        jax.nn.relu(x),
        weights["depthwise"].reshape(3, 3, 1, 3),
        (stride, stride),
        [(reach, reach)] * 2,
        rhs_dilation=(reach, reach),
        feature_group_count=3,
        **images,
    )
    expected = jax.lax.conv_general_dilated(
        deep, weights["pointwise"], (1, 1), "VALID", **images
    )
    kernels = [operation.kernel(weights)]
    ours = convolutions(kernels, x, stride=stride, dilation=reach)
    np.testing.assert_allclose(ours[..., 0], expected, atol=1e-12)


def test_a_skip_that_halves_takes_pixels_by_turns(float64):
    x = jnp.arange(1.0, 26.0).reshape(1, 5, 5, 1)
    weights = {"kernel": jnp.ones((1, 1, 1, 2))}
    kernel = convolution_of("skip", 2).kernel(weights)  # pyright: ignore
    y = jnp.concatenate([x[:, ::2, ::2], jnp.pad(x[:, 1::2, 1::2], PADS)], -1)
    ours = convolutions([kernel], x, stride=2)[..., 0]
    np.testing.assert_allclose(ours, y, atol=1e-12)


def test_a_low_temperature_leaves_the_likeliest_operation():
    space = CellSpace(1, ("skip", "conv-1x1"))
    model, x = network(space), jnp.ones((2, 7, 7, 1))
    params = model.init(KEY)
    cold = at_temperature(model, 1e-6)
    cut = network(strongest(space, params["body"]["alphas"]))
    kept = remaining(params, abstract(cut))
    expected = jax.jit(cut.apply)(kept, x)
    np.testing.assert_allclose(jax.jit(cold.apply)(params, x), expected, atol=1e-5)
    fixed = at_temperature(cut, 0.5)  # it has no α to divide
    np.testing.assert_array_equal(jax.jit(fixed.apply)(kept, x), expected)


def test_every_pass_is_at_the_temperature():
    def apply(params, x):
        return x * jax.nn.softmax(params["alphas"])

    def settle(params, x):
        return {**params, "settled": apply(params, x)}

    params, x = {"alphas": jnp.array([1.0, 2.0])}, jnp.ones(2)
    model = mj.Model(lambda key: params, apply, settle=settle, inference=apply)
    cold, expected = at_temperature(model, 0.5), jax.nn.softmax(2 * params["alphas"])
    settled = cold.settle(params, x)
    for outputs in (cold.apply(params, x), cold.predict(params, x), settled["settled"]):
        np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert settled["alphas"] is params["alphas"]
    plain = at_temperature(mj.Model(lambda key: params, apply), 0.5)
    assert plain.settle is keep and plain.inference is None


def test_which_edges_are_the_strongest_depends_on_the_temperature():
    """A lead over one operation gains less by cold than a larger one over many."""
    space = CellSpace(2, ("skip", "max-pool-3x3", "conv-1x1", "conv-3x3"))
    into_last = [1, 0.2, -9, -9], [1, 0.8, -9, -9], [1, 0.5, 0.5, 0.5]
    alphas = dict.fromkeys(KINDS, np.array([*into_last[:2], *into_last]))

    def sources(temperature):
        genotype = strongest(space, alphas, temperature=temperature)
        return [source for _, source in genotype.normal[-1]]

    assert (sources(1.0), sources(0.1)) == ([0, 1], [0, 2])


def test_random_genotypes_are_valid():
    drawn = [random_genotype(np.random.default_rng(n), SPACE) for n in range(8)]
    assert len(set(drawn)) == 8
    for genotype in drawn:
        assert Genotype.from_dict(genotype.as_dict()) == genotype
        names = {e.operations[0] for kind in KINDS for e in genotype.edges(kind)}
        assert names <= {*OPERATIONS} - {"none"}
        sizes = [len(node) for kind in KINDS for node in getattr(genotype, kind)]
        assert sizes == [2] * 4
    outputs = jax.eval_shape(
        network(drawn[0]).apply, abstract(network(drawn[0])), jnp.ones((2, 7, 7, 1))
    )
    assert outputs.shape == (2, 3)


def test_the_space_by_default_and_the_features_of_both_pools():
    assert abstract(cells(5))["body"]["alphas"]["normal"].shape == (9, 8)
    x, space = jnp.ones((2, 7, 7, 1)), CellSpace(1, ("skip",))
    shapes = {}
    for pool in ("mean", "flat"):
        body, _ = network(space, pool=pool, stride=2).parts  # pyright: ignore
        shapes[pool] = jax.eval_shape(body.apply, abstract(body), x).shape
    assert shapes == {"mean": (2, 4), "flat": (2, 2, 2, 4)}


def call(function: Any, *args: Any, **settings: Any):
    return lambda: function(*args, **settings)


SKIP = ((("skip", 0),),)  # a cell of one node


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (call(CellSpace, 0), "nodes must be a whole number of at least 1, got 0"),
        (call(CellSpace, 1, ("conv3x3",)), "no operation 'conv3x3'; did you mean"),
        (call(CellSpace, 1, ("none",)), 'one of them not "none", got none'),
        (call(CellSpace, 1, ("skip", "skip")), "operations must be different"),
        (call(cells, 5, layers=()), "layers must be at least one kind of cell"),
        (call(cells, 5, layers=("wide",)), 'a layer must be one of "normal"'),
        (call(cells, 5, channels=0), "channels must be a whole number"),
        (call(Genotype, (), ()), "equally many nodes, at least 1, got 0 and 0"),
        (
            call(Genotype, ((("none", 0),),), SKIP),
            "node 2 of the normal cell has an operation 'none'; it must be one of",
        ),
        (
            call(Genotype, ((("skip", 2),),), SKIP),
            "a source of node 2 of the normal cell must be at most 1, got 2",
        ),
        (
            call(Genotype, SKIP, ((("skip", 0),) * 2,)),
            "node 2 of the reduction cell must have edges from different states",
        ),
        (call(Genotype.from_dict, []), 'an object of "normal" and "reduction"'),
        (
            call(Genotype.from_dict, {"normal": [["skip"]], "reduction": []}),
            r'must be a list of \["operation", source\]',
        ),
        (
            call(strongest, CellSpace(2), {"normal": np.zeros((2, 8))}),
            r"the alphas of 2 nodes .* must be \(5, 8\), got \(2, 8\)",
        ),
        (
            call(remaining, {"stem": np.zeros(2)}, {"edges": np.zeros(2)}),
            "take a genotype of its own nodes and operations",
        ),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(mj.InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
