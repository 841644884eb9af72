"""The cells that a run searches, as files and in its meta-parameters."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.experiments.published import file_of, is_published
from metajax.models import CellSpace, Genotype, parameter_count, strongest
from metajax.models.genotype import KINDS
from metajax.types import PyTree

FILE = "genotype.json"
TASKS = 64  # whose adapted α are drawn
INNER_OPTIMIZER = "['inner']"  # what an inner optimizer learns for each parameter


def draw_architecture(
    space: CellSpace | Genotype,
    meta: PyTree,
    adapt: Callable[[int], PyTree],
    cut: PyTree,
    *,
    temperature: float,
    to: Path,
) -> None:
    """Writes genotype.json, and draws cells.png, and alphas.png of a search.

    A figure that cannot be drawn is only warned of, as the run's result comes after it.

    Args:
      space: what the cells may be, or are.
      meta: the meta-parameters.
      adapt: see `Network.draw`.
      cut: the meta-parameters without the edges that were cut; None if none were.
      temperature: of the softmax over operations, in the search.
      to: the folder.
    """
    counts = {"whole": count_parameters(meta)}
    if isinstance(space, Genotype):
        genotype, alphas = space, None
    elif (alphas := alphas_of(meta)) is None:
        return
    else:
        genotype = strongest(space, alphas, temperature=temperature)
        counts["discretised"] = count_parameters(cut)
    plain = {"genotype": genotype.as_dict(), "parameters": counts}
    write_whole(to / FILE, json.dumps(plain) + "\n")
    sizes = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"parameters: {sizes}; the cells are in {to / FILE}")
    try:
        _draw(space, genotype, alphas, adapt, temperature=temperature, to=to)
    except Exception as error:  # whatever it is, the run's result is worth more
        print(f"warning: figures of the cells were not drawn: {error}", file=sys.stderr)


def _draw(
    space: CellSpace | Genotype,
    genotype: Genotype,
    alphas: dict[str, Any] | None,
    adapt: Callable[[int], PyTree],
    *,
    temperature: float,
    to: Path,
) -> None:
    """Draws cells.png, and alphas.png of a search."""
    from metajax.experiments import cell_figures  # loads matplotlib

    cell_figures.draw_cells(genotype, to / "cells.png")
    if isinstance(space, CellSpace) and alphas is not None:
        adapted, path = alphas_of(adapt(TASKS)), to / "alphas.png"
        cell_figures.draw_alphas(space, alphas, adapted, path, temperature=temperature)


def genotype_text(value: str) -> str:
    """A genotype as one line of JSON, which a configuration keeps.

    Args:
      value: that line, the file that `draw_architecture` writes, or the run that holds
        it, which may be a published file.

    Raises:
      InputError: if there is no such file, or it holds no genotype.
    """
    if value.strip().startswith("{"):
        return _line(value, "--model.genotype")
    path = Path(value) / FILE if Path(value).is_dir() else Path(value)
    if is_published(path):
        return _line(file_of(path, FILE) or "", str(path))
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(
            f"--model.genotype: cannot read {path} ({error.strerror}); give the run of "
            f"a search, or its {FILE}"
        ) from error
    except ValueError as error:
        raise _damaged(str(path), error) from error
    return _line(text, str(path))


def read_genotype(text: str) -> Genotype:
    """The genotype of a line of `genotype_text`."""
    return Genotype.from_dict(json.loads(text))


def line_of(genotype: Genotype) -> str:
    """A genotype as one line of JSON."""
    return json.dumps(genotype.as_dict())


def _line(text: str | bytes, where: str) -> str:
    try:
        plain = json.loads(text)
        if isinstance(plain, Mapping):
            plain = plain.get("genotype", plain)
        return line_of(Genotype.from_dict(plain))
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> InputError:
    return InputError(
        f"{where} is not a genotype ({error}); give the run of a search, or its {FILE}"
    )


def alphas_of(meta: PyTree) -> dict[str, Any] | None:
    """The α among the parameters of a learner; None if there are none.

    >>> alphas = {"normal": 1.0, "reduction": 2.0}
    >>> alphas_of({"inner": {"alphas": alphas}, "params": {"alphas": alphas}})
    {'normal': 1.0, 'reduction': 2.0}
    """
    leaves = jax.tree.leaves_with_path(meta)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    for name in named:
        start, middle, _ = name.partition("['alphas']")
        if middle and not name.startswith(INNER_OPTIMIZER):
            return {kind: named[f"{start}{middle}['{kind}']"] for kind in KINDS}
    return None


def count_parameters(meta: PyTree) -> int:
    """The parameters of a network among a learner's, without what is learnt beside."""
    named = ((jax.tree_util.keystr(p), x) for p, x in jax.tree.leaves_with_path(meta))
    own = [x for name, x in named if not name.startswith(INNER_OPTIMIZER)]
    return parameter_count(own)
