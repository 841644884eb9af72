"""Modules of other libraries: random numbers, arrays nothing learns, and state."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import metajax as mj
from metajax._pytrees.keyed import at_step
from metajax.models._reads import dependence
from tests.helpers import KEY, gradient, relative

WIDTH = 32
X = jnp.ones((4, WIDTH))
KEYS = jax.random.split(KEY, 4)
FLAGS = dict(training={"train": True}, predicting={"train": False})


class LinenDropout(nn.Module):
    """Dropout alone, twice."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dropout(0.5)(x, deterministic=not train)
        return nn.Dropout(0.5)(x, deterministic=not train)


class LinenNoise(nn.Module):
    """A stream of another name."""

    @nn.compact
    def __call__(self, x, train):
        return x + (jax.random.normal(self.make_rng("noise"), x.shape) if train else 0)


class NNXDropout(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class NNXShared(nnx.Module):
    """One stream for both."""

    def __init__(self, rngs):
        self.rngs, self.layer = rngs, nnx.Dropout(0.5)

    def __call__(self, x):
        return self.layer(self.layer(x, rngs=self.rngs), rngs=self.rngs)


def equinox_dropout(key):
    return eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Dropout(0.5)])


class RequiredKey(eqx.Module):
    inference: bool = False

    def __call__(self, x, key):
        return x if self.inference else 4 * x * jax.random.bernoulli(key, 0.25, x.shape)


DROPPING = {
    "linen": lambda: mj.from_linen(LinenDropout(), X, **FLAGS),
    "nnx": lambda: mj.from_nnx(NNXDropout),
    "nnx-shared": lambda: mj.from_nnx(NNXShared),
    "equinox": lambda: mj.from_equinox(equinox_dropout),
    "equinox-required": lambda: mj.from_equinox(lambda key: RequiredKey()),
}
every_library = pytest.mark.parametrize("name", DROPPING)


@every_library
def test_each_key_has_a_mask_of_its_own(name, relaxed):
    model = DROPPING[name]()
    params = model.init(KEY)
    masks = [
        model.forward(params, mj.Keyed(X, jax.random.split(jax.random.key(i), 4)))
        for i in (0, 0, 1)
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).mean() > 0.1
    # Of two layers that keep a half each, by masks of their own.
    assert set(np.unique(masks[0])) == {0.0, 4.0}
    assert 0.1 < (np.stack([masks[0], masks[2]]) > 0).mean() < 0.4
    assert len(np.unique(masks[0], axis=0)) == len(X)


@every_library
def test_predictions_draw_nothing(name, relaxed):
    model = DROPPING[name]()
    params = model.init(KEY)
    np.testing.assert_array_equal(model.predict(params, X), X)
    np.testing.assert_array_equal(model.predict(params, mj.Keyed(X, KEYS)), X)


@every_library
def test_without_keys_a_training_pass_is_refused(name, relaxed):
    model = DROPPING[name]()
    for call in (model.apply, model.forward):
        with pytest.raises(mj.InputError, match="metajax.data.keyed"):
            call(model.init(KEY), X)


@every_library
def test_a_head_draws_of_keys_of_its_own(name, relaxed):
    model = mj.headed(DROPPING[name](), DROPPING[name]())
    params = model.init(KEY)
    found = model.forward(params, mj.Keyed(X, KEYS))
    assert 0 < (found == 16.0).mean() < 0.25 and (found == 0.0).mean() > 0.75
    np.testing.assert_array_equal(model.predict(params, X), X)
    same = mj.in_precision(model, "bfloat16")
    np.testing.assert_array_equal(same.forward(params, mj.Keyed(X, KEYS)), found)
    with pytest.raises(mj.InputError, match="metajax.data.keyed"):
        model.forward(params, X)


def test_any_linen_stream_is_given(relaxed):
    model = mj.from_linen(LinenNoise(), X, **FLAGS)
    one, two = (
        model.forward({}, mj.Keyed(X, jax.random.split(jax.random.key(i), 4)))
        for i in range(2)
    )
    assert (one != two).all()
    np.testing.assert_array_equal(model.predict({}, X), X)


class Layered(nn.Module):
    """Layers of a scan, each of which draws of a stream that is split."""

    @nn.compact
    def __call__(self, x, train):
        def layer(module, carry, _):
            key = module.make_rng("noise")
            return carry, jax.random.uniform(key, x.shape) if train else carry

        over = nn.scan(layer, split_rngs={"params": False, "noise": True}, length=3)
        return jnp.moveaxis(over(self, x, None)[1], 0, 1)


