"""The blocks of docs/recipes.md run, in order and in one namespace."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_every_recipe_is_held_to_plain_jax(relaxed):
    assert len(SECTIONS) > 6
    namespace = {}
    for section in SECTIONS:
        code = "\n".join(blocks(section))
        title = section.splitlines()[0]
        assert section is SECTIONS[0] or "assert " in code, title
        exec(compile(code, f"{PAGE.name}: {title}", "exec"), namespace)
