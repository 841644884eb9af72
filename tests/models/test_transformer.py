import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.models import Tokens
from metajax.types import Batch, Episode
from tests.helpers import KEY, gradient, relative

WIDTH, HEADS, TOKENS, FEATURES = 4, 2, 3, 2


def network(**settings):
    settings = {"width": WIDTH, "heads": HEADS, "depth": 1} | settings
    return mj.transformer(FEATURES, 1, dtype=jnp.float64, **settings)


def started(model):
    """Parameters, drawn without a program: biases are not zero."""
    draw = np.random.default_rng(0).normal
    with jax.enable_x64(True):
        shapes = jax.eval_shape(model.init, KEY)
        return jax.tree.map(lambda x: jnp.array(draw(size=x.shape)), shapes)


SET, ORDERED = network(), network(tokens=TOKENS)


@pytest.fixture(scope="module")
def of_set():
    return started(SET)


@pytest.fixture(scope="module")
def of_ordered():
    return started(ORDERED)


@pytest.fixture
def sequences(float64):
    return jax.random.normal(KEY, (2, TOKENS, FEATURES), jnp.float64)


def textbook(params, x):
    """The same network from jnp alone."""

    def each(weights, x):
        return x @ weights["kernel"] + weights["bias"]

    def norm(weights, x):
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * weights["scale"] + weights["offset"]

    body = params["body"]
    h = each(body["embedding"], x) + body["positions"]
    for block in body["blocks"]:
        weights = block["attention"]
        z = norm(weights["norm"], h)
        q, k, v = (
            each(weights[name], z).reshape(*z.shape[:2], HEADS, -1)
            for name in ("query", "key", "value")
        )
        shares = jnp.exp(jnp.einsum("nqhd,nkhd->nqhk", q, k) / q.shape[-1] ** 0.5)
        shares = shares / shares.sum(-1, keepdims=True)
        taken = jnp.einsum("nqhk,nkhd->nqhd", shares, v).reshape(h.shape)
        h = h + each(weights["output"], taken)
        weights = block["mlp"]
        z = jax.nn.gelu(each(weights["hidden"], norm(weights["norm"], h)))
        h = h + each(weights["output"], z)
    return each(params["head"], norm(body["norm"], h)[:, -1])


def test_equals_textbook(sequences, of_ordered):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        both = jax.jit(lambda *args: (ORDERED.apply(*args), textbook(*args)))
        ours, theirs = both(of_ordered, sequences)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_attention_differentiates_twice(sequences, of_set):
    value = jax.jit(lambda x: jnp.sum(SET.apply(of_set, x) ** 2))
    check_grads(value, (sequences,), order=2, modes=["rev"], rtol=1e-6)


def test_its_hessian_is_that_of_central_differences(sequences, of_set):
    def value(params):
        return jnp.sum(jnp.sin(SET.apply(params, sequences)))

    along, eps = jax.tree.map(np.cos, of_set), 1e-5
    product = jax.jit(lambda p, v: jax.jvp(jax.grad(value), (p,), (v,)))

    def slope(sign):
        at = jax.tree.map(lambda p, v: p + sign * eps * v, of_set, along)
        return product(at, along)[0]

    theirs = jax.tree.map(lambda a, b: (a - b) / (2 * eps), slope(1), slope(-1))
    assert relative(product(of_set, along)[1], theirs) < 1e-8


def test_bfloat16_is_near_to_second_order(sequences, of_set):
    def product(model):
        def slope(params):
            return jax.grad(lambda p: jnp.sum(model.apply(p, sequences) ** 2))(params)

        return jax.jvp(slope, (of_set,), (of_set,))[1]

    models = SET, mj.in_precision(SET, "bfloat16")
    exact, half = jax.jit(lambda: tuple(map(product, models)))()
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype(jnp.float64)}
    assert 1e-4 < relative(half, exact) < 0.05


def test_maml_through_it_is_exact(sequences, of_set):
    batch = Batch(sequences, jnp.ones((2, 1)))
    ours, oracle = (
        gradient(mj.maml(SET, mj.mse, optax.sgd(0.1), 2, grad=grad))
        for grad in (mj.exact, mj.reverse)
    )
    both = jax.jit(lambda *args: (ours(*args), oracle(*args)))
    assert relative(*both(of_set, Episode(batch, batch))) < 1e-12


def test_without_positions_the_last_token_alone_is_told_apart(
    sequences, of_set, of_ordered
):
    def moves(model, params):
        """How far the outputs go when the first tokens change places, or the last."""
        apply = jax.jit(model.apply)
        outputs = [
            apply(params, sequences[:, np.array(order)])
            for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1])
        ]
        return [relative(x, outputs[0]) for x in outputs[1:]]

    first, last = moves(SET, of_set)
    assert first < 1e-12 and min(last, *moves(ORDERED, of_ordered)) > 1e-3


def test_padding_is_not_looked_at(sequences, of_set):
    present = np.array([[True, False, True], [False, True, True]])
    apply = jax.jit(SET.apply)
    ours = apply(of_set, Tokens(sequences, jnp.array(present)))
    alone = jnp.stack([x[mask] for x, mask in zip(sequences, present)])
    np.testing.assert_allclose(ours, apply(of_set, alone), rtol=1e-12)


def test_refuses_bad_sizes():
    with pytest.raises(mj.InputError, match="a multiple of the 3 heads, got 4"):
        mj.transformer(2, 1, width=4, heads=3)
    with pytest.raises(mj.InputError, match="tokens must be"):
        mj.transformer(2, 1, tokens=0)
    model = mj.transformer(2, 1, tokens=3, width=4)
    with pytest.raises(mj.InputError, match=r"sequences \[n, 3, 2\], got \(5, 4, 2\)"):
        jax.eval_shape(
            lambda key: model.apply(model.init(key), jnp.zeros((5, 4, 2))), KEY
        )
