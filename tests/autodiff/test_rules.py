"""Which derivatives are trusted; that the networks of people have no others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.scipy.sparse.linalg import cg

import metajax as mj
from metajax._autodiff.rules import unknown_rule
from tests.helpers import KEY


def rule(f, *args):
    return unknown_rule(jax.make_jaxpr(f)(*args).jaxpr)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Conv(4, (3, 3))(x)))
        x = nn.max_pool(nn.BatchNorm(use_running_average=False)(x), (2, 2), (2, 2))
        x = nn.avg_pool(nn.GroupNorm(2)(nn.gelu(x)), (2, 2), (2, 2))
        x = nn.MultiHeadDotProductAttention(2)(x.reshape(len(x), -1, 4))
        return nn.Dense(5)(nn.RNN(nn.GRUCell(4))(x)[:, -1])


IMAGES = (2, 16, 16, 1)
NETWORKS = {
    "conv4": lambda: mj.conv4(5, 4, image_shape=IMAGES[1:]),
    "resnet12": lambda: mj.resnet12(5, image_shape=IMAGES[1:]),
    "linen": lambda: mj.from_linen(Net(), jnp.zeros(IMAGES)),
    "bfloat16": lambda: mj.in_precision(
        mj.conv4(5, 4, image_shape=IMAGES[1:]), "bfloat16"
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_people_are_trusted(relaxed, name):
    model, x = NETWORKS[name](), jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    labels = jnp.zeros(IMAGES[0], jnp.int32)
    params = jax.eval_shape(model.init, KEY)
    assert (
        rule(lambda p, x: mj.cross_entropy(model.apply(p, x), labels), params, x)
        is None
    )


@pytest.mark.parametrize(
    "f",
    [
        jax.nn.relu,
        jax.nn.relu6,
        jax.nn.softplus,
        jax.nn.log_sigmoid,
        jax.nn.selu,
        lambda x: jnp.logaddexp(x, x),
        jax.nn.softmax,
        jax.nn.logsumexp,
        jnp.linalg.norm,
        lambda x: optax.sigmoid_binary_cross_entropy(x, x > 0.5),
        lambda x: optax.softmax_cross_entropy_with_integer_labels(x, jnp.arange(2)),
    ],
)
def test_functions_of_jax_are_trusted(relaxed, f):
    assert rule(f, jnp.ones((2, 4))) is None


def test_what_has_no_derivative_does_not_count():
    def f(x):
        noise = jax.random.normal(jax.random.key(0), x.shape)
        near = jax.pure_callback(lambda x: x > 0, jax.ShapeDtypeStruct((3,), bool), x)
        return jnp.where(near, x, noise)

    assert rule(f, jnp.ones(3)) is None


def test_it_is_named():
    @jax.custom_jvp
    def quantised(x):
        return jnp.floor(x)

    quantised.defjvp(lambda x, t: (jnp.floor(x[0]), t[0]))
    nested = jax.checkpoint(jax.jit(jax.vmap(quantised)))
    assert (
        rule(lambda x: nested(x).sum(), jnp.ones(3)) == "custom_jvp_call of quantised"
    )
    assert rule(lambda a: jnp.linalg.inv(a).sum(), jnp.eye(2)) == "lu"
    few = lambda b: cg(lambda v: 2 * v, b)[0].sum()  # noqa: E731
    assert "linear_solve" in rule(few, jnp.ones(2))
