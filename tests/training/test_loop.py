import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.ops import tune
from metajax.training import dispatching, fitting
from metajax.training.checkpoints import Checkpoints
from metajax.training.programs import many_steps
from metajax.types import Batch, Episode
from tests.helpers import (
    KEY,
    compilations,
    image_episode,
    lenient,
    relative,
    small_conv,
)

LEARNER = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 1)
EPISODES = mj.data.sinusoid(5, 5)
ADAM = lenient(optax.adam(1e-2))
SETTINGS = dict(steps=12, tasks=4, steps_per_call=5, checkpoint_every=4)


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
    )


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.began, self.steps, self.losses = None, [], []

    def start(self, state):
        self.began = int(state.step)

    def record(self, state, metrics):
        self.steps.append(int(state.step))
        self.losses += metrics["loss"].tolist()


def test_fit_is_the_python_loop():
    init_key, data_key = jax.random.split(jax.random.key(3))
    step = mj.train_step(LEARNER, ADAM)
    state = mj.init_state(LEARNER, ADAM, init_key)
    losses = []
    for i in range(12):
        batch = EPISODES(jax.random.fold_in(data_key, i), 4)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    notes = Notes()
    ours = mj.fit(LEARNER, ADAM, EPISODES, seed=3, observers=[notes], **SETTINGS)
    assert int(ours.step) == 12
    assert relative(ours.meta, state.meta) < 1e-5
    np.testing.assert_allclose(notes.losses, losses, rtol=1e-4)
    assert notes.began == 0 and notes.steps == [4, 5, 8, 10, 12]


def test_the_number_of_steps_a_call_changes_nothing():
    settings = SETTINGS | dict(steps_per_call=1)
    one = mj.fit(LEARNER, ADAM, EPISODES, **settings)
    assert same(one, mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS))


def test_heavier_steps_make_shorter_calls(monkeypatch):
    settings = dict(steps=12, tasks=4, checkpoint_every=100)
    for budget, expected in ((1e12, [12]), (2.5e5, [5, 10, 12]), (1.0, range(1, 13))):
        monkeypatch.setattr(dispatching, "CPU_BYTES", budget)
        notes = Notes()
        mj.fit(LEARNER, ADAM, EPISODES, observers=[notes], **settings)
        assert notes.steps == list(expected)


def test_saves_when_the_next_checkpoint_is_far(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVED_WITHIN", 0.0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    settings = SETTINGS | dict(checkpoint_every=100)
    mj.fit(LEARNER, ADAM, EPISODES, checkpoints=checkpoints, **settings)
    assert checkpoints.steps() == [5, 10, 12]


def test_resumes_bit_for_bit(tmp_path):
    whole = mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    mj.fit(
        LEARNER, ADAM, EPISODES, checkpoints=checkpoints, **(SETTINGS | dict(steps=7))
    )
    assert checkpoints.steps() == [4, 7]
    notes = Notes()
    resumed = mj.fit(
        LEARNER,
        ADAM,
        EPISODES,
        checkpoints=checkpoints,
        observers=[notes],
        **SETTINGS,
    )
    assert notes.began == 7
    assert same(resumed, whole)


def test_no_meta_steps_save_the_start(tmp_path):
    checkpoints, notes = Checkpoints(tmp_path / "checkpoints"), Notes()
    run = SETTINGS | dict(steps=0, checkpoints=checkpoints, observers=[notes])
    state = mj.fit(LEARNER, ADAM, EPISODES, seed=3, **run)
    start = mj.init_state(LEARNER, ADAM, jax.random.split(jax.random.key(3))[0])
    assert same(state, start) and checkpoints.steps() == [0]
    assert (notes.began, notes.steps) == (0, [])
    run["checkpoints"] = Checkpoints(tmp_path / "checkpoints")
    assert same(mj.fit(LEARNER, ADAM, EPISODES, seed=4, **run), start)
    whole = mj.fit(LEARNER, ADAM, EPISODES, seed=3, **SETTINGS)
    longer = mj.fit(LEARNER, ADAM, EPISODES, seed=3, **run | SETTINGS)
    assert same(longer, whole)


def favouring(form):
    """Tunes by a clock to which a form is the fastest."""
    return partial(tune, timer=lambda trial: 9.0 - (trial.form == form))


def unasked(*args):
    raise AssertionError("a run that goes on times nothing")


def fit_tuned(forms, steps=12, **settings):
    return mj.fit(
        LEARNER, ADAM, EPISODES, forms=forms, **(SETTINGS | {"steps": steps} | settings)
    )


def test_resumes_with_the_forms_it_began_with(tmp_path):
    taken = favouring("product")
    whole = fit_tuned(taken)  # other bits than the table's, on some versions of JAX
    for i, later in enumerate((favouring("outer"), unasked, "table", "tuned")):
        checkpoints = Checkpoints(tmp_path / str(i))
        fit_tuned(taken, 3, checkpoints=checkpoints)
        kept = checkpoints.forms()
        assert "product" in {form for _, form in kept.forms}
        assert same(fit_tuned(later, checkpoints=checkpoints), whole)
        assert checkpoints.forms() == kept


def test_forms_are_kept_before_the_first_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(mj.StoppedError):
        fit_tuned(favouring("product"), checkpoints=checkpoints, stop=lambda: True)
    assert checkpoints.steps() == [0]
    resumed = fit_tuned(unasked, checkpoints=checkpoints)
    assert same(resumed, fit_tuned(favouring("product")))


def test_a_run_of_the_table_stays_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    fit_tuned("table", 3, checkpoints=checkpoints)
    resumed = fit_tuned(unasked, checkpoints=checkpoints)
    assert same(resumed, fit_tuned("table")) and checkpoints.forms() is None


def test_forms_that_will_not_do(tmp_path):
    with pytest.raises(mj.InputError, match="forms must be"):
        fit_tuned("fastest")

    class Old:
        def save(self, state): ...

        def restore(self, like): ...

    with pytest.raises(mj.InputError, match="keep_forms"):
        fit_tuned(unasked, checkpoints=Old())
    (tmp_path / "forms.json").write_text("{")
    with pytest.raises(mj.InputError, match="damaged"):
        fit_tuned("table", checkpoints=Checkpoints(tmp_path))


def test_another_seed_is_another_run():
    one, two = (mj.fit(LEARNER, ADAM, EPISODES, seed=s, **SETTINGS) for s in (0, 1))
    assert relative(one.meta, two.meta) > 0.1


def test_one_dispatch_and_no_second_compilation():
    run = many_steps(mj.train_step(LEARNER, ADAM), tasks=4, most=5)
    state = mj.init_state(LEARNER, ADAM, KEY)
    with compilations() as first:
        state, metrics = run(state, EPISODES, KEY, 5)
    # The whole of five meta-steps, sampling included, is this one program.
    assert len(first) == 1
    assert int(state.step) == 5 and metrics["loss"].shape == (5,)
    with compilations() as second:
        state, _ = run(state, EPISODES, KEY, 8)
    assert int(state.step) == 8 and not second


def test_a_second_fit_compiles_nothing():
    mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS)
    with compilations() as count:
        mj.fit(LEARNER, ADAM, EPISODES, seed=5, **(SETTINGS | dict(steps=9)))
    assert not count


