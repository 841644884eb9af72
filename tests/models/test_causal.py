"""Networks that read piece by piece, against those that read all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.models.causal import causal_transformer
from metajax.models.causal_snail import causal_snail
from metajax.models.snail import reader
from tests.helpers import KEY

FEATURES, TOKENS = 3, 7
ATTENTION = [(4, 2), (4, 3)]
LONG, SHORT = 8, 3  # more than the tokens, and fewer


def transformer(length, depth=2):
    return causal_transformer(
        FEATURES, length, width=4, depth=depth, heads=2, dtype=jnp.float64
    )


def snail(length):
    return causal_snail(
        FEATURES, length, filters=2, attention=ATTENTION, dtype=jnp.float64
    )


NETWORKS = {"transformer": transformer, "snail": snail}


@pytest.fixture(autouse=True)
def always(float64):
    pass


def started(network):
    """Parameters of which none is zero."""
    draw = np.random.default_rng(0).normal
    shapes = jax.eval_shape(network.init, KEY)
    return jax.tree.map(lambda x: jnp.array(draw(size=x.shape)), shapes)


def tokens():
    return jax.random.normal(KEY, (TOKENS, FEATURES))


def read(network, params, x, cuts):
    """Reads a sequence in pieces."""
    memory, parts = network.start(params), []
    for piece in jnp.split(x, cuts):
        h, memory = network.apply(params, memory, piece)
        parts.append(h)
    return jnp.concatenate(parts)


@pytest.mark.parametrize("length", [LONG, SHORT, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_give_what_the_whole_gives(name, length):
    network = NETWORKS[name](length)
    params, x = started(network), tokens()
    ways = [], [2, 3], list(range(1, TOKENS))
    whole, *others = jax.jit(
        lambda params, x: [read(network, params, x, cuts) for cuts in ways]
    )(params, x)
    assert whole.shape == (TOKENS, network.width)
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name, reach",
    [("transformer", 2 + 2), ("snail", 2 + (1 + 2) + 2)],
)
def test_what_each_token_sees(name, reach):
    network = NETWORKS[name](SHORT)
    params = started(network)

    def outputs(x):
        return jnp.sum(read(network, params, x, []), -1)

    seen = np.abs(jax.jit(jax.jacrev(outputs))(tokens())).sum(-1) > 0
    age = np.arange(TOKENS)[:, None] - np.arange(TOKENS)
    np.testing.assert_array_equal(seen, (age >= 0) & (age <= reach))


def test_transformer_of_one_block_is_the_encoder_at_the_last_token():
    network = transformer(LONG, depth=1)
    model = mj.transformer(FEATURES, 2, width=4, depth=1, heads=2, dtype=jnp.float64)
    params, x = started(model), tokens()
    zero = jnp.zeros((2, LONG))
    (block,) = params["body"]["blocks"]
    own = params["body"] | {"blocks": [block | {"distance": zero}]}
    hidden = jax.jit(lambda own, x: read(network, own, x, [])[-1:])(own, x)
    ours = hidden @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(ours, jax.jit(model.apply)(params, x[None]), rtol=1e-10)


def test_snail_is_the_reader():
    network = snail(LONG)
    body = reader(FEATURES, LONG, filters=2, attention=ATTENTION, dtype=jnp.float64)
    params, x = started(network), tokens()
    ours = jax.jit(lambda params, x: read(network, params, x, []))(params, x)

    @jax.jit
    def last(params, x):
        return body.ask(params, body.read(params, x[None, :-1], None), x[None, -1:])

    for count in (1, 4, TOKENS):
        theirs = last(params, x[:count])[0, 0]
        np.testing.assert_allclose(ours[count - 1], theirs, rtol=1e-10)


def test_distances_matter():
    network = transformer(LONG, depth=1)
    x = tokens()
    swapped = x[np.array([1, 0, *range(2, TOKENS)])]
    params = started(network)
    none = jax.tree_util.tree_map_with_path(
        lambda path, a: 0 * a if "distance" in str(path) else a, params
    )
    last = jax.jit(lambda params, x: read(network, params, x, [])[-1])
    assert np.allclose(last(none, x), last(none, swapped), rtol=1e-10)
    assert not np.allclose(last(params, x), last(params, swapped), rtol=1e-3)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"width": 6, "heads": 4}, "width must be a multiple of the 4 heads, got 6"),
        ({"depth": -1}, "depth must be a whole number of at least 0, got -1"),
    ],
)
def test_refuses_bad_sizes(settings, said):
    with pytest.raises(mj.InputError, match=f"^{said}$"):
        causal_transformer(**{"features": 3, "length": 4} | settings)
