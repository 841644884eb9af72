from types import SimpleNamespace

import jax
import optax
import pytest

import metajax as mj
from metajax import study
from metajax.study import chips
from metajax.training.cutting import Cut

H200 = mj.targets.CHIPS["h200"]
DEVICES = [SimpleNamespace(device_kind=H200.kind, platform="gpu")] * 4
LEARNER = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
FIXED, EACH = 2 * 2**30, 3 * 2**20  # bytes


def compiler(room):
    """Compiles nothing; refuses what is too large for `room` bytes."""

    def compile_dispatch(*_, tasks, tasks_per_chunk, make_step):
        each = -(-tasks // len(DEVICES))
        chunk = each if tasks_per_chunk is None else tasks_per_chunk
        temporary = FIXED + chunk * EACH
        if temporary > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory in hbm")
        facts = dict(argument_bytes=1000, temporary_bytes=temporary)
        facts |= dict(memory_bytes=1000 + temporary, operations=6.7e12)
        program = SimpleNamespace(bytes=4.8e11)
        cut = Cut(tasks, len(DEVICES), chunk, len(DEVICES))
        return SimpleNamespace(program=program, **facts), cut

    return compile_dispatch


def plan(monkeypatch, room=2**60, chunk=None, **settings):
    monkeypatch.setattr(chips, "compile_dispatch", compiler(room))
    said = []
    found = study.plan_for(
        LEARNER,
        optax.adam(1e-3),
        mj.data.sinusoid(),
        DEVICES,
        tasks=64,
        tasks_per_chunk=chunk,
        say=said.append,
        **settings,
    )
    return found, said


def test_the_largest_meta_batch_is_compiled(monkeypatch):
    found, said = plan(monkeypatch)
    each = found.largest_at_once // len(DEVICES)
    assert found.largest_bytes == 1000 + FIXED + each * EACH
    assert 0.95 * H200.usable_bytes <= found.largest_bytes <= H200.usable_bytes
    assert len(said) <= 4 and said[0] == "compiling 64 tasks for 4 x h200"
    assert said[-1] == f"compiling {found.largest_at_once} tasks for 4 x h200"


def test_a_compiler_that_refuses_is_asked_for_less(monkeypatch):
    room = H200.usable_bytes // 3
    found, said = plan(monkeypatch, room)
    assert 0 < found.largest_bytes <= 1000 + room and len(said) <= 5
    assert found.largest_bytes > room / 2


def test_a_floor_is_no_forecast(monkeypatch):
    found, _ = plan(monkeypatch, chunk=2)
    assert found.floor == pytest.approx(0.1)  # by either rate
    told = str(found)
    assert "100 ms" in told and "no forecast" in told and "it fits" in told
    assert "64, 2 at a time on each" in told and "4 x NVIDIA H200" in told
    slower, _ = plan(monkeypatch, precision="bfloat16")
    assert slower.floor == pytest.approx(0.1)  # by bandwidth still


def test_a_meta_step_without_room_is_refused(monkeypatch):
    with pytest.raises(mj.InputError, match="64 tasks does not fit h200; take a small"):
        plan(monkeypatch, room=FIXED)


def test_an_unknown_chip_is_refused():
    unknown = SimpleNamespace(device_kind="another", platform="gpu")
    with pytest.raises(mj.InputError, match="no chip is known as 'another'"):
        study.plan_for(
            LEARNER, optax.adam(1e-3), mj.data.sinusoid(), [unknown], tasks=4
        )
