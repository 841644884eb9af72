"""The card of a published run: what it is, what it reaches, how it is used."""

import json
from collections.abc import Iterator
from pathlib import Path

from metajax.experiments.build import bare_task
from metajax.experiments.config import Config
from metajax.experiments.published import META, Published

MARK = "<!-- written by metajax publish, which writes it anew -->\n"
LABELS = {
    "classes": "--support DIR --images DIR --out labels.csv",
    "masks": "--support DIR --images DIR --masks DIR",
    "boxes": "--support DIR --images DIR --boxes boxes.json",
}


def card(path: Path, published: Published, config: Config) -> str:
    """The card as Markdown.

    Args:
      path: of the file, whose name the commands take.
      published: what the file holds.
      config: its configuration.
    """
    name = path.name
    commands = [f"metajax evaluate {name}", f"metajax study {name}"]
    if flags := LABELS.get(bare_task(config).kind):
        commands.append(f"metajax label {name} {flags}")
    commands.append(f"metajax train --config {name} --from {name} --run-dir runs/more")
    usage = "\n".join(f"    {command}" for command in commands)
    about = _summary(published, config)
    parts = [f"# {path.stem}", about, "## Use", usage, *_sections(published)]
    return MARK + "\n\n".join(parts) + "\n"


def _summary(published: Published, config: Config) -> str:
    texts, outer = published.texts, config.outer
    own = {x: a for x, a in published.arrays.items() if x.startswith(META)}
    best = " (the best validation)" * (texts["checkpoint"] == "best")
    return (
        f"A few-shot learner meta-trained with metajax {texts['metajax']}: "
        f"{config.learner} with the network {config.model.name}, on tasks of "
        f"{config.data.origin[0]}. These are its {sum(a.size for a in own.values()):,} "
        f"meta-parameters after {published.step} of {outer.steps} meta-steps of "
        f"{outer.tasks} tasks{best}."
    )


def _sections(published: Published) -> Iterator[str]:
    texts = published.texts
    yield "## Result"
    lines = texts["evaluation.txt"].splitlines()
    yield "\n".join(f"    {line}" for line in lines[:-1])
    yield f"Protocol: {lines[-1]}."
    yield "## Data"
    known: dict[str, str] = json.loads(texts["data.json"])
    digests = "\n".join(f"- {split}: {digest}" for split, digest in known.items())
    yield digests or "They are computed from a seed, or were not recorded."
    yield "## Licence"
    yield texts["licence"] or "None was given: ask the author before you use them."
    yield "## Configuration"
    plain = json.dumps(json.loads(texts["config.json"]), indent=2)
    yield f"```json\n{plain}\n```"
