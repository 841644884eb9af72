"""A meta-step of several updates, against plain loops of `train_step`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from tests.helpers import KEY, lenient, relative

LEARNER = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
ADAM = lenient(optax.adam(1e-2))
WAVES = mj.data.sinusoid(3, 3)
TASKS = 6


def start(learner=LEARNER):
    return mj.init_state(learner, ADAM, KEY), WAVES(jax.random.key(1), TASKS)


def test_one_update_is_a_plain_step():
    state, batch = start()
    one = jax.jit(mj.repeated_step(1)(LEARNER, ADAM))
    plain = jax.jit(mj.train_step(LEARNER, ADAM))
    (ours, values), (theirs, metrics) = one(state, batch), plain(state, batch)
    assert relative(ours.meta, theirs.meta) < 1e-6 and int(ours.step) == 1
    assert values.keys() == metrics.keys()
    assert relative(values, metrics) < 1e-6


def test_epochs_of_minibatches_are_a_loop_over_parts():
    state, batch = start()
    step = jax.jit(mj.repeated_step(2, 3)(LEARNER, ADAM))
    ours, values = step(state, batch)
    plain, losses = jax.jit(mj.train_step(LEARNER, ADAM)), []
    parts = [jax.tree.map(lambda x: x[i : i + 2], batch) for i in (0, 2, 4)]
    for part in parts * 2:
        state, metrics = plain(state, part)
        losses.append(metrics["loss"])
    assert relative(ours.meta, state.meta) < 1e-5
    assert relative(ours.opt_state[0].mu, state.opt_state[0].mu) < 1e-5
    assert int(ours.opt_state[0].count) == 6
    np.testing.assert_allclose(values["loss"], np.mean(losses), rtol=1e-5)
    assert int(ours.step) == 1 and int(state.step) == 6


def test_what_is_collected_is_prepared_once_for_all_tasks():
    def double(tasks):
        assert tasks.query.targets.shape[0] == TASKS
        query = tasks.query._replace(targets=2 * tasks.query.targets)
        return tasks._replace(query=query)

    state, batch = start()
    ours, _ = jax.jit(mj.repeated_step(1, prepare=double)(LEARNER, ADAM))(state, batch)
    plain, _ = jax.jit(mj.train_step(LEARNER, ADAM))(state, double(batch))
    assert relative(ours.meta, plain.meta) < 1e-6


def test_data_are_collected_by_the_parameters_before_the_first_update():
    """Targets that are what the meta-parameters were: updates must not move them."""

    def collect(meta, task):
        return task._replace(query=jax.lax.stop_gradient(meta) + task.query)

    def loss(meta, task):
        return jnp.sum((meta - task.query) ** 2), {"target": task.query[0]}

    learner = LEARNER._replace(init=lambda key: jnp.ones(1), collect=collect, loss=loss)
    state = mj.init_state(learner, optax.sgd(0.1), KEY)
    tasks = mj.Episode(jnp.zeros((4, 1)), jnp.full((4, 1), 2.0))
    step = mj.repeated_step(3)(learner, optax.sgd(0.1))
    after, metrics = jax.jit(step)(state, tasks)
    assert float(metrics["target"]) == 3.0
    np.testing.assert_allclose(after.meta, 3 - 2 * 0.8**3, rtol=1e-6)


def test_a_schedule_sees_the_meta_step():
    def schedule(step):
        def loss(meta, task):
            value, _ = LEARNER.loss(meta, task)
            return value, {"step": step.astype(jnp.float32)}

        def collect(meta, task):
            return task._replace(
                support=task.support._replace(
                    targets=task.support.targets + step.astype(jnp.float32)
                )
            )

        return LEARNER._replace(loss=loss, collect=collect)

    state, batch = start()
    step = jax.jit(mj.repeated_step(2, 3)(schedule, ADAM))
    for number in range(3):
        state, metrics = step(state, batch)
        assert float(metrics["step"]) == number and int(state.step) == number + 1


def test_fit_repeats():
    settings = dict(steps=3, tasks=TASKS, seed=2, steps_per_call=2, devices=1)
    state = mj.fit(LEARNER, ADAM, WAVES, make_step=mj.repeated_step(2, 3), **settings)
    init, data = jax.random.split(jax.random.key(2))
    ours, step = mj.init_state(LEARNER, ADAM, init), mj.train_step(LEARNER, ADAM)
    plain = jax.jit(step)
    for number in range(3):
        batch = WAVES(jax.random.fold_in(data, number), TASKS)
        for i in (0, 2, 4) * 2:
            ours, _ = plain(ours, jax.tree.map(lambda x: x[i : i + 2], batch))  # noqa: B023
    assert relative(state.meta, ours.meta) < 1e-4 and int(state.step) == 3


def test_tasks_that_cannot_be_parted():
    step = mj.repeated_step(2, 4)
    with pytest.raises(mj.InputError, match="6 tasks .* multiple of the 4 minibatches"):
        mj.fit(LEARNER, ADAM, WAVES, steps=1, tasks=TASKS, make_step=step)


@pytest.mark.parametrize(
    "numbers, message",
    [((0,), "epochs must"), ((2.5,), "epochs must"), ((1, 0), "minibatches must")],
)
def test_bad_numbers(numbers, message):
    with pytest.raises(mj.InputError, match=message):
        mj.repeated_step(*numbers)


def test_equal_ones_are_equal():
    """So that a second `fit` compiles nothing."""
    assert mj.repeated_step(2, 3) == mj.repeated_step(2, 3) != mj.repeated_step(2)
