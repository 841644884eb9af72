"""Every policy: one step at a time, or a whole trial at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax import rl
from metajax.rl.policies import Seen, feature_count, features_of

KEY = jax.random.key(0)
OBSERVED, DIMS, STEPS = 2, 2, 9
CATEGORICAL, GAUSSIAN = rl.categorical(3), rl.gaussian(DIMS, dtype=jnp.float64)
ALIVE = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
LIVING = int(ALIVE.sum())


def feedforward(head):
    network, value = (mj.mlp(OBSERVED, (4,), n) for n in (head.inputs, 1))
    return rl.feedforward(network, head, value)


transformer = partial(rl.transformer_policy, OBSERVED, width=4, depth=2, heads=2)
weights = partial(rl.fast_weights, OBSERVED, units=16, heads=2, size=3)
snail = partial(rl.snail_policy, OBSERVED, filters=2, attention=[(4, 2), (4, 2)])
POLICIES = {
    "feedforward": feedforward(CATEGORICAL),
    "feedforward, gaussian": feedforward(GAUSSIAN),
    "gru": rl.gru(OBSERVED, CATEGORICAL, units=4),
    "gru, gaussian": rl.gru(OBSERVED, GAUSSIAN, units=4),
    "transformer": transformer(CATEGORICAL, length=20),
    "transformer, gaussian": transformer(GAUSSIAN, length=20),
    "transformer that forgets": transformer(CATEGORICAL, length=3),
    "fast weights": weights(CATEGORICAL),
    "fast weights, gaussian": weights(GAUSSIAN),
    "snail": snail(CATEGORICAL, length=20),
    "snail that forgets": snail(CATEGORICAL, length=2),
}
REMEMBERS = [name for name in POLICIES if not name.startswith("feedforward")]

# Blocks of 3 tokens, two of them; blocks of 2, three of them: 5 and 4 steps.
FORGETS = {"transformer that forgets": 5, "snail that forgets": 4}


@pytest.fixture(autouse=True)
def always(float64):
    pass


def started(policy, seed=0):
    """Parameters of which none is zero."""
    draw = np.random.default_rng(seed).normal
    shapes = jax.eval_shape(policy.init, KEY)
    return jax.tree.map(lambda x: jnp.array(draw(size=x.shape)), shapes)


def steps_of(head, seed=0):
    rng = np.random.default_rng(seed)
    discrete = head.actions == 3
    action = rng.integers(-1, 3, STEPS) if discrete else rng.normal(size=(STEPS, DIMS))
    return Seen(
        jnp.array(rng.normal(size=(STEPS, OBSERVED))),
        jnp.array(action, jnp.int32 if discrete else jnp.float64),
        jnp.array(rng.normal(size=STEPS)),
        jnp.array(rng.integers(0, 2, STEPS), jnp.float64),
    )


def one_by_one(policy, params, memory, seen, alive):
    """The outputs of `apply`, which remembers the steps that are alive."""

    def step(memory, now):
        seen, alive = now
        outputs, after = policy.apply(params, memory, seen)
        kept = jax.tree.map(partial(jnp.where, alive), after, memory)
        return kept, outputs

    return jax.lax.scan(step, memory, (seen, alive))


def agree(ours, theirs, alive=ALIVE):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a[alive], b[alive], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_unroll_is_apply_one_by_one(name):
    policy = POLICIES[name]
    params, seen = started(policy), steps_of(policy.head)
    middle = 4

    @jax.jit
    def run(params, seen, alive):
        start = policy.start(params)
        _, slowly = one_by_one(policy, params, start, seen, alive)
        first, rest = (
            jax.tree.map(lambda x: x[part], (seen, alive))
            for part in (slice(middle), slice(middle, None))
        )
        memory, _ = one_by_one(policy, params, start, *first)
        at_once = policy.unroll(params, start, seen, alive)
        return slowly, at_once, policy.unroll(params, memory, *rest)

    slowly, at_once, later = run(params, seen, jnp.array(ALIVE))
    agree(at_once, slowly)
    agree(later, jax.tree.map(lambda x: x[middle:], slowly), ALIVE[middle:])
    assert np.std(at_once.value) > 0


@pytest.mark.parametrize("name", POLICIES)
def test_dead_steps_change_nothing(name):
    policy = POLICIES[name]
    params, seen = started(policy), steps_of(policy.head)
    run = jax.jit(policy.unroll)
    start = policy.start(params)
    whole = run(params, start, seen, jnp.array(ALIVE))
    other = jax.tree.map(
        lambda x, y: jnp.where(ALIVE.reshape(-1, *[1] * (x.ndim - 1)), x, y),
        seen,
        steps_of(policy.head, seed=1),
    )
    agree(run(params, start, other, jnp.array(ALIVE)), whole)
    only = jax.tree.map(lambda x: x[ALIVE], (seen, whole))
    living = np.ones(LIVING, bool)
    agree(run(params, start, only[0], jnp.array(living)), only[1], living)


@pytest.mark.parametrize("name", POLICIES)
def test_vmap_over_trials(name):
    policy = POLICIES[name]
    params = started(policy)
    trials = jax.tree.map(
        lambda *x: jnp.stack(x), *(steps_of(policy.head, seed) for seed in (0, 1))
    )
    alive = jnp.array([ALIVE, ~ALIVE])

    def unroll(seen, alive):
        return policy.unroll(params, policy.start(params), seen, alive)

    both, run = jax.jit(jax.vmap(unroll))(trials, alive), jax.jit(unroll)
    for i in range(2):
        own, seen = jax.tree.map(lambda x: x[i], (both, trials))
        agree(own, run(seen, alive[i]), np.array(alive[i]))


@pytest.mark.parametrize("name", POLICIES)
def test_the_memory_of_a_trial_begins_empty(name):
    policy = POLICIES[name]
    memories = [policy.start(started(policy, seed)) for seed in (0, 1)]
    for a, b in zip(*map(jax.tree.leaves, memories), strict=True):
        assert not a.any() and not b.any()


@pytest.mark.parametrize("name", REMEMBERS)
def test_all_that_was_seen_is_remembered(name):
    policy = POLICIES[name]
    params, seen = started(policy), steps_of(policy.head)
    alive = jnp.ones(STEPS, bool)
    run = jax.jit(lambda seen: policy.unroll(params, policy.start(params), seen, alive))
    before = run(seen).value
    for part in Seen._fields:
        other = seen._replace(**{part: getattr(seen, part).at[1].add(1)})
        changed = np.array(run(other).value != before)
        np.testing.assert_array_equal(changed[1:3], True)
        assert not changed[0] and not changed[FORGETS.get(name, STEPS) + 1 :].any()


def test_features_of_a_step():
    last = Seen(jnp.array([[0.1], [0.2]]), jnp.int32(2), jnp.array(0.3), jnp.array(1.0))
    assert features_of(last, 3).tolist() == [0.1, 0.2, 0, 0, 1, 0.3, 1]
    first = last._replace(action=rl.bernoulli_bandit(3).no_action)
    assert features_of(first, 3).tolist() == [0.1, 0.2, 0, 0, 0, 0.3, 1]
    moved = last._replace(action=jnp.array([[4.0, 5.0]]))
    assert features_of(moved, (1, 2)).tolist() == [0.1, 0.2, 4, 5, 0.3, 1]
    assert feature_count(2, 3) == 7 and feature_count(2, (1, 2)) == 6


@pytest.mark.parametrize("build", [rl.transformer_policy, rl.snail_policy])
def test_refuses_a_memory_of_nothing(build):
    said = "^length must be a whole number of at least 1, got 0$"
    with pytest.raises(mj.InputError, match=said):
        build(2, rl.categorical(3), length=0)
