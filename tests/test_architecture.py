"""The rooms of the package: what imports what, and how long functions are."""

import ast
import itertools
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent
# From the top down: a module imports from its own room and from those below it.
ROOMS = (
    ("cli", "__main__"),
    ("experiments",),
    ("labelling",),
    ("study",),
    ("evaluation", "reporting"),
    ("training",),
    ("learners",),
    ("rl",),
    ("data",),
    ("models", "targets"),
    ("inner",),
    ("gradients", "storing", "metrics"),
    ("_autodiff", "losses"),
    ("ops", "detection"),
    ("_files",),
    ("checks",),
    ("types",),
    ("_pytrees",),
    ("errors",),
)
RANKS = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
LINES = 60  # of a function


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in ROOT.rglob("*.py")}


def imports(path):
    """The modules of the package that a file imports, at its top or inside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "metajax"
        ):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("metajax"))


def room_of(module):
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"metajax"}))
def test_imports_go_down(module):
    own = RANKS[room_of(module)]
    for other in imports(MODULES[module]):
        if other != "metajax":
            assert RANKS[room_of(other)] >= own, f"{module} imports {other}"


def folder_of(module):
    """A sub-package, of a module in it or of itself; what is not in one has none."""
    package = module_of(MODULES[module].parent) if module in MODULES else ""
    return package if package.count(".") > 1 else ""


def test_no_circle_of_imports():
    has_no_circle({m: {o for o in imports(p) if o != m} for m, p in MODULES.items()})


def test_no_circle_of_folders():
    """A package's own files may import from its folders, and these from them."""
    graph = {folder_of(module): set() for module in MODULES}
    for module, path in MODULES.items():
        graph[folder_of(module)] |= {folder_of(other) for other in imports(path)}
    del graph[""]
    has_no_circle({folder: others - {folder} for folder, others in graph.items()})


@pytest.mark.parametrize("module", sorted(MODULES))
def test_private_modules_are_of_their_folder(module):
    for other in imports(MODULES[module]):
        assert may_import(module, other), f"{module} imports {other}"


def may_import(module, other):
    """Whether it is in the folder of every private part of the other's name."""
    *folders, _ = other.split("._")
    folders = itertools.accumulate(folders, "{}._{}".format)
    return all(f"{module}.".startswith(f"{folder}.") for folder in folders)


def test_a_private_part_below_another_is_of_its_folder():
    for other in ("metajax._a._b", "metajax.a._b"):
        inside = other.rpartition(".")[0]
        assert may_import(f"{inside}.c", other) and may_import(inside, other)
        assert not may_import("metajax.c", other)
    assert may_import("metajax.c", "metajax._a.b")


def has_no_circle(graph):
    while graph:
        free = [m for m, others in graph.items() if not others & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_functions_are_short():
    long = [
        f"{path.name}: {node.name} has {lines} lines"
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        if (lines := node.end_lineno - node.lineno + 1) > LINES
    ]
    assert not long


def test_the_root_is_small():
    assert len(list(ROOT.glob("*.py"))) <= 12
