"""Each notebook runs from top to bottom, and holds no outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ARCHIVES

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 10


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    if "omniglot" in path.stem and ARCHIVES is None:
        pytest.skip("METAJAX_OMNIGLOT_ARCHIVES names no folder of archives")
    # Unlike the other tests they also run a while: one level of optimization more.
    changed = {
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_backend_optimization_level=1",
        "TFDS_DATA_DIR": str(tmp_path / "data"),
    }
    environment = os.environ | changed
    execute = Path(sys.executable).with_name("jupyter-execute")
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    command = [execute, "--timeout=180", copy]  # seconds a cell
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_what_it_needs_first(path):
    cells = json.loads(path.read_text())["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    assert first["source"][-2].startswith('if find_spec("metajax") is None:')
    assert first["source"][-1] == "    %pip install -q metajax"
