"""Flags of devices and processes; real ones are in tests/training/test_processes.py."""

import os
import subprocess
import sys

import jax
import pytest

from metajax.cli import machine
from metajax.cli.machine import Machine
from metajax.cli.main import main
from metajax.errors import InputError
from metajax.training.launchers import ADDRESS as ENV_ADDRESS
from metajax.training.launchers import COUNT, INDEX

ADDRESS = "localhost:1234"


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(devices=0), "--devices must be a whole number of at least 1, got 0"),
        (dict(devices=3), "--devices must be at most the number of devices here, 2"),
        (dict(process=1), "--process needs --coordinator HOST:PORT, got none"),
        (
            dict(coordinator="auto", processes=2),
            "--processes needs --coordinator HOST:PORT, got auto",
        ),
        (dict(coordinator="here", processes=2, process=0), "must be HOST:PORT"),
        (dict(coordinator=":80", processes=2, process=0), "must be HOST:PORT"),
        (dict(coordinator="a:99999", processes=2, process=0), "must be HOST:PORT"),
        (dict(coordinator=ADDRESS, processes=2), "needs --processes, how many"),
        (
            dict(coordinator=ADDRESS, processes=2, process=2),
            "--process must be below --processes, 2, got 2",
        ),
        (
            dict(coordinator=ADDRESS, processes=2, process=0),
            "the processes did not meet at localhost:1234",
        ),
    ],
    ids=str,
)
def test_refuses(flags, message):
    jax.devices()  # JAX runs already
    with pytest.raises(InputError, match=message):
        Machine(**flags).start()


def test_a_number_of_the_environment_is_refused_as_itself(monkeypatch):
    for name, text in (ENV_ADDRESS, "host:1"), (COUNT, "three"), (INDEX, "0"):
        monkeypatch.setenv(name, text)
    with pytest.raises(InputError, match="^JAX_NUM_PROCESSES must be a whole number"):
        Machine(coordinator="auto").start()


def test_a_cpu_has_no_more_devices_than_cores(tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "metajax", "train", "sinusoid", "--devices", "999"]
    names = ("JAX_NUM_CPU_DEVICES", "NPROC", "XLA_FLAGS")
    alone = {k: v for k, v in os.environ.items() if k not in names}
    alone["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [*command, "--run-dir", str(run_dir)], env=alone, capture_output=True, text=True
    )
    there = machine._cores()
    assert done.returncode == 1 and not run_dir.exists()
    assert done.stderr == (
        f"error: --devices must be at most the number of devices here, {there}, got "
        "999\n"
    )


def test_jax_that_does_not_start():
    alone = {**os.environ, "JAX_PLATFORMS": "elsewhere"}
    command = [sys.executable, "-m", "metajax", "train", "sinusoid"]
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: JAX does not start on elsewhere")
    assert "; set JAX_PLATFORMS=cpu, or install JAX for it" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "address, advice",
    [
        (
            OSError,
            "processes on CPUs meet by the name of the machine, nowhere, which has no "
            "address: put it into /etc/hosts",
        ),
        (None, "start all processes again, and see what the first that failed says"),
    ],
)
def test_processes_that_cannot_meet(monkeypatch, address, advice):
    def fail(*_):
        raise RuntimeError("rv == 0. -2 vs 0\nmore")

    def find(*_):
        if address:
            raise address

    # It depends on the environment and on the tests that ran before.
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cpu")
    monkeypatch.setattr(jax, "local_device_count", fail)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "nowhere")
    monkeypatch.setattr(machine.socket, "getaddrinfo", find)
    with pytest.raises(InputError) as caught:
        Machine().start()
    assert (
        str(caught.value) == f"JAX does not start on cpu (rv == 0. -2 vs 0); {advice}"
    )


def test_of_one_process_some_devices_may_share():
    machine = Machine(devices=1)
    machine.start()
    assert machine.shared == 1 and Machine().shared is None


@pytest.mark.parametrize("command", ["pretrain", "plan"])
def test_other_commands_are_one_process(command, capsys):
    flags = ["--coordinator", ADDRESS, "--processes", "2", "--process", "0"]
    assert main([command, "glyphs", *flags]) == 1
    assert "--coordinator is for metajax train" in capsys.readouterr().err


def test_a_thread_is_left_over():
    """The pool has more of them than there are devices, which hold one each."""
    program = (
        "import jax, os; from metajax.cli.machine import a_device_for_each_core as go;"
        "go(); print(int(os.environ['NPROC']) - jax.device_count())"
    )
    alone = {k: v for k, v in os.environ.items() if k not in ("NPROC", "XLA_FLAGS")}
    run = [sys.executable, "-c", program]
    found = subprocess.run(run, env=alone, capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 1
