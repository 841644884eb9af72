"""Pages that are made when the site is built: the reference, notebooks, records."""

import json
import posixpath
import re
import tempfile
from pathlib import Path

from latex2mathml.converter import convert
from learners_table import learners_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from public_names import ROOT, PublicName, public_names, source_of

MATHS = re.compile(r"(\$\$?)(.+?)\1", re.DOTALL)
SCRIPTS = re.compile(
    r"<!-- Load mathjax.*?<!-- End of mathjax configuration -->"
    r'|<script type="module">(?:(?!</script>).)*mermaid.*?</script>',
    re.DOTALL,
)
LINK = re.compile(r"(?<=\]\()([\w./-]+)")
COPIED = {
    "index.md": "README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages that are made into the navigation."""
    made = {
        "API": ["api/index.md", *({m: f"api/{m}.md"} for m in public_names())],
        "Tutorial": ["tutorial/index.md", *(f"tutorial/{p.name}" for p in notebooks())],
    }
    config.nav = [
        {title: made.get(title, pages) for title, pages in entry.items()}
        for entry in config.nav
    ]
    return config


@event_priority(100)  # before the plug-in that turns notebooks into pages
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    pages = reference() | copies() | {"learners.md": learners_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    folder = Path(tempfile.mkdtemp())
    (folder / "tutorial").mkdir()
    for path in notebooks():
        name = f"tutorial/{path.name}"
        (folder / name).write_text(with_mathml(path.read_text()))
        files.append(File(name, str(folder), config.site_dir, use_directory_urls=False))
    return files


def notebooks() -> list[Path]:
    """The notebooks in the order of their numbers."""
    paths = (ROOT / "notebooks").glob("*.ipynb")
    return sorted(paths, key=lambda path: int(path.name.split("_")[0]))


def with_mathml(notebook: str) -> str:
    """A notebook whose formulas are MathML, which a browser shows without a script."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            text = MATHS.sub(mathml, "".join(cell["source"]))
            cell["source"] = text.splitlines(keepends=True)
    return json.dumps(content)


def mathml(formula: re.Match[str]) -> str:
    """A formula of TeX as MathML."""
    display = "block" if formula[1] == "$$" else "inline"
    return convert(" ".join(formula[2].split()), display=display)


def reference() -> dict[str, str]:
    """A page for each module that lists public names, and one that lists the pages."""
    modules = public_names()
    rows = [
        f"| [`{module}`]({module}.md) | {first_line(module)} |" for module in modules
    ]
    text = (ROOT / "docs" / "generate" / "reference.md").read_text()
    index = "\n".join([text, "| module | |", "|---|---|", *rows, ""])
    return {"api/index.md": index} | {
        f"api/{module}.md": module_page(module, names)
        for module, names in modules.items()
    }


def module_page(module: str, names: list[PublicName]) -> str:
    """The page of a module: its docstring, then each public name."""
    own = directive(module, "members: false", "show_root_toc_entry: false")
    blocks = [f"# {module}", own]
    for name in names:
        _, _, short = name.path.rpartition(".")
        heading = f'heading: "{name.path}"', f"toc_label: {short}", "heading_level: 2"
        blocks.append(f"[](){{#{name.path}}}")
        blocks.append(directive(name.home, "show_root_heading: true", *heading))
    return "\n\n".join(blocks) + "\n"


def directive(path: str, *options: str) -> str:
    """What mkdocstrings replaces by the documentation of an object."""
    lines = [f"::: {path}", "    options:", *(f"      {option}" for option in options)]
    return "\n".join(lines)


def first_line(module: str) -> str:
    """The first line of a module's docstring."""
    return source_of(module).read_text().split('"""')[1].splitlines()[0]


def copies() -> dict[str, str]:
    """Pages that are files of the repository."""
    return {
        page: re.sub(r"^```sh .*", "```sh", (ROOT / source).read_text(), flags=re.M)
        for page, source in COPIED.items()
    }


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Changes links that hold in the repository into links that hold on the site."""
    here = page.file.src_uri
    source = posixpath.dirname(COPIED.get(here, f"docs/{here}"))

    def moved(link: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(source, link[0])))
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return LINK.sub(moved, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Takes out the scripts of notebooks that ask the network for others."""
    return SCRIPTS.sub("", html)


def site_path(path: str) -> str:
    """Where the site has a file of the repository."""
    pages = {source: page for page, source in COPIED.items()}
    if path == "docs":
        return "index.md"
    if path in pages:
        return pages[path]
    return re.sub("^notebooks/", "tutorial/", path).removeprefix("docs/")