def test_each_layer_of_a_scan_draws_its_own(relaxed):
    model = mj.from_linen(Layered(), X, **FLAGS)
    found = model.forward({}, mj.Keyed(X, KEYS))
    assert len(np.unique(found)) == found.size == 3 * X.size
    np.testing.assert_array_equal(model.predict({}, X)[:, 2], X)


class Quiet(nnx.Module):
    """It has a stream and draws nothing."""

    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(x))


@pytest.mark.parametrize(
    "model",
    [
        lambda: mj.from_nnx(Quiet),
        lambda: mj.from_equinox(lambda key: eqx.nn.MLP(WIDTH, 1, 4, 1, key=key)),
        lambda: mj.from_equinox(
            lambda key: eqx.nn.inference_mode(equinox_dropout(key))
        ),
        lambda: mj.from_linen(LinenDropout(), X, training={"train": False}),
        lambda: mj.from_linen(nn.Dense(1), X, predicting={}),
        lambda: mj.mlp(WIDTH, (4,), 1),
    ],
)
def test_what_draws_nothing_needs_no_keys(model, relaxed):
    model = model()
    params = model.init(KEY)
    expected = model.forward(params, X)
    np.testing.assert_array_equal(model.apply(params, X), expected)
    np.testing.assert_array_equal(model.predict(params, X), expected)
    np.testing.assert_array_equal(model.forward(params, mj.Keyed(X, KEYS)), expected)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(1, 8, rngs=rngs, param_dtype=jnp.float64)
        self.b = nnx.Linear(8, 1, rngs=rngs, param_dtype=jnp.float64)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.b(self.drop(jnp.tanh(self.a(x))))


@pytest.mark.parametrize(
    "grad", [mj.exact, mj.reverse, mj.mixed, mj.first_order, mj.kept(mj.reverse)]
)
def test_the_gradient_is_that_of_the_same_masks(grad, float64, relaxed):
    model, rate, steps = mj.from_nnx(Net), 0.1, 3
    learner = mj.maml(model, mj.mse, optax.sgd(rate), steps, grad=grad)
    batch = mj.data.keyed(mj.data.sinusoid(5, 5))(KEY, 1)
    cast = lambda x: x.astype(float) if x.dtype == jnp.float32 else x  # noqa: E731
    episode = jax.tree.map(lambda x: cast(x[0]), batch)
    meta = learner.init(KEY)

    def by_hand(meta):
        def loss(params, batch, keys):
            hidden = jnp.tanh(
                batch.inputs.values @ params["a"]["kernel"] + params["a"]["bias"]
            )
            stream = jax.random.split(jax.random.fold_in(keys[0], 1), ())
            mask = jax.random.bernoulli(
                jax.random.fold_in(stream, 0), 0.5, hidden.shape
            )
            hidden = jnp.where(mask, 2 * hidden, 0)
            outputs = hidden @ params["b"]["kernel"] + params["b"]["bias"]
            return mj.mse(outputs, batch.targets)

        params = meta
        for k in range(steps):
            keys = at_step(episode.support.inputs, k).keys
            slope = jax.grad(loss)(params, episode.support, keys)
            if grad is mj.first_order:
                slope = jax.lax.stop_gradient(slope)
            params = jax.tree.map(lambda p, g: p - rate * g, params, slope)
        return loss(params, episode.query, episode.query.inputs.keys)

    assert (
        relative(jax.jit(gradient(learner))(meta, episode), jax.grad(by_hand)(meta))
        < 1e-12
    )


def counted(inputs=1):
    """Returns its mask, whatever it has learnt."""

    def apply(params, x):
        x, keys = mj.Keyed.of(x)
        return params + jax.random.uniform(keys[0], x.shape, x.dtype)

    return mj.Model(
        lambda key: jnp.zeros(()), apply, inference=lambda params, x: params + 0 * x
    )


def test_each_inner_step_sees_a_mask_of_its_own():
    # A step at rate 1 on a sum adds what it drew: the steps are the draws.
    learner = mj.maml(
        counted(), lambda y, t: -jnp.sum(y[0] ** 2) / 2, optax.sgd(1.0), 4
    )
    batch = mj.data.keyed(mj.data.sinusoid(1, 1))(KEY, 2)
    paths = jax.vmap(learner.trajectory, (None, 0))(learner.init(KEY), batch.support)
    drawn = paths[:, 1:] - 2 * paths[:, :-1]
    assert len(np.unique(np.round(drawn, 6))) == drawn.size == 8
    assert (0 <= drawn).all() and (drawn < 1).all()


