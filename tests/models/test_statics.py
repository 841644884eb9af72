"""What a module holds beside its arrays must not follow from the key of `build`."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import metajax as mj

X = jnp.ones((4, 3))


def number(key):
    return float(jax.random.uniform(key))


class Scaled(eqx.Module):
    scale: object
    inner: object = None
    rate: object = eqx.field(static=True, default=None)

    def __call__(self, x, key=None):
        return x


def defaulting(rate):
    return lambda x, by=rate: by * x


def frozen(key):
    linear = eqx.nn.Linear(3, 3, key=key)
    return eqx.nn.Sequential([eqx.nn.Lambda(lambda x: linear(x))])


class NNXScaled(nnx.Module):
    def __init__(self, scale, rngs):
        self.scale, self.linear = scale, nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


class NNXDeep(nnx.Module):
    def __init__(self, rngs):
        scale = number(rngs.params())
        self.layers = nnx.List([NNXScaled(1.0, rngs), NNXScaled(scale, rngs)])

    def __call__(self, x):
        return x


class NNXClosed(nnx.Module):
    def __init__(self, rngs):
        inner = nnx.Linear(3, 3, rngs=rngs)
        self.call = lambda x: inner(x)

    def __call__(self, x):
        return self.call(x)


def nnx_of(scale):
    return lambda: mj.from_nnx(lambda rngs: NNXScaled(scale(rngs.params()), rngs))


def eqx_of(build):
    return lambda: mj.from_equinox(build)


DRAWN = {
    "float": (eqx_of(lambda key: Scaled(number(key))), r"module\.scale \(float\)"),
    "int": (eqx_of(lambda key: Scaled(int(1000 * number(key)))), r"\.scale \(int\)"),
    "static": (
        eqx_of(lambda key: Scaled(0, rate=number(key))),
        r"\.rate \(float\)",
    ),
    "nested": (
        eqx_of(lambda key: Scaled(0, [Scaled({"a": (number(key),)})])),
        r"\.inner\[0\]\.scale\['a'\]\[0\]",
    ),
    "numpy": (
        eqx_of(lambda key: Scaled(defaulting(np.float32(number(key))))),
        r"\.scale's defaults\[0\]\[0\] \(float32\)",
    ),
    "partial": (
        eqx_of(lambda key: Scaled(functools.partial(jnp.add, number(key)))),
        r"\.scale\.args\[0\]",
    ),
    "frozen-layer": (eqx_of(frozen), r"layers\[0\]\.fn's linear\.weight"),
    "nnx": (nnx_of(number), r"module\.scale \(float\)"),
    "nnx-deep": (lambda: mj.from_nnx(NNXDeep), r"\.1\.scale \(float\)"),
    "nnx-string": (nnx_of(lambda key: str(number(key))), r"\.scale \(str\)"),
    "nnx-frozen-layer": (lambda: mj.from_nnx(NNXClosed), r"\.call's inner"),
}


@pytest.mark.parametrize("build, place", DRAWN.values(), ids=DRAWN)
def test_a_value_of_the_key_that_is_no_array_is_refused(build, place, relaxed):
    with pytest.raises(mj.InputError, match=f"{place}.* for another key.*asarray"):
        build()


def fresh(key):
    """A new function in each build, of the same numbers."""
    rate = 0.5
    if key is None:
        never = None  # a cell of a function that stays empty

    def emptied(x):
        return x if x is not None else never

    layers = [
        eqx.nn.Lambda(lambda x: rate * x),
        eqx.nn.Lambda(emptied),
        eqx.nn.Lambda(functools.partial(jax.nn.leaky_relu, negative_slope=0.3)),
        Scaled(float("nan"), jnp.asarray(number(key)), rate=("a", {1, 2}, None)),
        Scaled(mj.Constant(jnp.asarray(number(key))), np.asarray([number(key)])),
        eqx.nn.MLP(3, 3, 4, 1, activation=jnp.tanh, key=key),
    ]
    return eqx.nn.Sequential(layers)


class NNXFresh(nnx.Module):
    def __init__(self, rngs):
        init = nnx.initializers.normal(0.1)
        self.linear = nnx.Linear(3, 3, kernel_init=init, rngs=rngs)
        self.array = jax.random.normal(rngs.params())
        self.rngs, self.rate, self.act = rngs, 0.5, lambda x: jnp.tanh(x)
        self.drop = nnx.Dropout(0.0, rngs=rngs)

    def __call__(self, x):
        return self.act(self.linear(x))


@pytest.mark.parametrize("build", [eqx_of(fresh), lambda: mj.from_nnx(NNXFresh)])
def test_what_every_build_has_alike_is_taken(build, relaxed):
    model = build()
    one, other = (model.init(jax.random.key(i)) for i in range(2))
    assert model.predict(one, X).shape == (4, 3)
    assert not jnp.allclose(model.predict(one, X), model.predict(other, X))
