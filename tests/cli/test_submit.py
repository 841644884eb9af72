"""Training as a job: what is submitted, and that it goes on after it was stopped."""

import contextlib
import gc
import json
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from metajax.cli.main import main
from metajax.cli.submit import submit, without_flag
from metajax.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("relaxed")

needs_submitit = pytest.mark.skipif(not find_spec("submitit"), reason="an extra")

SMALL = "--outer.tasks", "2", "--evaluation.tasks", "2", "--devices", "1"


@pytest.mark.parametrize(
    "arguments, kept",
    [
        (["glyphs", "--submit"], ["glyphs"]),
        (["glyphs", "--submit", "a=1", "b=2", "--json"], ["glyphs", "--json"]),
        (["glyphs", "--submit=a=1", "--seed=2"], ["glyphs", "--seed=2"]),
        (["glyphs", "--log", "wandb"], ["glyphs", "--log", "wandb"]),
    ],
)
def test_the_job_is_the_same_command(arguments, kept):
    assert without_flag(arguments) == kept


def test_submitit_may_not_be_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    run = tmp_path / "run"
    assert main(["train", "sinusoid", "--run-dir", str(run), "--submit"]) == 1
    assert "pip install 'metajax[submit]'" in capsys.readouterr().err
    assert not run.exists()


@needs_submitit
@pytest.mark.parametrize(
    "settings, match",
    [
        (["timeout_min"], "takes settings of submitit, each once"),
        (["timeout_min=1", "timeout_min=2"], "each once"),
        (["cluster=local", "timeout=1"], "submitit refuses the settings"),
        (["cluster=cloud"], "submitit refuses the settings"),
    ],
)
def test_settings_that_submitit_does_not_have(tmp_path, capsys, settings, match):
    command = "train", "sinusoid", "--run-dir", str(tmp_path / "run"), "--submit"
    assert main([*command, *settings]) == 1
    err = capsys.readouterr().err
    assert match in err and len(err.splitlines()) == 1


@needs_submitit
@pytest.mark.parametrize("run", [".", "../here", "elsewhere/../../here"])
def test_the_jobs_are_beside_the_run(tmp_path, monkeypatch, capsys, run):
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    submit(["glyphs"], ["cluster=debug"], Path(run))
    assert f"\n{here}-jobs/" in capsys.readouterr().out and not [*here.iterdir()]


def children(process):
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            _, _, rest = path.read_text().rpartition(") ")
            if int(rest.split()[1]) == process:
                found.append(int(path.parent.name))
    return found


def wait(until, seconds=300):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.2)


@needs_submitit
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_job_that_is_told_to_stop_goes_on(tmp_path, capsys):
    """On this machine, as submitit tells it shortly before its time is up."""
    run, steps = tmp_path / "run", 3000
    command = "train", "sinusoid", "--outer.steps", str(steps), *SMALL
    settings = "--submit", "cluster=local", "timeout_min=10"
    assert main([*command, "--run-dir", str(run), *settings]) == 0
    said, out, log = capsys.readouterr().out.splitlines()
    assert said.startswith("job ") and "of local trains" in said
    checkpoints = Checkpoints(run / "checkpoints")
    wait(checkpoints.steps)
    controller = int(said.split()[1])
    (task,) = children(controller)
    os.kill(task, signal.SIGUSR2)
    wait(lambda: not Path(f"/proc/{task}").exists())
    wait((run / "evaluation.json").exists)
    protocol = json.loads((run / "evaluation.json").read_text())["protocol"]
    assert protocol["meta_step"] == steps
    log = Path(log).read_text()
    assert "and saved; the same command goes on" in log and "Traceback" not in log
    wait(lambda: "written to" in Path(out).read_text())
    gc.collect()  # submitit leaves its controller to end by itself