LEARNERS = {
    "maml": lambda model: mj.maml(model, mj.mse, optax.sgd(0.1), 2),
    "anil": lambda model: mj.anil(model, mj.mse, optax.sgd(0.1), 2),
    "imaml": lambda model: mj.imaml(model, mj.mse, optax.sgd(0.1), 2, strength=2.0),
    "reptile": lambda model: mj.reptile(
        model, mj.mse, optax.sgd(0.1), 2, view=mj.mini_batches(2)
    ),
    "cavia": lambda model: mj.cavia(
        model,
        mj.mse,
        optax.sgd(0.1),
        2,
        context=1,
        join=lambda x, context: x + context[None],
    ),
    "maml++": lambda model: mj.maml_plus_plus(
        model,
        mj.mse,
        mj.learners.step_rates(0.1, 2),
        2,
        step_weights=jnp.array([0.5, 0.5]),
    ),
    "meta-sgd": lambda model: mj.meta_sgd(model, mj.mse, 0.1, 2),
    "mtl": lambda model: mj.mtl(
        model, mj.mse, optax.sgd(0.1), 2, backbone=model.init(KEY)["body"]
    ),
}


class Half(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(1, 4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.linear(x))


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("part", ["body", "head"])
def test_a_learner_draws_in_training_alone(name, part, relaxed):
    half = mj.from_nnx(Half)
    linear = mj.dense(1, 1)
    model = (
        mj.headed(half, mj.dense(4, 1)) if part == "body" else mj.headed(linear, half)
    )
    learner = LEARNERS[name](model)
    if part == "head":
        model = mj.headed(model, mj.Model(lambda key: {}, lambda p, x: x[:, :1]))
        learner = LEARNERS[name](model)
    meta = learner.init(jax.random.key(1))
    batch = mj.data.keyed(mj.data.sinusoid(5, 5))(KEY, 2)
    one, other = (jax.tree.map(lambda x: x[i], batch) for i in range(2))
    own = one.query.inputs.values
    swapped = one._replace(
        query=one.query._replace(inputs=mj.Keyed(own, other.query.inputs.keys))
    )
    loss = jax.jit(lambda meta, episode: learner.loss(meta, episode)[0])
    assert loss(meta, one) == loss(meta, one) != loss(meta, swapped)
    grads = jax.tree.leaves(jax.jit(gradient(learner))(meta, one))
    assert all(np.isfinite(x).all() for x in grads)
    adapted = jax.jit(learner.adapt)(meta, one.support)
    predict = jax.jit(learner.predict)
    np.testing.assert_array_equal(
        predict(adapted, own), predict(adapted, one.query.inputs)
    )
    bare = one.support._replace(inputs=one.support.inputs.values)
    with pytest.raises(mj.InputError, match="metajax.data.keyed"):
        learner.adapt(meta, bare)


def test_learners_without_an_inner_loop_adapt_without_keys(relaxed):
    learner = mj.prototypical(mj.from_nnx(Half), 2)
    inputs = mj.Keyed(jnp.arange(4.0)[:, None], KEYS)
    batch = mj.Batch(inputs, jnp.array([0, 1, 0, 1]))
    meta = learner.init(KEY)
    bare = batch._replace(inputs=inputs.values)
    adapted = learner.adapt(meta, bare)
    np.testing.assert_array_equal(
        learner.predict(adapted, inputs), learner.predict(adapted, bare.inputs)
    )
    loss = learner.loss(meta, mj.Episode(batch, batch))[0]
    other = batch._replace(inputs=mj.Keyed(inputs.values, KEYS[::-1]))
    assert loss != learner.loss(meta, mj.Episode(other, batch))[0]
    with pytest.raises(mj.InputError, match="metajax.data.keyed"):
        learner.loss(meta, mj.Episode(bare, batch))


class LinenFourier(nn.Module):
    @nn.compact
    def __call__(self, x):
        draw = lambda: jax.random.normal(self.make_rng("params"), (WIDTH, 8))  # noqa: E731
        return nn.Dense(1)(jnp.cos(x @ self.variable("features", "b", draw).value))


class NNXFourier(nnx.Module):
    def __init__(self, rngs):
        self.b = nnx.Variable(jax.random.normal(rngs.params(), (WIDTH, 8)))
        self.head = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.cos(x @ self.b[...]))


class Shuffled(eqx.Module):
    order: jax.Array
    spread: mj.Constant
    head: eqx.nn.Linear

    def __init__(self, key):
        self.order = jax.random.permutation(key, WIDTH)
        self.spread = mj.Constant(jax.random.normal(key, (WIDTH,)))
        self.head = eqx.nn.Linear(WIDTH, 1, key=key)

    def __call__(self, x):
        return self.head(self.spread.value * x[self.order])


