"""Low-rank adaptation: what changes, what does not, and to what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.models import dense, headed, lora
from metajax.types import Batch, Episode, Model
from tests.helpers import KEY, gradient, relative, small_conv

MLP = mj.mlp(3, (8,), 2, dtype=jnp.float64)


def batch(key):
    x = jax.random.normal(key, (5, 3), jnp.float64)
    return Batch(x, jnp.arange(5, dtype=jnp.int32) % 2)


def task():
    return Episode(*map(batch, jax.random.split(KEY)))


def moved(params):
    """Parameters whose B is not zero."""
    up = jax.tree.map(lambda b: b + 0.3, params["up"])
    return params | {"up": up}


def test_it_starts_as_the_network_was(float64):
    model = lora(MLP, 2)
    params, x = model.init(KEY), batch(KEY).inputs
    base = jax.tree.map(
        lambda c: c.value,
        params["base"],
        is_leaf=lambda x: isinstance(x, mj.Constant),
    )
    assert jax.tree.structure(base) == jax.tree.structure(MLP.init(KEY))
    np.testing.assert_array_equal(model.apply(params, x), MLP.apply(base, x))


def test_it_adds_a_product(float64):
    model = lora(dense(3, 5, dtype=jnp.float64), 2)
    params, x = moved(model.init(KEY)), batch(KEY).inputs
    a, b = params["down"]["kernel"], params["up"]["kernel"]
    base = params["base"]
    expected = x @ (base["kernel"].value + a @ b) + base["bias"].value[None]
    assert a.shape == (3, 2) and params["down"]["bias"] is None
    assert relative(model.apply(params, x), expected) < 1e-14


def test_only_the_factors_are_learnt(float64):
    model = lora(MLP, 2)
    learner, oracle = (
        mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 2, grad=grad)
        for grad in (mj.exact, mj.gradients.reverse)
    )
    meta = moved(learner.init(KEY))
    adapted = jax.jit(learner.adapt)(meta, task().support)
    same = jax.tree.map(lambda x, y: bool(jnp.all(x == y)), meta, adapted)
    assert all(jax.tree.leaves(same["base"]))
    assert not any(jax.tree.leaves((same["down"], same["up"])))
    found, expected = (jax.jit(gradient(x))(meta, task()) for x in (learner, oracle))
    parts = [{k: g[k] for k in ("down", "up")} for g in (found, expected)]
    assert relative(*parts) < 1e-12
    tasks = jax.tree.map(lambda x: x[None], task())
    _, grads = mj.meta_gradient(learner)(meta, tasks)
    assert not jax.tree.leaves(grads["base"])
    assert relative({k: grads[k] for k in ("down", "up")}, parts[1]) < 1e-12


def test_some_kernels_alone_of_convolutions(float64):
    body, _ = small_conv(jnp.float64).parts
    model = lora(body, 2, where=lambda path: path == "[1]['kernel']")
    params = model.init(KEY)
    leaves = jax.tree.leaves_with_path(params["down"])
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == ["[1]['kernel']"]
    assert leaves[0][1].shape == (36, 2)
    x, apply = jnp.ones((2, 16, 16, 1)), jax.jit(model.apply)
    assert relative(apply(moved(params), x), apply(params, x)) > 1e-3


def test_constants_stay_the_networks_own():
    def init(key):
        return {"kernel": jnp.ones((2, 3)), "mean": mj.Constant(jnp.ones((1, 2)))}

    def apply(params, x):
        return (x - params["mean"].value) @ params["kernel"]

    model = lora(Model(init, apply), 1)
    assert model.apply(model.init(KEY), jnp.ones((1, 2))).tolist() == [[0, 0, 0]]
    with pytest.raises(mj.InputError, match=r"\['mean'\] is none"):
        lora(Model(init, apply), 1, where=lambda path: "mean" in path).init(KEY)


@pytest.mark.parametrize(
    "model, settings, message",
    [
        (MLP, dict(rank=0), "rank must be a whole number of at least 1"),
        (mj.conv4(2, norm="task"), dict(rank=1), "do not settle"),
    ],
)
def test_refuses(model, settings, message):
    with pytest.raises(mj.InputError, match=message):
        lora(model, **settings)


@pytest.mark.parametrize(
    "where, message",
    [
        (lambda path: "attn" in path, r"chose no array; their paths are \['kernel'\]"),
        (lambda path: "bias" in path, r"two axes, and \['bias'\] is none"),
    ],
)
def test_refuses_other_arrays(where, message):
    model = headed(lora(dense(3, 5), 1, where), dense(5, 2))
    with pytest.raises(mj.InputError, match=message.replace("kernel", "bias|kernel")):
        model.init(KEY)
