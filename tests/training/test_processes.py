"""One, two, four or eight devices, and two real processes, train the same."""

import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.training import cutting as _cutting
from metajax.training import processes
from tests.helpers import free_address


def start(*arguments):
    command = [sys.executable, "-m", "tests.across", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_however_many_devices_and_processes(tmp_path):
    address = free_address()
    finish(start(tmp_path))
    both = [start(tmp_path, address, process) for process in (0, 1)]
    for process in both:
        finish(process)
    one = np.load(tmp_path / "1.npz")
    names = ("2", "4", "8", "process-0", "process-1")
    assert len(one.files) == 4 * 4 + 2  # parameters of each kind; loss and metric
    for name in names:
        other = np.load(tmp_path / f"{name}.npz")
        assert set(other.files) == set(one.files)
        for leaf in one.files:
            assert one[leaf].dtype == np.float64
            np.testing.assert_allclose(other[leaf], one[leaf], rtol=1e-11, atol=1e-13)
    assert (tmp_path / "order").read_text() == "01"
    # The second process wrote no checkpoint of its own, and was told of the first's.
    for kind in ("trained", "sharded"):
        steps = (tmp_path / f"checkpoints-{kind}").iterdir()
        assert sorted(p.name for p in steps) == ["20", "50"]


def test_bytes_travel_as_they_are():
    tree = {"a": np.array([-0.0, np.nan, 1e-40], np.float32), "b": np.int32(7)}
    sent = processes._as_bytes(tree, tree)
    found = processes._from_bytes(sent, tree)
    assert processes._as_bytes(found, tree).tolist() == sent.tolist()
    assert processes._as_bytes(None, tree).shape == sent.shape
    assert found["a"].dtype == np.float32 and found["b"].shape == ()


def test_what_fails_in_the_first_fails_everywhere(monkeypatch):
    """As the second process sees it, for which another answers."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    sent = {"status": processes.Status.FAILED}
    monkeypatch.setattr(processes, "any_says", lambda flag: flag)
    monkeypatch.setattr(processes, "_sent", lambda x: np.array(sent["status"]))

    def never():
        raise AssertionError("only the first calls")

    with pytest.raises(mj.InputError, match="the first process failed"):
        processes.from_first(never)
    sent["status"] = processes.Status.STOPPED
    with pytest.raises(mj.StoppedError, match="with the first"):
        processes.from_first(never)
    sent["status"] = processes.Status.NOTHING
    assert processes.from_first(never) is None


def test_text_travels_to_the_second(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(processes, "any_says", lambda flag: flag)
    text, status = "größer".encode(), np.array(processes.Status.RESULT)
    count = np.array(len(text))
    length = processes._as_bytes(count, count)
    sent = iter([status, length, status, np.frombuffer(text, np.uint8)])

    def next_sent(x):
        answer = next(sent)
        assert answer.shape == x.shape, "all must give arrays of one shape"
        return answer

    def never():
        raise AssertionError("only the first calls")

    monkeypatch.setattr(processes, "_sent", next_sent)
    assert processes.text_from_first(never) == "größer"


def test_only_the_first_reads_a_position(monkeypatch):
    class Disk:
        def position(self, step):
            assert jax.process_index() == 0
            return f"after {step}"

    checkpoints = processes.FirstWrites(Disk())
    assert checkpoints.position(3) == "after 3"
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert checkpoints.position(3) is None


def test_several_processes_share_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    learner = mj.maml(mj.mlp(hidden=(2,)), mj.mse, optax.sgd(0.1), 1)
    batch = mj.data.sinusoid(2, 2)(jax.random.key(0), 2)
    devices = jax.devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    for some in (3, devices[1:]):
        gradient = mj.meta_gradient(learner, devices=some)
        with pytest.raises(mj.InputError, match="must be all 8 of the 2 processes"):
            gradient(learner.init(jax.random.key(0)), batch)
    assert _cutting.everywhere(devices[:1]).least == 1
    assert _cutting.everywhere(devices).least == len(devices)