FIXED = {
    "linen": (
        lambda: mj.from_linen(LinenFourier(), X),
        lambda key: LinenFourier().init_with_output(key, VARIED)[0],
    ),
    "nnx": (
        lambda: mj.from_nnx(NNXFourier),
        lambda key: NNXFourier(nnx.Rngs(key))(VARIED),
    ),
    "equinox": (
        lambda: mj.from_equinox(Shuffled),
        lambda key: jax.vmap(Shuffled(key))(VARIED),
    ),
}
VARIED = jnp.linspace(-1.0, 1.0, 4 * WIDTH).reshape(4, WIDTH)


@pytest.mark.parametrize("name", FIXED)
def test_arrays_that_nothing_learns_come_from_the_key(name, relaxed):
    build, expected = FIXED[name]
    model = build()
    for seed in (3, 4):
        key = jax.random.key(seed)
        found = model.apply(model.init(key), VARIED)
        np.testing.assert_allclose(found, expected(key), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FIXED)
def test_training_leaves_them_alone(name, relaxed):
    model = FIXED[name][0]()
    learner = mj.maml(model, mj.mse, optax.sgd(0.1), 2)
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    state = mj.init_state(learner, optimizer, KEY)
    batch = mj.Batch(VARIED[None], jnp.ones((1, 4, 1)))
    after, _ = jax.jit(mj.train_step(learner, optimizer))(
        state, mj.Episode(batch, batch)
    )
    is_constant = lambda x: isinstance(x, mj.Constant)  # noqa: E731
    pairs = zip(
        *(jax.tree.leaves(s.meta, is_leaf=is_constant) for s in (state, after)),
        strict=True,
    )
    held = [pair for pair in pairs if is_constant(pair[0])]
    assert held
    for before, now in held:
        np.testing.assert_array_equal(before.value, now.value)


class LinenNet(nn.Module):
    """A layer before a linear one."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(self.layer(x))


class Counter(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counter", "n", lambda: jnp.zeros((), jnp.int32))
        count.value += 1
        return x * count.value.astype(x.dtype)


class Spectral(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.SpectralNorm(nn.Dense(WIDTH))(x, update_stats=True)


class Decoding(nn.Module):
    @nn.compact
    def __call__(self, x):
        attend = nn.MultiHeadDotProductAttention(1, decode=True)
        return attend(x[:, None])[:, 0]


class NNXNet(nnx.Module):
    def __init__(self, layer, rngs):
        self.layer, self.out = layer, nnx.Linear(WIDTH, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.layer(x))


class NNXCounter(nnx.Module):
    def __init__(self):
        self.n = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.n[...] = self.n[...] + 1
        return x * self.n[...].astype(x.dtype)


class NNXMean(nnx.Module):
    """A running statistic of the user's own, of another name."""

    def __init__(self):
        self.mean = nnx.BatchStat(jnp.zeros(WIDTH))

    def __call__(self, x):
        return x - self.mean[...]


class Needing(eqx.Module):
    def __call__(self, x, state):
        return x, state


def linen(layer):
    return lambda: mj.from_linen(LinenNet(layer), X)


def of_nnx(layer):
    return lambda: mj.from_nnx(lambda rngs: NNXNet(layer(rngs), rngs))


def evaluating(rngs):
    net = NNXNet(nnx.BatchNorm(WIDTH, rngs=rngs), rngs)
    net.eval()
    return net


def normed(key):
    norm = eqx.nn.BatchNorm(WIDTH, "batch", mode="batch")
    return eqx.nn.Sequential([eqx.nn.Linear(WIDTH, WIDTH, key=key), norm])


