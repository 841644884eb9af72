"""MAML on policies: its parts against one another, and its gradient, in float64."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import rl
from tests.helpers import relative

KEY = jax.random.key(0)
HORIZON, COUNT, GAMMA = 3, 4, 0.9
POINT, MDP = rl.navigation(horizon=HORIZON), rl.tabular_mdp(3, 2, HORIZON)
WIDE = {"dtype": jnp.float64}


def feedforward(environment, head, *, value=False):
    size = environment.observation_size
    network, values = (
        mj.mlp(size, (4,), outputs, activation=jnp.tanh, **WIDE)
        for outputs in (head.inputs, 1)
    )
    return rl.feedforward(network, head, values if value else None)


def attentive(environment, head):
    return rl.transformer_policy(
        environment.observation_size, head, length=HORIZON, width=4, depth=1, heads=2
    )


GAUSSIAN, CATEGORICAL = rl.gaussian(2, **WIDE), rl.categorical(2)


@pytest.fixture(autouse=True)
def always(float64):
    pass


def sampling_of(environment, policy, **settings):
    settings = {"trajectories": COUNT, "discount": GAMMA} | settings
    return rl.sampling(environment, policy, **settings)


def learner_of(steps, policy=None, environment=POINT, **settings):
    policy = policy or feedforward(POINT, GAUSSIAN)
    sampling = sampling_of(environment, policy)
    return mj.maml_rl(sampling, optax.sgd(0.5), steps, **settings)


def one_trial(environment=POINT):
    return jax.tree.map(lambda x: x[0], rl.trials(environment)(KEY, 1))


def drawn(learner):
    draw = np.random.default_rng(0).normal
    shapes = jax.eval_shape(learner.init, KEY)
    return jax.tree.map(lambda x: jnp.array(draw(size=x.shape) / 2), shapes)


def value_and_grad(learner):
    return jax.jit(jax.value_and_grad(learner.loss, has_aux=True))


@cache
def collected(steps):
    """Meta-parameters, what a learner collects by them, and its loss and gradient."""
    learner = learner_of(steps)
    meta = drawn(learner)
    held = jax.jit(learner.collect)(meta, one_trial())
    return meta, held, value_and_grad(learner)(meta, held)


@pytest.mark.parametrize("steps", [0, 2])
def test_collect_then_loss_is_the_loss_of_the_trial(steps):
    meta, _, ours = collected(steps)
    theirs = value_and_grad(learner_of(steps))(meta, one_trial())
    assert relative(ours, theirs) < 1e-12
    assert set(ours[0][1]) == ({"return", "before"} if steps else {"return"})


CASES = {
    "gaussian": (lambda: feedforward(POINT, GAUSSIAN), POINT, {}),
    "dice": (lambda: feedforward(POINT, GAUSSIAN), POINT, {"inner": rl.dice}),
    "presampling": (lambda: feedforward(MDP, CATEGORICAL), MDP, {"presampling": True}),
    "value": (
        lambda: feedforward(MDP, CATEGORICAL, value=True),
        MDP,
        {"value_weight": 0.5, "outer": rl.clipped()},
    ),
    "attention": (lambda: attentive(MDP, CATEGORICAL), MDP, {}),
    "memory": (
        lambda: rl.gru(MDP.observation_size, CATEGORICAL, units=3),
        MDP,
        {"inner": rl.loaded_dice()},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_meta_gradient_is_reverse_over_reverse(name):
    build, environment, settings = CASES[name]
    policy, trial = build(), one_trial(environment)
    exact, reverse = (
        learner_of(2, policy, environment, grad=grad, **settings)
        for grad in (mj.exact, mj.reverse)
    )
    meta = drawn(exact)
    held = jax.jit(exact.collect)(meta, trial)
    ours, theirs = (value_and_grad(learner)(meta, held) for learner in (exact, reverse))
    assert relative(ours, theirs) < 1e-10


def test_the_second_order_matters():
    meta, held, theirs = collected(2)
    ours = value_and_grad(learner_of(2, grad=mj.first_order))(meta, held)
    assert relative(ours[0], theirs[0]) < 1e-12
    assert relative(ours[1], theirs[1]) > 1e-3


def plain_loss(policy, params, sampled):
    """The policy gradient's loss from `apply`, one step after another."""
    head, total, sampled = policy.head, 0.0, jax.device_get(sampled)
    for row in range(COUNT):
        memory = policy.start(params)
        for t in range(HORIZON):
            seen, action, alive, advantage = jax.tree.map(
                lambda x, row=row, t=t: x[row, t],
                (*sampled.steps[:2], sampled.steps.alive, sampled.advantages),
            )
            outputs, after = policy.apply(params, memory, seen)
            if alive:
                total -= head.log_prob(outputs.action, action) * advantage
                memory = after
    return total / (COUNT * HORIZON)


