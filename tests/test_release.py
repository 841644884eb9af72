"""What a release holds and says of itself, read from its files alone."""

import re
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import metajax

ROOT = Path(__file__).parents[1]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def text(name):
    return (ROOT / name).read_text()


def test_every_file_of_the_package_is_in_the_wheel():
    """A module is, in a package; of other files, those that setup.cfg lists."""
    listed = SETUP["options.package_data"]
    missing = []
    for path in (ROOT / "metajax").rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        packages = path.relative_to(ROOT).parents[:-1]
        patterns = [pattern for line in listed.values() for pattern in line.split()]
        patterns.append("*.py")
        in_packages = all((ROOT / x / "__init__.py").is_file() for x in packages)
        if not in_packages or not any(fnmatch(path.name, p) for p in patterns):
            missing.append(path)
    assert not missing


def test_the_versions_are_one():
    version = metajax.__version__
    assert SETUP["metadata"]["version"] == "attr: metajax.__version__"
    assert re.search(r"^version: (.+)$", text("CITATION.cff"), re.M)[1] == version
    heading = re.search(r"^## (\d\S+) - (\S+)$", text("CHANGELOG.md"), re.M)
    newest, day = heading.groups()
    assert newest == version
    assert f'date-released: "{day}"' in text("CITATION.cff")


def test_the_pythons_are_those_that_are_tested():
    start = "Programming Language :: Python :: 3."
    lines = SETUP["metadata"]["classifiers"].splitlines()
    named = [f"3.{x.removeprefix(start)}" for x in lines if x.startswith(start)]
    matrix = re.search(r"python: \[(.+)\]", text(".github/workflows/tests.yml"))[1]
    assert re.findall(r'"(.+?)"', matrix) == named
    assert re.search(r"^ARG PYTHON=(.+)$", text("Dockerfile"), re.M)[1] in named
    assert SETUP["options"]["python_requires"] == f">={named[0]}"


def test_the_container_takes_extras_that_there_are():
    used = re.findall(r"EXTRA=(\w+)", text("Dockerfile"))
    assert {*used} <= {*SETUP["options.extras_require"]} and "cuda" in used


def test_what_a_source_distribution_lists_is_there():
    for line in text("MANIFEST.in").splitlines():
        kind, *names = line.split() or [""]
        if kind in ("include", "graft"):
            assert all((ROOT / name).exists() for name in names), line
