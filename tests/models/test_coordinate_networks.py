"""SIREN and Fourier features: where they start, and what never learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.types import Padded
from tests.helpers import KEY, naive_maml, relative

OMEGA, WIDTH = 30.0, 256


@pytest.fixture(scope="module")
def sines():
    """A deep SIREN of the paper's width, and points of the square."""
    model = mj.siren(2, (WIDTH,) * 4, 1, omega=OMEGA)
    points = jax.random.uniform(jax.random.key(1), (1024, 2), minval=-1.0)
    return model.init(KEY), points


def test_sines_start_as_the_paper_has_them(sines):
    """Bounds of the weights, and their standard deviations: a bound over √3."""
    params, _ = sines
    first, *others = params["body"]
    deep = np.sqrt(6 / WIDTH) / OMEGA
    layers = (
        (first, 1 / 2, 2),
        *((layer, deep, WIDTH) for layer in (*others, params["head"])),
    )
    for layer, bound, inputs in layers:
        weights = np.asarray(layer["kernel"])
        assert np.abs(weights).max() <= bound
        spread = 0.1 if weights.size < 1000 else 0.02
        assert weights.std() == pytest.approx(bound / np.sqrt(3), rel=spread)
        assert np.abs(layer["bias"]).max() <= 1 / np.sqrt(inputs)


def test_activations_keep_their_distribution_over_layers(sines):
    """The paper's theorem 1.8: sums of variance 1, and activations of variance 1/2."""
    params, h = sines
    for number, layer in enumerate(params["body"]):
        sums = OMEGA * (h @ layer["kernel"])
        if number:
            assert float(jnp.std(sums)) == pytest.approx(1, abs=0.1)
        h = jnp.sin(sums + OMEGA * layer["bias"][None])
        assert float(jnp.var(h)) == pytest.approx(0.5, abs=0.05)


def test_sines_are_what_their_equation_says(float64):
    model = mj.siren(2, (5, 4), 3, omega=7.0, dtype=jnp.float64)
    params, x = model.init(KEY), jax.random.normal(KEY, (6, 2))
    arrays, h = jax.device_get(params), np.asarray(x)
    for layer in arrays["body"]:
        h = np.sin(7 * (h @ layer["kernel"] + layer["bias"]))
    expected = h @ arrays["head"]["kernel"] + arrays["head"]["bias"]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-12)
    present = jnp.arange(6) < 4
    padded = model.apply(params, Padded(x, present))
    np.testing.assert_allclose(padded, expected, rtol=1e-12)


def test_fourier_features_are_what_their_equation_says(float64):
    model = mj.fourier_mlp(2, (5,), 3, features=4, scale=3.0, dtype=jnp.float64)
    params, x = model.init(KEY), jax.random.normal(KEY, (6, 2))
    arrays = jax.device_get(params)
    angles = 2 * np.pi * np.asarray(x) @ arrays["body"]["projection"].value
    h = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    (layer,) = arrays["body"]["layers"]
    h = np.maximum(h @ layer["kernel"] + layer["bias"], 0)
    expected = h @ arrays["head"]["kernel"] + arrays["head"]["bias"]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-10)


def test_frequencies_are_normal_and_never_learnt():
    model = mj.fourier_mlp(2, (4,), 1, features=2000, scale=5.0)
    drawn = np.asarray(model.init(KEY)["body"]["projection"].value)
    assert drawn.mean() == pytest.approx(0, abs=0.3)
    assert drawn.std() == pytest.approx(5, rel=0.05)
    assert ((drawn / 5) ** 4).mean() == pytest.approx(3, rel=0.2)
    small = mj.fourier_mlp(1, (4,), 1, features=3)
    learner = mj.maml(small, mj.mse, optax.sgd(0.1), steps=1)
    optimizer = optax.sgd(0.1)
    state = mj.init_state(learner, optimizer, KEY)
    after, _ = jax.jit(mj.train_step(learner, optimizer))(
        state, mj.data.sinusoid(5, 5)(KEY, 2)
    )
    before, later = (s.meta["body"]["projection"].value for s in (state, after))
    np.testing.assert_array_equal(before, later)
    assert relative(after.meta["head"], state.meta["head"]) > 1e-4


def test_exact_gradients_through_sines_are_those_of_a_loop(float64):
    model = mj.siren(2, (6, 6), 1, dtype=jnp.float64)
    optimizer, rate = optax.sgd(0.01), 0.01

    def batch(key):
        x = jax.random.uniform(key, (9, 2), minval=-1.0)
        return mj.Batch(x, jnp.sin(3 * x[:, :1]) * x[:, 1:])

    episode = mj.Episode(*map(batch, jax.random.split(KEY)))
    rule = lambda params, grads, _: jax.tree.map(  # noqa: E731
        lambda p, g: p - rate * g, params, grads
    )
    params = model.init(KEY)
    oracle = jax.jit(jax.grad(naive_maml(model, mj.mse, rule, 3)))(params, episode)
    for grad in (mj.exact, mj.reverse, mj.mixed):
        learner = mj.maml(model, mj.mse, optimizer, 3, grad=grad)
        ours = jax.jit(jax.grad(lambda m, e, f=learner: f.loss(m, e)[0]))
        assert relative(ours(params, episode), oracle) < 1e-10


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: mj.siren(2, ()), "number of hidden layers .* at least 1, got 0"),
        (lambda: mj.siren(2, (4, 0)), "a width .* at least 1, got 0"),
        (lambda: mj.siren(2, (4,), omega=0.0), "omega must be a positive number"),
        (lambda: mj.fourier_mlp(2, (4,), features=0), "features .* at least 1, got 0"),
        (lambda: mj.fourier_mlp(2, (4,), scale=-1), "scale must be a positive number"),
    ],
)
def test_what_makes_no_network_is_refused(build, message):
    with pytest.raises(mj.InputError, match=message):
        build()
