"""Recurrent inner optimizers against loops in numpy, MAML and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.learners import learned_optimizer, meta_lstm
from tests.helpers import (
    KEY,
    gradient,
    lstm_by_hand,
    preprocessed,
    relative,
    sine_episode,
    squash,
)

RATE, STEPS, HIDDEN = 0.05, 3, 3
RULES = {
    "meta-lstm": lambda: meta_lstm(RATE, HIDDEN),
    "learned-optimizer": lambda: learned_optimizer(HIDDEN),
}
every_rule = pytest.mark.parametrize("name", RULES)


@pytest.fixture
def model(float64):
    return mj.mlp(hidden=(3,), activation=jnp.tanh, dtype=jnp.float64)


@pytest.fixture
def episode(float64):
    return sine_episode(KEY, jnp.float64)


def learner_of(model, rule, steps=STEPS, **settings):
    return mj.learned_maml(model, mj.mse, rule, steps, **settings)


def spread(tree, by=0.3):
    """A tree with noise, so that no weight is zero."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(KEY, len(leaves))
    noisy = [
        x + by * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys)
    ]
    return jax.tree.unflatten(treedef, noisy)


def as_descent(rule):
    """The rule of `meta_lstm` with gates that see nothing: f = 1 and i = RATE."""
    silent = jax.tree.map(jnp.zeros_like, {k: rule[k] for k in ("forget", "rate")})
    silent["forget"]["bias"] += 50.0
    silent["rate"]["bias"] += np.log(RATE / (1 - RATE))
    return rule | silent


@pytest.mark.parametrize("grad", [mj.exact, mj.reverse, mj.first_order])
def test_meta_lstm_with_fixed_gates_is_maml(model, episode, grad):
    gated = learner_of(model, RULES["meta-lstm"](), grad=grad)
    plain = mj.maml(model, mj.mse, optax.sgd(RATE), STEPS, grad=grad)
    meta = gated.init(KEY)
    meta["inner"] = as_descent(meta["inner"])
    ours = jax.jit(gated.adapt)(meta, episode.support)
    theirs = jax.jit(plain.adapt)(meta["params"], episode.support)
    assert relative(ours, theirs) < 1e-10
    ours = gradient(gated)(meta, episode)["params"]
    assert relative(ours, gradient(plain)(meta["params"], episode)) < 1e-10


def test_meta_lstm_starts_near_descent(model, episode):
    gated = learner_of(model, meta_lstm(RATE, forget_bias=20.0))
    plain = mj.maml(model, mj.mse, optax.sgd(RATE), STEPS)
    meta = gated.init(KEY)
    theta = meta["params"]
    ours, theirs = (
        jax.tree.map(jnp.subtract, learner.adapt(start, episode.support), theta)
        for learner, start in ((gated, meta), (plain, theta))
    )
    assert relative(ours, theirs) < 0.1


def constant(value):
    """A loss that is the same for all parameters."""
    return lambda params: jnp.asarray(value)


def gated_by_hand(rule, gradients, start, values):
    """The parameters of one coordinate after the steps, as in the paper."""
    theta, h, c, f, i = start, np.zeros(HIDDEN), np.zeros(HIDDEN), 0.0, 0.0
    for g, value in zip(gradients, values):
        seen = np.array([*preprocessed(g), *preprocessed(value)])
        h, c = lstm_by_hand(rule["lstm"], seen, h, c)
        f, i = (
            squash((np.array([*h, theta, last]) @ w["kernel"] + w["bias"]).item())
            for last, w in ((f, rule["forget"]), (i, rule["rate"]))
        )
        theta = f * theta - i * g
    return theta


def learned_by_hand(rule, gradients, start, values):
    """Likewise, for `learned_optimizer`."""
    theta, states = start, [(np.zeros(HIDDEN), np.zeros(HIDDEN)) for _ in rule["lstm"]]
    for g in gradients:
        h = np.array(preprocessed(g))
        for k, weights in enumerate(rule["lstm"]):
            states[k] = lstm_by_hand(weights, h, *states[k])
            h = states[k][0]
        output = h @ rule["output"]["kernel"] + rule["output"]["bias"]
        theta += 0.1 * output.item()
    return theta


BY_HAND = {"meta-lstm": gated_by_hand, "learned-optimizer": learned_by_hand}


