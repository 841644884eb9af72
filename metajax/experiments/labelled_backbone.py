"""Labelling by a pre-trained backbone, without a run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from metajax.data.folders.corrections import Corrections
from metajax.data.folders.listing import Columns
from metajax.errors import InputError
from metajax.experiments.labelled import (
    Crop,
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
    read_labelled,
    rebuild_learner,
    teach_backbone,
)
from metajax.labelling.backbones.backbone import BACKBONE
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
    crop: Crop = "auto",
    none: bool = False,
    others: Path | None = None,
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
      crop: whether pictures are cropped to their ink; "auto" chooses it, and whether
        they are inverted, by leave-one-out, see `labelling.choose_preparation`.
      none: whether pictures may get the label that they are of no class.
      others: a folder of labelled pictures of other classes, see
        `metajax.labelling.teach_backbone`.

    Raises:
      InputError: if there is no such backbone, or the folder will not do.
    """
    with blaming("--backbone"):
        file = read_backbone(path)
    learner = backbone_learner(file)
    form = learner.format.prepared(invert=invert, crop=crop == "ink")
    read = partial(
        read_support, support, columns=columns, corrections=corrections, none=none
    )
    images = read(learner._replace(format=form))
    print(describe_shots(images.shots))
    other_images = None
    if others is not None:
        with blaming("--others"):
            other_images = read_labelled(others, learner._replace(format=form))
    return teach_backbone(
        file,
        images,
        head=head,
        cache=cache,
        form=form,
        read=read if crop == "auto" else None,
        others=other_images,
    )


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
