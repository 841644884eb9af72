"""The random streams of Linen modules, asked for or looked up."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import metajax as mj
from tests.helpers import KEY

X = jnp.ones((4, 8))
KEYS = jax.random.split(KEY, 4)


class Guarded(nn.Module):
    """Noise and dropout where there are streams for them, one behind the other."""

    first: str = "noise"
    second: str = "dropout"

    @nn.compact
    def __call__(self, x):
        if self.has_rng(self.first):
            x = x + jax.random.normal(self.make_rng(self.first), x.shape)
            if self.has_rng(self.second):
                x = x * jax.random.bernoulli(self.make_rng(self.second), 0.5, x.shape)
        return x


class InSetup(nn.Module):
    def setup(self):
        self.noisy = self.has_rng("noise")

    def __call__(self, x):
        if self.noisy:
            return x + jax.random.normal(self.make_rng("noise"), x.shape)
        return x


class Deep(nn.Module):
    layer: type[nn.Module]

    @nn.compact
    def __call__(self, x):
        return nn.Sequential([nn.Dense(8), self.layer("inner")])(x)


class Mixed(nn.Module):
    """One stream that it needs in training, and one that it looks for."""

    @nn.compact
    def __call__(self, x, train):
        return Guarded()(nn.Dropout(0.5)(x, deterministic=not train))


GUARDED = {
    "noise": Guarded(),
    "dropout": Guarded("dropout", "noise"),
    "setup": InSetup(),
    "deep": Deep(Guarded),
    "remat": Deep(nn.remat(Guarded)),
    "jit": Deep(nn.jit(Guarded)),
    "vmap": nn.vmap(
        Guarded, variable_axes={"params": None}, split_rngs={"noise": True}
    )(),
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_stream_that_is_looked_for_is_given_in_training(name, relaxed):
    for _ in range(2):  # whatever a first look has traced
        model = mj.from_linen(GUARDED[name], X)
    params = model.init(KEY)
    plain = GUARDED[name].apply({"params": params}, X)
    assert jnp.allclose(model.predict(params, X), plain)
    with pytest.raises(mj.InputError, match="key"):
        model.apply(params, X)
    one = model.forward(params, mj.Keyed(X, KEYS))
    again = model.forward(params, mj.Keyed(X, KEYS))
    other = model.forward(params, mj.Keyed(X, KEYS[::-1]))
    assert jnp.array_equal(one, again) and not jnp.allclose(one, other)
    assert not jnp.allclose(one, plain)


def test_a_stream_behind_another_is_given(relaxed):
    model = mj.from_linen(Guarded(), X)
    dropped = model.forward({}, mj.Keyed(X, KEYS)) == 0
    assert dropped.any() and not dropped.all()


def test_a_needed_stream_beside_one_that_is_looked_for(relaxed):
    flags = dict(training={"train": True}, predicting={"train": False})
    model = mj.from_linen(Mixed(), X, **flags)
    assert jnp.array_equal(model.predict({}, X), X)
    with pytest.raises(mj.InputError, match="in predictions too.*has_rng"):
        mj.from_linen(Mixed(), X, training={"train": True})


class Switch(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8)(-x if self.has_rng("params") else x)


def test_a_look_for_params_does_not_make_it_an_init(relaxed):
    model = mj.from_linen(Switch(), X)
    params = model.init(KEY)
    plain = Switch().apply({"params": params}, X)
    assert jnp.array_equal(model.apply(params, X), plain)
