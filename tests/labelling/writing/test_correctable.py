"""The script of the page on which labels are corrected."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from metajax.labelling.writing import page

PAGE = Path(page.__file__).with_name("correctable.html")
NAMES = ["CAT", "Cat", "Dog", "bobcat", "cat", "emu", "pond", "ponies"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize(
    "text, name",
    [
        *(("cat", "cat"), ("Cat", "Cat"), ("cAt", None), ("dog", "Dog")),
        *(("em", "emu"), ("mu", None), ("po", None), ("", None), ("gnu", None)),
    ],
)
def test_enter_chooses_what_was_typed(text, name):
    """The class of that name, or the only one that begins so; never another one."""
    script = PAGE.read_text()
    functions = re.findall(r"^function (?:matching|meant)\(.*?^}", script, re.M | re.S)
    call = (
        f"console.log(JSON.stringify(meant({json.dumps(NAMES)}, {json.dumps(text)})))"
    )
    program = "\n".join([*functions, call])
    done = subprocess.run(["node", "-e", program], capture_output=True, check=True)
    assert json.loads(done.stdout) == name
