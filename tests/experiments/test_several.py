"""`metajax train` as two real processes."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import free_address

CONSOLE = "import sys; from metajax.cli.main import console; sys.exit(console())"
SMALL = ("--outer.steps", "20", "--outer.tasks", "4", "--evaluation.tasks", "4")
SMALL += ("--inner.steps", "1", "--evaluation.steps", "1", "--devices", "1")
FLAGS = "--coordinator", "--processes", "--process"


@pytest.fixture
def both(tmp_path):
    """`both(flags of the first, flags of the second)` starts them and waits.

    With `told`, their environment says where they meet, as Kubeflow Trainer does.
    """

    def start(process, address, flags, told):
        names = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
        values = address, "2", str(process)
        meets = [x for pair in zip(FLAGS, values) for x in pair]
        meets = ["--coordinator", "auto"] if told else meets
        run = "train", "sinusoid", "--run-dir", str(tmp_path / str(process))
        return subprocess.Popen(
            [sys.executable, "-c", CONSOLE, *run, *SMALL, *meets, *flags],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (dict(zip(names, values)) if told else {}),
        )

    def run(*flags, told=False):
        address = free_address()
        started = [start(i, address, each, told) for i, each in enumerate(flags)]
        said = [process.communicate(timeout=300)[1] for process in started]
        return [process.returncode for process in started], said

    return run


@pytest.mark.parametrize("told", [False, True], ids=["flags", "environment"])
def test_two_processes_train_and_the_first_writes(tmp_path, both, told):
    statuses, said = both((), (), told=told)
    assert statuses == [0, 0], said
    found = json.loads((tmp_path / "0" / "evaluation.json").read_text())
    assert found["protocol"]["tasks"] == 4
    assert not (tmp_path / "1").exists()


def test_no_process_waits_for_one_that_fails(tmp_path, both):
    statuses, said = both((), ("--seed", "1"))
    assert statuses == [1, 1]
    assert all("different flags" in text for text in said)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "thesis.tex").write_text("x")
    statuses, said = both((), ())
    assert statuses == [1, 1]
    assert "is not a run directory" in said[0] and "first process failed" in said[1]
