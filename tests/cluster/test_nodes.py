"""Two nodes with a network of their own between them: `tests/cluster/nodes.sh`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from metajax.experiments.build import build_task
from metajax.experiments.restoring import configured, restored
from metajax.experiments.tasks import Places

NODES = f". {Path(__file__).with_name('nodes.sh')}; trap remove_nodes EXIT; make_nodes"
SMALL = "sinusoid --model.hidden 4 --outer.tasks 4 --outer.steps 50 --devices 1"
TRAIN = f"{sys.executable} -m metajax train {SMALL} --evaluation.tasks 4"


def shell(script, folder):
    """What a script does in a folder, which it may fail at."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{NODES}\n{script}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.fixture
def nodes(tmp_path):
    """`nodes(script)` runs it where there are two nodes."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and ip of iproute2")
    able = subprocess.run(["ip", "netns", "add", "metajax-probe"], capture_output=True)
    if able.returncode:
        pytest.skip(f"cannot make network namespaces: {able.stderr.decode().strip()}")
    subprocess.run(["ip", "netns", "delete", "metajax-probe"], check=True)

    def run(script):
        done = shell(script, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def trained(run):
    """The meta-parameters of a run."""
    config = configured(run)
    return restored(run, config, build_task(config, Places()))


def test_two_nodes_train_as_one_process(tmp_path, nodes):
    """The sums over tasks are in another order; the first node alone writes."""
    meets = "--coordinator node0:1234 --processes 2"
    nodes(f"""
on_node 1 {TRAIN} {meets} --process 1 --run-dir 1 &
other=$!
on_node 0 {TRAIN} {meets} --process 0 --run-dir 0
wait $other
{TRAIN} --run-dir alone
""")
    assert not (tmp_path / "1").exists()
    (both, steps), (alone, _) = trained(tmp_path / "0"), trained(tmp_path / "alone")
    assert steps == 50
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