def test_the_state_is_donated():
    run = many_steps(mj.train_step(LEARNER, ADAM), tasks=4, most=5)
    state = mj.init_state(LEARNER, ADAM, KEY)
    run(state, EPISODES, KEY, 5)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_takes_a_plain_function_as_sampler():
    def episodes(key, tasks):
        return EPISODES(key, tasks)

    plain = mj.fit(LEARNER, ADAM, episodes, **SETTINGS)
    assert same(plain, mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS))


def test_learns_to_classify():
    """Above chance on classes that were not trained on."""
    learner = mj.maml(
        small_conv(),
        mj.cross_entropy,
        optax.sgd(0.2),
        1,
        metrics={"accuracy": mj.accuracy},
    )

    def episodes(key, tasks):
        return jax.vmap(image_episode)(jax.random.split(key, tasks))

    state = mj.fit(learner, ADAM, episodes, steps=60, tasks=4, steps_per_call=60)
    found = mj.evaluate(learner, state.meta, episodes, tasks=50, seed=9)
    assert found.transductive.mean[-1] > 0.45 > 0.4 > found.transductive.mean[0]


def explode(at):
    """Episodes whose targets are infinite at one meta-step."""
    _, data_key = jax.random.split(jax.random.key(0))
    bad = jax.random.key_data(jax.random.fold_in(data_key, at))

    def episodes(key, tasks):
        batch = EPISODES(key, tasks)
        hit = jnp.all(jax.random.key_data(key) == bad)
        query = batch.query._replace(
            targets=jnp.where(hit, jnp.inf, batch.query.targets)
        )
        return batch._replace(query=query)

    return episodes


def test_stops_at_a_loss_that_is_not_finite_and_keeps_the_last_good_state(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    good = mj.fit(LEARNER, ADAM, explode(at=99), **(SETTINGS | dict(steps=6)))
    with pytest.raises(
        mj.NonFiniteError, match=r"meta-step 7 is not finite .*inf"
    ) as caught:
        mj.fit(
            LEARNER,
            ADAM,
            explode(at=6),
            checkpoints=checkpoints,
            observers=[notes := Notes()],
            **SETTINGS,
        )
    assert notes.steps == [4, 5, 6] and np.isfinite(notes.losses).all()
    assert int(caught.value.state.step) == 6
    assert same(caught.value.state, good)
    assert checkpoints.steps() == [4, 6]
    assert same(checkpoints.restore(good), good)


def test_stops_before_an_update_that_is_not_finite():
    with pytest.raises(mj.NonFiniteError, match="meta-step 1 is not finite") as caught:
        mj.fit(LEARNER, optax.sgd(3e38), EPISODES, **SETTINGS)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(caught.value.state.meta))