STATEFUL = {
    "linen-norm": (linen(nn.BatchNorm(use_running_average=True)), "layer.*BatchNorm"),
    "linen-counter": (linen(Counter()), r"layer \(Counter\)"),
    "linen-spectral": (linen(Spectral()), "SpectralNorm"),
    "linen-cache": (linen(Decoding()), "MultiHeadDotProductAttention"),
    "nnx-norm": (
        of_nnx(lambda rngs: nnx.BatchNorm(WIDTH, use_running_average=True, rngs=rngs)),
        r"layer layer \(BatchNorm\)",
    ),
    "nnx-eval": (lambda: mj.from_nnx(evaluating), r"layer layer \(BatchNorm\)"),
    "nnx-counter": (of_nnx(lambda rngs: NNXCounter()), r"layer \(NNXCounter\)"),
    "nnx-mean": (of_nnx(lambda rngs: NNXMean()), r"layer \(NNXMean\)"),
    "nnx-spectral": (
        of_nnx(
            lambda rngs: nnx.SpectralNorm(
                nnx.Linear(WIDTH, WIDTH, rngs=rngs), rngs=rngs
            )
        ),
        r"layer layer \(SpectralNorm\)",
    ),
    "equinox-norm": (lambda: mj.from_equinox(normed), r"layers\[1\] \(BatchNorm\)"),
    "equinox-with-state": (
        lambda: mj.from_equinox(lambda key: eqx.nn.make_with_state(normed)(key)),
        r"layers\[1\] \(BatchNorm\)",
    ),
    "equinox-spectral": (
        lambda: mj.from_equinox(
            lambda key: eqx.nn.SpectralNorm(
                eqx.nn.Linear(WIDTH, 1, key=key), "weight", key=key
            )
        ),
        "SpectralNorm",
    ),
    "equinox-own": (lambda: mj.from_equinox(lambda key: Needing()), "Needing"),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_state_is_refused_by_the_name_of_its_layer(name, relaxed):
    build, layer = STATEFUL[name]
    with pytest.raises(mj.InputError, match=layer) as refused:
        model = build()
        model.apply(model.init(KEY), X)
    assert "GroupNorm" in str(refused.value)
    if name.endswith("norm"):
        with pytest.raises(mj.InputError):
            build()


@pytest.mark.parametrize(
    "build",
    [
        linen(nn.BatchNorm(use_running_average=False)),
        lambda: mj.from_linen(
            nn.Sequential([nn.remat(nn.BatchNorm)(use_running_average=False)]), X
        ),
        of_nnx(lambda rngs: nnx.BatchNorm(WIDTH, rngs=rngs)),
    ],
)
def test_norms_by_the_current_batch_are_taken(build, relaxed):
    model = build()
    params = model.init(KEY)
    x = jax.random.normal(KEY, X.shape)
    np.testing.assert_allclose(
        model.apply(params, x), model.apply(params, 3 * x + 1), atol=1e-2
    )


@pytest.mark.parametrize(
    "build, mend",
    [
        (lambda: mj.from_linen(LinenDropout(), X, training={"train": True}), "train"),
        (
            lambda: mj.from_linen(
                Switched(), X, training={"double": True}, predicting={"double": False}
            ),
            "leave predicting out",
        ),
        (lambda: mj.from_nnx(AlwaysNoisy), "deterministic"),
        (lambda: mj.from_equinox(lambda key: StubbornKey()), "inference"),
        (lambda: mj.from_equinox(lambda key: HoldsKey(key)), "key_data"),
        (lambda: mj.from_nnx(NNXHoldsKey), r"NNXHoldsKey\) draws from a PRNG key"),
    ],
)
def test_what_cannot_be_predicted_with_is_refused(build, mend, relaxed):
    with pytest.raises(mj.InputError, match=mend):
        model = build()
        model.apply(model.init(KEY), mj.Keyed(X, KEYS))


class Switched(nn.Module):
    @nn.compact
    def __call__(self, x, double):
        return nn.Dense(1)(2 * x if double else x)


class AlwaysNoisy(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x):
        return x + jax.random.normal(self.rngs.noise(), x.shape)


class StubbornKey(eqx.Module):
    def __call__(self, x, key):
        return x + jax.random.normal(key, x.shape)


class NNXHoldsKey(nnx.Module):
    def __init__(self, rngs):
        self.key = nnx.Variable(rngs.params())

    def __call__(self, x):
        return x + jax.random.normal(self.key[...], x.shape)


class HoldsKey(eqx.Module):
    key: jax.Array

    def __call__(self, x):
        return x + jax.random.normal(self.key, x.shape)


def test_looking_goes_into_calls_and_loops():
    def call(state, x):
        def body(carry, _):
            mean, kept, y = carry
            return (mean, kept + 1, jax.jit(jnp.sin)(y) + mean), None

        same = jax.jit(lambda s: (s["kept"], s["unread"]))(state)
        carry = (state["mean"], same[0], x)
        (mean, kept, y), _ = jax.lax.scan(body, carry, length=2)
        y = jax.lax.cond(x > 0, lambda y, d: y, lambda y, d: y * 2, y, state["unread"])
        return y, {"mean": mean, "kept": kept, "unread": same[1]}

    state = {"mean": 1.0, "kept": 1.0, "unread": 1.0}
    looked = dependence(call, state, 1.0)
    assert looked.read == ({"mean": True, "kept": False, "unread": False}, True)
    assert looked.changed["kept"] and not looked.changed["unread"]
