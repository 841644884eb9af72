"""How a run ends that something stops: with the right error, saved, and no thread."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.training import dispatches, feeding
from metajax.training.checkpoints import Checkpoints
from metajax.training.saving import saved_on_error
from metajax.training.state import TrainState
from metajax.types import Batch, Episode
from tests.helpers import KEY

LEARNER = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
SGD = optax.sgd(0.1)
SETTINGS = dict(steps=6, tasks=2, steps_per_call=1)
X = np.ones((2, 3, 1), np.float32)
BATCH = Episode(Batch(X, X), Batch(X, X))


class Slow:
    """An iterable of one's own, whose iterator is asleep most of the time."""

    def __init__(self, *items, pause=0.0):
        self.items, self.pause, self.begun, self.closed = items, pause, 0, 0

    def __iter__(self):
        self.begun += 1
        try:
            for item in self.items:
                time.sleep(self.pause)
                yield item
        finally:
            self.closed += 1


class Failing:
    """An observer that raises."""

    def __init__(self, error):
        self.error = error

    def start(self, state):
        pass

    def record(self, state, metrics):
        raise self.error


def feeding_threads():
    return [x for x in threading.enumerate() if x.name.startswith("metajax-feed")]


def stopping():
    asked = iter([False])
    return lambda: next(asked, True)


@pytest.mark.parametrize(
    "error, settings",
    [
        (mj.StoppedError, dict(stop=stopping())),
        (ZeroDivisionError, dict(observers=[Failing(ZeroDivisionError())])),
        (KeyboardInterrupt, dict(observers=[Failing(KeyboardInterrupt())])),
    ],
)
def test_what_is_reading_is_waited_for(error, settings, tmp_path):
    slow, checkpoints = Slow(*[BATCH] * 6, pause=0.3), Checkpoints(tmp_path / "x")
    with pytest.raises(error):
        mj.fit(LEARNER, SGD, slow, checkpoints=checkpoints, **SETTINGS, **settings)
    assert not feeding_threads() and slow.begun == slow.closed == 1
    assert checkpoints.steps() == ([1] if error is mj.StoppedError else [])


def test_dispatches_that_are_closed_read_no_more():
    state = mj.init_state(LEARNER, SGD, KEY)
    slow = Slow(*[BATCH] * 6)
    dispatches(LEARNER, SGD, slow, state, KEY, **SETTINGS).close()
    assert not slow.begun, "nothing is opened before it is asked for"
    runs = dispatches(LEARNER, SGD, slow, state, KEY, **SETTINGS)
    next(runs)
    runs.close()
    assert not feeding_threads() and slow.begun == slow.closed == 1


@pytest.mark.parametrize("items", [[BATCH, 1], [jax.tree.map(lambda x: x[:1], BATCH)]])
def test_an_iterable_that_will_not_do_is_closed(items):
    slow = Slow(*reversed(items))
    with pytest.raises(mj.InputError, match="meta-batch"):
        mj.fit(LEARNER, SGD, slow, **SETTINGS)
    assert slow.begun == slow.closed == 1


def test_any_error_of_the_data_saves_what_was_learnt(tmp_path, monkeypatch):
    def place(tree, shardings):
        if isinstance(tree, feeding.FetchedSteps) and int(tree.start) == 2:
            raise RuntimeError("the device is full")
        return jax.device_put(tree, shardings)

    monkeypatch.setattr(feeding, "place", place)
    checkpoints = Checkpoints(tmp_path / "x")
    with pytest.raises(RuntimeError, match="the device is full"):
        mj.fit(LEARNER, SGD, [BATCH], checkpoints=checkpoints, **SETTINGS)
    assert checkpoints.steps() == [2] and not feeding_threads()


def test_a_state_that_was_donated_is_not_saved():
    saved, state = [], TrainState(jnp.ones(2), (), jnp.array(1, jnp.int32))

    def failing(donates):
        yield state, {}
        if donates:
            jax.tree.map(lambda x: x.delete(), state)
        raise RuntimeError("lost")

    for donates in (False, True):
        with pytest.raises(RuntimeError, match="lost"):
            list(saved_on_error(failing(donates), saved.append))
    assert len(saved) == 1
