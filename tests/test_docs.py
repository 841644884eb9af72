"""What the pages show is run: Python as it stands, commands by their own parser.

A block marked `py` is not: it is another library's, or needs a file of the reader's.
"""

import pkgutil
import re
import runpy
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import metajax as mj
from metajax.cli import main as cli
from metajax.cli.runs import KINDS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES]
TEXTS = dict(zip(NAMES, (path.read_text() for path in PAGES)))
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    mark = rf"^```{language}(?: \w+)?\n(.*?)^```"
    return re.findall(mark, text, flags=re.MULTILINE | re.DOTALL)


def commands(text):
    """The lines of `metajax` on a page, without comments."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            names = [i for i, word in enumerate(words) if Path(word).name == "metajax"]
            if names and words[0] != "pip":
                yield tuple(words[names[0] + 1 :])


SHOWN = sorted(
    {command for text in (README, *TEXTS.values()) for command in commands(text)}
)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if blocks(TEXTS[name], "python")]
)
def test_python_runs(name, relaxed):
    """The blocks of a page, in order and in one namespace."""
    code = "\n".join(blocks(TEXTS[name], "python"))
    exec(compile(code, name, "exec"), {})


def test_every_recipe_is_held_to_plain_jax():
    first, *sections = re.split(r"^## ", TEXTS["recipes.md"], flags=re.MULTILINE)
    assert len(sections) > 5
    for section in sections:
        assert "assert " in "\n".join(blocks(section, "python")), section[:40]


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_a_command_is_read(command):
    if "--help" in command:
        with pytest.raises(SystemExit, match="^0$"):
            cli.main(command)
    else:
        try:
            cli._parse(list(command))
        except mj.InputError as error:
            assert "No such file" in str(error)  # of a run that a page begins with


def test_readme_is_short_and_every_command_is_shown():
    assert len(README.split()) <= 900
    assert {command[0] for command in SHOWN} == {*cli.COMMANDS, *KINDS}


def test_the_reference_has_every_public_name():
    made = runpy.run_path(str(ROOT / "docs" / "generate" / "public_names.py"))
    names = [name for page in made["public_names"]().values() for name in page]
    for name in names:
        pkgutil.resolve_name(name.path)  # as a program writes it
    for room in (mj, mj.data, mj.learners, mj.models, mj.rl, mj.study, mj.training):
        listed = {
            name
            for name, value in vars(room).items()
            if not name.startswith("_") and not isinstance(value, ModuleType)
        }
        assert listed <= {name.path.rpartition(".")[2] for name in names}
