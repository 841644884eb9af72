"""The public names of the package, read from what its `__init__` files list."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = "metajax"


class PublicName(NamedTuple):
    """A name of the reference.

    Attributes:
      path: the shortest path that a program imports it by, `metajax.maml`.
      home: where it is defined, `metajax.learners.maml.maml`.
    """

    path: str
    home: str


def source_of(module: str) -> Path:
    """The file of a module or a package."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def public_names() -> dict[str, list[PublicName]]:
    """The public names by the module that lists them, each in one module only.

    What the root lists belongs to the module below that lists it too.
    """
    listed = {module: _listed(module) for module in _modules()}
    root = listed.pop(PACKAGE)
    below = {home for names in listed.values() for home in names.values()}
    short = {home: f"{PACKAGE}.{name}" for name, home in root.items()}
    own = {name: home for name, home in root.items() if home not in below}
    seen, pages = set(), {}
    for module, names in ({PACKAGE: own} | listed).items():
        new = {name: home for name, home in names.items() if home not in seen}
        seen |= set(new.values())
        if new:
            pages[module] = [
                PublicName(short.get(home, f"{module}.{name}"), home)
                for name, home in sorted(new.items(), key=lambda item: item[0].lower())
            ]
    return pages


def _modules() -> list[str]:
    """The packages, and the files that a package lists as its own."""
    packages = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in sorted((ROOT / PACKAGE).rglob("__init__.py"))
        if "/_" not in path.parent.relative_to(ROOT).as_posix()
    ]
    files = [
        f"{package}.{alias.name}"
        for package in packages
        for node in _statements(package)
        if isinstance(node, ast.ImportFrom) and node.module == package
        for alias in node.names
        if alias.asname == alias.name
    ]
    return packages + [file for file in files if file not in packages]


def _statements(module: str) -> list[ast.stmt]:
    return ast.parse(source_of(module).read_text()).body


def _listed(module: str) -> dict[str, str]:
    """The public names of a module with where each is defined."""
    homes = {}
    for node in _statements(module):
        if isinstance(node, ast.ImportFrom):
            if source_of(module).name == "__init__.py" and node.module != module:
                homes |= _imported(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            homes[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            homes |= {name: f"{module}.{name}" for name in names}
    return {name: home for name, home in homes.items() if not name.startswith("_")}


def _imported(node: ast.ImportFrom) -> dict[str, str]:
    """The names that a statement takes from inside the package, without modules."""
    if node.module is None or node.module.split(".")[0] != PACKAGE:
        return {}
    homes = {}
    for alias in node.names:
        home = f"{node.module}.{alias.name}"
        if source_of(node.module).name == "__init__.py":
            home = _listed(node.module).get(alias.name, home)
        if not source_of(home).exists():
            homes[alias.asname or alias.name] = home
    return homes
