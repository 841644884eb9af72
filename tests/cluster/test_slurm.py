"""Under a real SLURM, started on this machine: `tests/cluster/slurm.sh`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = "slurmctld", "slurmd", "srun", "munged"
PATHS = f"{os.environ['PATH']}:/usr/sbin"
KILLS = int(os.environ.get("METAJAX_SLURM_KILLS", "1"))
SECONDS = 600 + 120 * KILLS  # that a script may take
SMALL = "sinusoid --model.hidden 4 --outer.tasks 2 --evaluation.tasks 4 --devices 1"
TRAIN = f"{sys.executable} -m metajax train {SMALL}"
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool, path=PATHS) is None for tool in TOOLS) or os.getuid() != 0,
    reason="needs SLURM (slurmctld, slurmd, slurm-client, munge), and root",
)

NETWORK = pytest.mark.skipif(
    shutil.which("ip", path=PATHS) is None, reason="needs ip (iproute2)"
)


def under_slurm(script, folder, **variables):
    """What a script says under a SLURM of its own."""
    path = folder / "script.sh"
    path.write_text(f"set -euo pipefail\n{script}\n")
    slurm = Path(__file__).with_name("slurm.sh")
    process = subprocess.run(
        ["bash", slurm, "bash", path],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def last_state(run):
    """The hash of the arrays of a run's last checkpoint, and its meta-step."""
    last = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    manifest = json.loads((last / "manifest" / "metadata").read_text())
    return manifest["step"], manifest["sha256"]


@pytest.mark.parametrize("nodes", [1, pytest.param(2, marks=NETWORK)])
def test_two_processes_of_a_job_train_as_one(tmp_path, nodes):
    run = tmp_path / "run"
    command = f"{TRAIN} --outer.steps 20 --coordinator auto --run-dir {run}"
    script = f"srun -N{nodes} -n2 bash -c 'hostname; exec {command}'"
    said = under_slurm(script, tmp_path, SLURM_TWO_NODES="1" if nodes == 2 else "")
    assert nodes == 1 or {"node0", "node1"} <= set(said.split())
    assert "waiting for the other processes at auto" in said
    assert said.count("written to") == 1  # by the first of them alone
    assert json.loads((run / "evaluation.json").read_text())["protocol"]["tasks"] == 4


def test_submitit_queues_a_job_again(tmp_path):
    steps = 50_000
    submit = f"{TRAIN} --outer.steps {steps} --run-dir run --submit timeout_min=10"
    script = f"""
cd {tmp_path}
{submit} > said
job="$(sed -n 's/^job \\([0-9]*\\) of slurm .*/\\1/p' said)"
until [ -s run/metrics.jsonl ]; do sleep 0.2; done
scancel --signal=USR2 "$job"
until [ -z "$(squeue --noheader)" ]; do sleep 0.2; done
"""
    under_slurm(script, tmp_path)
    said = "".join(x.read_text() for x in (tmp_path / "run-jobs").glob("*_log.*"))
    assert "Requeued job" in said and "and saved; the same command goes on" in said
    assert "written to run" in said and "Traceback" not in said
    assert last_state(tmp_path / "run")[0] == steps


def test_a_requeued_job_ends_as_one_that_was_left_alone(tmp_path):
    """`scancel --signal=TERM` saves and ends with 143; requeued, the job goes on."""
    steps = 10_000 * (KILLS + 1)
    run, alone = tmp_path / "run", tmp_path / "alone"
    command = f"{TRAIN} --outer.steps {steps}"
    job = tmp_path / "job.sh"
    job.write_text(
        "#!/bin/bash\n"
        f"srun {command} --run-dir {run}\n"
        "status=$?\n"
        f"echo ended with $status >> {tmp_path}/ends\n"
        'if [ "$status" -eq 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi\n'
    )
    script = f"""
job="$(sbatch --parsable --requeue --output={tmp_path}/said --open-mode=append {job})"
touch {tmp_path}/said {tmp_path}/ends
for kill in $(seq {KILLS}); do
    lines="$(grep -c '^step .* loss' {tmp_path}/said || true)"
    until [ "$(grep -c '^step .* loss' {tmp_path}/said || true)" -gt "$lines" ]; do
        sleep 0.2
    done
    scancel --signal=TERM "$job"
    until [ "$(grep -c 143 {tmp_path}/ends || true)" -ge "$kill" ]; do sleep 0.2; done
done
until [ "$(tail -n 1 {tmp_path}/ends)" = "ended with 0" ]; do sleep 0.2; done
{command} --run-dir {alone}
"""
    under_slurm(script, tmp_path)
    ends = (tmp_path / "ends").read_text().split("\n")[:-1]
    assert ends == ["ended with 143"] * KILLS + ["ended with 0"]
    assert last_state(run) == last_state(alone) and last_state(run)[0] == steps