def test_refuses_bad_input_before_compiling():
    classify = mj.maml(small_conv(ways=2), mj.cross_entropy, optax.sgd(0.1), 1)

    def three_ways(key, tasks):
        return jax.vmap(image_episode)(jax.random.split(key, tasks))

    def uneven(key, tasks):
        batch = EPISODES(key, tasks)
        support = Batch(batch.support.inputs[:, 1:], batch.support.targets)
        return Episode(support, batch.query)

    with pytest.raises(mj.InputError, match=r"labels must lie in 0\.\.1 .* got 0\.\.2"):
        mj.fit(classify, ADAM, three_ways, **SETTINGS)
    with pytest.raises(mj.InputError, match="must agree on the number of examples"):
        mj.fit(LEARNER, ADAM, uneven, **SETTINGS)
    with pytest.raises(mj.InputError, match="must return an Episode"):
        mj.fit(LEARNER, ADAM, lambda key, tasks: EPISODES(key, tasks)[0], **SETTINGS)
    with pytest.raises(mj.InputError, match="leaf of a meta-batch must have shape"):
        mj.fit(LEARNER, ADAM, lambda key, tasks: EPISODES(key, tasks + 1), **SETTINGS)
    with pytest.raises(mj.InputError, match="tasks must be a whole number"):
        mj.fit(LEARNER, ADAM, EPISODES, **(SETTINGS | dict(tasks=0)))
    with pytest.raises(mj.InputError, match="tasks_per_chunk must be a whole"):
        mj.fit(LEARNER, ADAM, EPISODES, tasks_per_chunk=0, **SETTINGS)


def test_a_run_that_is_stopped_is_saved_and_goes_on(tmp_path):
    whole = mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    asked = iter([False, False, True])
    with pytest.raises(mj.StoppedError, match="after 5 of 12 meta-steps") as stopped:
        mj.fit(
            LEARNER,
            ADAM,
            EPISODES,
            checkpoints=checkpoints,
            stop=lambda: next(asked),
            **SETTINGS,
        )
    assert checkpoints.steps() == [4, 5]
    assert same(checkpoints.restore(whole), stopped.value.state)
    again = mj.fit(LEARNER, ADAM, EPISODES, checkpoints=checkpoints, **SETTINGS)
    assert same(again, whole)


def test_a_run_without_checkpoints_stops_too():
    with pytest.raises(mj.StoppedError) as stopped:
        mj.fit(LEARNER, ADAM, EPISODES, stop=lambda: True, **SETTINGS)
    assert int(stopped.value.state.step) == 0


class Simple:
    """A checkpointer of one's own, which writes nothing and may fail."""

    def __init__(self, before=lambda state: None):
        self.steps, self._before = [], before

    def save(self, state):
        self._before(state)
        self.steps.append(int(state.step))

    def restore(self, like):
        return None


def test_a_save_holds_nothing_up_and_sees_nothing_change():
    trained_on = threading.Event()

    class Ahead(Notes):
        def record(self, state, metrics):
            super().record(state, metrics)
            if self.steps[-1] > 4:
                trained_on.set()

    def slow(state):
        before = jax.tree.map(np.copy, state)
        assert trained_on.wait(60), "training waited for the save"
        assert same(state, before)

    checkpoints = Simple(slow)
    mj.fit(
        LEARNER,
        ADAM,
        EPISODES,
        checkpoints=checkpoints,
        observers=[Ahead()],
        **SETTINGS,
    )
    assert checkpoints.steps == [4, 8, 12], "the last was waited for"


@pytest.mark.parametrize("bad, told", [(4, 8), (12, 12)])
def test_a_save_that_fails_ends_training(bad, told):
    def full(state):
        if int(state.step) == bad:
            raise OSError("no space left")

    notes, checkpoints = Notes(), Simple(full)
    with pytest.raises(OSError, match="no space left"):
        mj.fit(
            LEARNER,
            ADAM,
            EPISODES,
            checkpoints=checkpoints,
            observers=[notes],
            **SETTINGS,
        )
    assert notes.steps[-1] == told


def test_a_save_that_fails_is_told_of_rather_than_the_stop():
    def full(state):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        mj.fit(
            LEARNER,
            ADAM,
            EPISODES,
            checkpoints=Simple(full),
            stop=lambda: True,
            **SETTINGS,
        )
    assert isinstance(caught.value.__context__, mj.StoppedError)
