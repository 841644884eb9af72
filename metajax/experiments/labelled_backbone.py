"""Labelling by a pre-trained backbone, without a run."""

from collections.abc import Sequence
from pathlib import Path

from metajax.data.corrections import Corrections
from metajax.data.listing import Columns
from metajax.errors import InputError
from metajax.experiments.labelled import (
    blaming,
    describe_shots,
    read_support,
    rebuild_run,
)
from metajax.labelling import (
    Labeller,
    backbone_learner,
    load,
    read_backbone,
    rebuild_learner,
    teach_backbone,
)
from metajax.labelling.backbone import BACKBONE
from metajax.labelling.saved import facts_of


def teach_file(
    path: Path,
    support: Path,
    *,
    head: str,
    columns: Columns | None = None,
    corrections: Sequence[Corrections] = (),
    cache: Path | None = None,
    invert: bool = False,
    crop: bool = False,
    none: bool = False,
) -> Labeller:
    """Teaches a backbone of a file the classes of a folder.

    Args:
      path: of the backbone.
      support: a folder of labelled images, or a table.
      head: see `metajax.labelling.teach_backbone`.
      columns: the names of the table's columns, see `read_labelled`.
      corrections: further labelled pictures, see there.
      cache: of features, see `metajax.labelling.backbone_learner`.
      invert: whether pictures that are bright on dark become dark on bright.
      crop: whether pictures are cropped to their ink.
      none: whether pictures may get the label that they are of no class.

    Raises:
      InputError: if there is no such backbone, or the folder will not do.
    """
    with blaming("--backbone"):
        file = read_backbone(path)._replace(invert=invert, crop=crop)
    images = read_support(
        support,
        backbone_learner(file),
        columns=columns,
        corrections=corrections,
        none=none,
    )
    print(describe_shots(images.shots))
    return teach_backbone(file, images, head=head, cache=cache)


def load_labeller(
    path: Path, *, backbone: Path | None = None, cache: Path | None = None
) -> Labeller:
    """Reads a labeller that was made from a run or on a backbone.

    Args:
      path: the file.
      backbone: the file of its backbone, if it was moved.
      cache: of features.

    Raises:
      InputError: see `metajax.labelling.load`; or if the backbone is another.
    """
    with blaming("--from"):
        facts = facts_of(path)
        if BACKBONE not in facts:
            if backbone is not None:
                raise InputError(f"{path} was taught by a run; leave out --backbone")
            return load(path, rebuild_run)
        learner = rebuild_learner(facts, path=backbone, cache=cache)
        return load(path, lambda facts: learner)
