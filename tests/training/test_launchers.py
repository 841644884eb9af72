"""Launchers whose processes JAX does not connect; Ray itself is faked."""

import sys
from types import SimpleNamespace

import jax
import optax
import pytest

import metajax as mj
from metajax.cli.main import main
from metajax.training.launchers import (
    ADDRESS,
    COUNT,
    INDEX,
    check_world,
    from_environment,
)

NAMES = ADDRESS, COUNT, INDEX


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def fit():
    learner = mj.maml(mj.mlp(hidden=(2,)), mj.mse, optax.sgd(0.1), 1)
    return mj.fit(learner, optax.sgd(0.1), mj.data.sinusoid(2, 2), steps=0, tasks=1)


@pytest.fixture
def ray(monkeypatch):
    """`ray(size)` puts a `ray.train` of so many workers, or of an error, in place."""

    def place(size):
        def get_context():
            if not isinstance(size, int):
                raise size
            return SimpleNamespace(get_world_size=lambda: size)

        train = SimpleNamespace(get_context=get_context)
        monkeypatch.setitem(sys.modules, "ray.train", train)

    return place


def test_workers_that_jax_does_not_connect_are_refused(ray, tmp_path, capsys):
    ray(2)
    with pytest.raises(mj.InputError, match="started 2 workers, of which JAX connects"):
        fit()
    run = tmp_path / "run"
    assert main(["train", "sinusoid", "--run-dir", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Ray Train started 2 workers, of which JAX")
    assert not run.exists()


OTHERS = 1, RuntimeError("the driver"), DeprecationWarning("a trial")


@pytest.mark.parametrize("size", OTHERS)
def test_one_worker_a_driver_and_a_trial_train(ray, size):
    ray(size)
    assert int(fit().step) == 0


def test_fewer_workers_than_jax_has_are_no_fault(ray, monkeypatch):
    """As outside a worker, where older versions of Ray say that there is one."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    ray(1)
    monkeypatch.setenv(COUNT, "1")
    check_world()


def test_a_number_of_processes_that_jax_has_not_is_refused(monkeypatch):
    monkeypatch.setenv(COUNT, "1")
    assert int(fit().step) == 0
    monkeypatch.setenv(COUNT, "3")
    with pytest.raises(mj.InputError, match="is 3, and JAX connects 1, so each"):
        fit()
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setenv(COUNT, "three")
    with pytest.raises(mj.InputError, match="whole number, got 'three'"):
        fit()


def test_the_environment_says_which_process_this_is(monkeypatch):
    for name, text in zip(NAMES, ("host:1", "4", "3")):
        assert from_environment() == {}
        monkeypatch.setenv(name, text)
    told = from_environment()
    assert (told["num_processes"], told["process_id"]) == (4, 3)
