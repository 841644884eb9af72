"""`metajax publish`: a run as one file, with a card that says what it is."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import metajax
from metajax._files.writing import check_writable, write_whole
from metajax.errors import InputError
from metajax.experiments import backbone, genotypes, record
from metajax.experiments.build import bare_task, build_learner
from metajax.experiments.card import MARK, card
from metajax.experiments.config import CONFIG, Config
from metajax.experiments.domains import own_domain
from metajax.experiments.label_checks import check_different, check_outside_runs
from metajax.experiments.published import (
    META,
    SUFFIX,
    by_path,
    file_of,
    is_published,
    read_published,
    write_published,
)
from metajax.experiments.record import Examples, digests
from metajax.experiments.results import HASH, Kept, Measured, as_written, name_of
from metajax.experiments.run import configured, forms_taken, restored
from metajax.training.checkpoints import FORMS

OUT, CARD = "OUT", "the card beside OUT"
FOLDER = "data_folder"  # a fact of a protocol that is of no use elsewhere


def publish(
    directory: Path, out: Path, *, kept: Kept = "last", licence: str | None = None
) -> None:
    """Writes a checkpoint of a run as one file, and beside it a card of what it is.

    The file holds the meta-parameters, the backbone of a learner that is built on one,
    the network of a file that training began with, the configuration, the result with
    its protocol, and a digest of the data; neither the state of the outer optimizer nor
    any path or name of a file of the data.

    Args:
      directory: the run's.
      out: the file.
      kept: which checkpoint.
      licence: of the parameters.

    Raises:
      InputError: if there is no such run or checkpoint, it has no result, or a file
        would be written over another one.
    """
    if is_published(directory):
        raise InputError(f"{directory} is published already; copy it")
    beside = _check(out)
    config = configured(directory)
    network_texts, network_arrays = config.model.contents()
    meta, step = restored(directory, config, bare_task(config), kept)
    texts = {
        "metajax": metajax.__version__,
        "step": str(step),
        "checkpoint": kept,
        "licence": licence or "",
        CONFIG: _configuration(directory, config),
        record.FILE: json.dumps(digests(directory)),
        **_result(directory, config, step, kept),
        **_more(directory),
        **network_texts,
    }
    arrays = {x: np.asarray(array) for x, array in by_path(META, meta).items()}
    arrays |= network_arrays
    body = file_of(directory, backbone.FILE)
    if body is not None:
        arrays[backbone.FILE] = np.frombuffer(body, np.uint8)
    write_published(out, texts, arrays)
    published = read_published(out)
    published.meta(meta)  # so that what is published can be read
    write_whole(beside, card(out, published, config))
    count = sum(x.size for name, x in arrays.items() if name.startswith(META))
    print(f"{count:,} meta-parameters after {step} meta-steps are in {out}")
    print(f"what they are is in {beside}")


def _check(out: Path) -> Path:
    """Refuses, before anything is read, what cannot be written; returns the card."""
    if out.suffix != SUFFIX:
        raise InputError(f"OUT must be named *{SUFFIX}, got {out}")
    beside = out.with_suffix(".md")
    files = {OUT: out, CARD: beside}
    for name, path in files.items():
        check_writable(name, path)
        check_outside_runs(name, path)
    check_different(files)
    if out.exists():
        read_published(out)  # over another file of this command alone
    if beside.exists() and not beside.read_bytes().startswith(MARK.encode()):
        raise InputError(
            f"{CARD} would be written over {beside}, which is another file; choose "
            "another OUT, or move it away"
        )
    return beside


def _configuration(directory: Path, config: Config) -> str:
    """The configuration as JSON, without the path of a backbone."""
    config = replace(config, model=config.model.within(None))
    if file_of(directory, backbone.FILE) is not None:
        config = replace(config, inner=config.inner.with_backbone(None))
    return json.dumps(config.as_dict())


def _result(directory: Path, config: Config, step: int, kept: Kept) -> dict[str, str]:
    """The two files of the result of a checkpoint, without the folder of the data.

    Raises:
      InputError: if there is none.
    """
    task = bare_task(config)
    learner = build_learner(config, task)
    run = Measured(
        directory, config, own_domain(config), task, learner, None, step, kept
    )
    name = name_of(run, config.evaluation, "test", Examples())
    text = as_written(directory, name, step)
    if text is None:
        flag = "" if kept == "last" else f" --checkpoint {kept}"
        raise InputError(
            f"{directory} has no result of this checkpoint, {name}.json; measure it "
            f"with metajax evaluate {directory}{flag}"
        )
    values: Any = json.loads((directory / f"{name}.json").read_bytes())
    values.pop(HASH, None)
    folder = values["protocol"].pop(FOLDER, None)
    text = text.replace(f", {FOLDER} {folder}", "")
    return {"evaluation.json": json.dumps(values), "evaluation.txt": text}


def _more(directory: Path) -> Mapping[str, str]:
    """The forms and the genotype of a run that has them."""
    forms, cells = forms_taken(directory), file_of(directory, genotypes.FILE)
    texts = {} if forms is None else {FORMS: forms.as_text()}
    return texts | ({} if cells is None else {genotypes.FILE: cells.decode()})