@pytest.mark.parametrize("policy", ["feedforward", "gru"])
def test_without_steps_it_is_the_plain_policy_gradient(policy):
    if policy == "gru":
        policy = rl.gru(MDP.observation_size, CATEGORICAL, units=3)
    else:
        policy = feedforward(MDP, CATEGORICAL)
    learner = learner_of(0, policy, MDP)
    meta = drawn(learner)
    held = jax.jit(learner.collect)(meta, one_trial(MDP))
    (_, metrics), ours = value_and_grad(learner)(meta, held)
    plain = jax.jit(jax.grad(lambda params: plain_loss(policy, params, held.outer)))
    theirs = plain(meta)
    assert relative(ours, theirs) < 1e-10
    returns = held.outer.steps.reward.sum(1)
    np.testing.assert_allclose(metrics["return"], returns.mean(), rtol=1e-12)


def test_one_step_is_a_step_along_the_plain_policy_gradient():
    policy = feedforward(POINT, GAUSSIAN)
    learner = learner_of(1, policy)
    meta, trial = drawn(learner), one_trial()
    held = jax.jit(learner.collect)(meta, trial)
    first = jax.tree.map(lambda x: x[0], held.inner)
    plain = jax.jit(jax.grad(lambda params: plain_loss(policy, params, first)))
    gradient = plain(meta)
    theirs = jax.tree.map(lambda x, g: x - 0.5 * g, meta, gradient)
    assert relative(jax.jit(learner.adapt)(meta, trial).params, theirs) < 1e-10


def test_the_agents_of_a_trajectory_play_what_the_loss_counts():
    learner = learner_of(2)
    meta, trial = drawn(learner), one_trial()

    @jax.jit
    def run(meta):
        path = learner.trajectory(meta, trial.support)
        played = jax.vmap(learner.predict, (0, None))(path, trial)
        last = learner.predict(learner.adapt(meta, trial.support), trial)
        return path, played, last, learner.loss(meta, trial)[1]

    path, played, last, metrics = run(meta)
    assert path.step.tolist() == [0, 1, 2]
    assert relative(jax.tree.map(lambda x: x[0], path.params), meta) == 0
    returns = played.reward.sum(2).mean(1)
    np.testing.assert_allclose(returns[0], metrics["before"], rtol=1e-10)
    np.testing.assert_allclose(returns[2], metrics["return"], rtol=1e-10)
    np.testing.assert_allclose(last.reward, played.reward[2], rtol=1e-10)


def test_trajectories_are_new_at_each_step():
    _, held, _ = collected(2)
    first = held.inner.steps.action[:, :, 0].reshape(-1, 2).tolist()
    rows = [*first, *held.outer.steps.action[:, 0].tolist()]
    assert len({tuple(row) for row in rows}) == 3 * COUNT


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: learner_of(-1), "steps must be a whole number of at least 0, got -1"),
        (
            lambda: sampling_of(POINT, feedforward(POINT, GAUSSIAN), trajectories=0),
            "trajectories must be a whole number of at least 1, got 0",
        ),
        (
            lambda: sampling_of(POINT, feedforward(POINT, rl.gaussian(3))),
            "the environment takes actions of shape (2,), and the policy gives actions "
            "of shape (3,); build its head for these",
        ),
    ],
)
def test_errors(make, said):
    with pytest.raises(mj.InputError) as raised:
        make()
    assert str(raised.value) == said
