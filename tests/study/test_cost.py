"""The plan of a configuration against what the compiler says of others."""

import jax
import optax
import pytest

import metajax as mj
from metajax import study
from metajax.study import cost
from tests.helpers import KEY

MODEL = mj.mlp(inputs=1, hidden=(32, 32), outputs=1)
OUTER = optax.sgd(1e-3)
TASKS, STEPS, CHUNK = 8, 3, 2


def build(steps):
    return mj.maml(MODEL, mj.mse, optax.sgd(0.01), steps)


@pytest.fixture(scope="module")
def episodes():
    return mj.data.sinusoid(5, 5)(KEY, TASKS)


def planned(episodes, **settings):
    how = {"steps": STEPS, "tasks_per_chunk": CHUNK, "devices": 1} | settings
    return study.plan(build, OUTER, episodes, **how)


def compiled_bytes(episodes, steps, chunk):
    learner = build(steps)
    state = mj.init_state(learner, OUTER, KEY)
    step = jax.jit(mj.train_step(learner, OUTER, tasks_per_chunk=chunk))
    memory = step.lower(state, episodes).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


@pytest.mark.parametrize("steps, chunk", [(STEPS, CHUNK), (9, CHUNK), (STEPS, 4)])
def test_memory_is_foreseen(episodes, steps, chunk):
    found = planned(episodes)
    foreseen = (
        found.temporary_bytes
        + (steps - STEPS) * found.bytes_per_step
        + (chunk - CHUNK) * found.bytes_per_task
    )
    truth = compiled_bytes(episodes, steps, chunk)
    assert foreseen == pytest.approx(truth, rel=0.15)
    assert found.bytes_per_step > 0 and found.bytes_per_task > 0


def test_what_does_not_fit_is_said(episodes, monkeypatch):
    roomy = planned(episodes)
    assert roomy.fits and roomy.largest_at_once >= CHUNK
    needed = roomy.state_bytes + roomy.temporary_bytes
    monkeypatch.setattr(cost, "available_bytes", lambda: needed)
    assert planned(episodes).fits
    monkeypatch.setattr(cost, "available_bytes", lambda: needed - 1)
    tight = planned(episodes)
    assert not tight.fits
    assert tight.largest_at_once < roomy.largest_at_once
    assert tight.largest_meta_batch < roomy.largest_meta_batch
    assert "does NOT fit" in str(tight)


def test_time_is_that_of_all_rounds_and_steps(episodes, monkeypatch):
    timed = []

    def seconds(step, state, batch):
        timed.append(len(batch.support.inputs))
        return 2.0 * len(timed)  # 2 s of two inner steps, 4 s of four

    monkeypatch.setattr(cost, "_seconds", seconds)
    found = planned(episodes)
    assert timed == [2 * CHUNK, 2 * CHUNK]
    rounds = TASKS / (2 * CHUNK)
    assert found.seconds_per_step == rounds * 1.0
    assert found.seconds == rounds * (2.0 + (STEPS - 2) * 1.0)


def test_a_container_may_have_less_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "CONTAINER", tmp_path)
    free = cost.available_bytes()
    assert free > 2**24
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert cost.available_bytes() > 2**24
    (tmp_path / "memory.max").write_text("5000\n")
    assert cost.available_bytes() == 4000


@pytest.mark.parametrize("bad", [{"devices": 0}, {"tasks_per_chunk": 0}, {"steps": -1}])
def test_a_plan_of_nothing(episodes, bad):
    with pytest.raises(mj.InputError, match="must be a whole number of at least"):
        planned(episodes, **bad)


def test_what_is_no_meta_batch_is_refused():
    with pytest.raises(mj.InputError, match="must have a leading axis of tasks"):
        planned(None)