@every_rule
def test_a_rule_is_its_loop_over_coordinates(float64, name):
    """Arrays of two shapes, one number and a gradient of zero among them."""
    key = jax.random.split(KEY, 3)
    params = {"a": jax.random.normal(key[0], (2, 3)), "b": jnp.array(0.7)}
    gradients = {
        "a": jax.random.normal(key[1], (STEPS, 2, 3)).at[:, 0, 1].set(0.0),
        "b": jnp.array([1e-7, -20.0, 0.1]),
    }
    values = jnp.array([3.0, 0.5, 1e-6])
    inner = RULES[name]()
    rule = spread(inner.init(KEY, params))
    optimizer, found = inner.build(rule), params
    state = optimizer.init(found)
    for k in range(STEPS):
        now = jax.tree.map(lambda g: g[k], gradients)  # noqa: B023
        updates, state = optimizer.update(
            now, state, found, value_fn=constant(values[k])
        )
        found = optax.apply_updates(found, updates)
    rule = jax.tree.map(np.asarray, rule)
    for array in params:
        steps = np.asarray(gradients[array]).reshape(STEPS, -1)
        starts = np.asarray(params[array]).ravel()
        expected = [
            BY_HAND[name](rule, steps[:, j], starts[j], np.asarray(values))
            for j in range(starts.size)
        ]
        np.testing.assert_allclose(found[array].ravel(), expected, rtol=1e-10)


@every_rule
def test_the_meta_gradient_is_that_of_finite_differences(model, episode, name):
    learner = learner_of(model, RULES[name](), steps=2)
    meta = spread(learner.init(KEY))
    value = jax.jit(lambda m: learner.loss(m, episode)[0])
    check_grads(value, (meta,), order=1, modes=["rev"])


def test_the_loss_reaches_meta_lstm_and_its_meta_gradient(model, episode):
    """An offset moves L_t alone, and only through it what was adapted."""
    inner = RULES["meta-lstm"]()
    meta = spread(learner_of(model, inner).init(KEY))

    @partial(jax.jit, static_argnums=1)
    def adapted(offset, grad):
        def loss(params, batch):
            return mj.mse(model.apply(params, batch.inputs), batch.targets) + offset

        optimizer = inner.build(meta["inner"])
        last = mj.inner_loop(loss, optimizer, STEPS, grad=grad)(
            meta["params"], episode.support
        )
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(last)])

    assert relative(adapted(1.0, mj.exact), adapted(0.0, mj.exact)) > 1e-6
    step = 1e-4
    ahead, behind = (adapted(s, mj.exact) for s in (step, -step))
    for grad in (mj.exact, mj.reverse):
        found = jax.jit(jax.jacrev(adapted), static_argnums=1)(0.0, grad)
        np.testing.assert_allclose(
            found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-12
        )
    # Held constant, as the gradient is.
    held = jax.jit(jax.jacrev(adapted), static_argnums=1)(0.0, mj.first_order)
    assert not held.any()


def test_the_learned_optimizer_is_not_told_the_loss(float64):
    inner = RULES["learned-optimizer"]()
    params = jnp.ones(2)
    optimizer = inner.build(spread(inner.init(KEY, params)))
    one, other = (
        optimizer.update(
            params, optimizer.init(params), params, value_fn=lambda _: jnp.array(v)
        )[0]
        for v in (1.0, 2.0)
    )
    np.testing.assert_array_equal(one, other)


@every_rule
@pytest.mark.parametrize("grad", [mj.exact, mj.first_order])
def test_dead_coordinates_leave_the_meta_gradient_finite(name, grad):
    """ReLUs that are off give gradients of exactly zero; a perfect fit, a loss of 0."""
    model = mj.mlp(hidden=(4,))
    learner = learner_of(model, RULES[name](), grad=grad)
    slopes = gradient(learner)
    meta, episode = learner.init(KEY), sine_episode(KEY)
    off = jax.tree.map(lambda x: x - 100.0, meta["params"]["body"][0]["bias"])
    meta["params"]["body"][0]["bias"] = off
    nothing = jax.tree.map(jnp.zeros_like, episode)
    for now in (episode, nothing):
        found = jax.tree.leaves(slopes(meta, now))
        assert all(np.isfinite(x).all() for x in found)


@every_rule
def test_a_rule_serves_arrays_of_other_types(name):
    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones((1, 3), jnp.bfloat16)}
    inner = RULES[name]()
    optimizer = inner.build(inner.init(KEY, params))
    state = optimizer.init(params)
    updates, after = optimizer.update(
        params, state, params, value_fn=lambda _: jnp.array(1.0)
    )
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert kinds(updates) == kinds(params) and kinds(after) == kinds(state)


def test_bad_settings_are_refused():
    for rate in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(mj.InputError, match="rate must be above 0 and below 1"):
            meta_lstm(rate)
    with pytest.raises(mj.InputError, match="forget_bias must be a finite number"):
        meta_lstm(0.1, forget_bias=float("inf"))
    with pytest.raises(mj.InputError, match="scale must be a finite number"):
        learned_optimizer(scale=float("nan"))
    for build in (lambda n: meta_lstm(0.1, n), learned_optimizer):
        with pytest.raises(mj.InputError, match="hidden must be a whole number"):
            build(0)
    with pytest.raises(mj.InputError, match="layers must be a whole number"):
        learned_optimizer(layers=0)
