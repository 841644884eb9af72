"""Omniglot as an image store, prepared once through TFDS."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from metajax.checks import check_one_of
from metajax.data.images import ImageStore
from metajax.data.records import Records
from metajax.data.sets.preparing import make_builder, prepare

if TYPE_CHECKING:
    from metajax.data.sets.omniglot_builder import OmniglotCharacters

Split = Literal["background", "evaluation", "train", "validation", "test"]


def omniglot(
    split: Split = "train",
    *,
    archives: str | Path | None = None,
    data_dir: str | Path | None = None,
    mapped: bool = False,
) -> ImageStore:
    """Omniglot at 28x28: 20 drawings of each of 1,623 characters.

    The 105x105 drawings are resized with Lanczos' filter. Ink is bright (255) on dark
    paper (0), the inverse of the files. The first call prepares the data (about half a
    minute); later ones read them.

    | split | characters | |
    |---|---|---|
    | background, evaluation | 964, 659 | the authors' own split, by alphabet |
    | train, validation, test | 1028, 172, 423 | Vinyals', the one papers report |

    Args:
      split: which characters.
      archives: a folder with `images_background.zip` and `images_evaluation.zip`;
        without it they are downloaded.
      data_dir: where the prepared data are kept; TFDS's own folder by default.
      mapped: leave the images there, for `stream_episodes`.

    Returns:
      An `ImageStore` in the order of alphabets and characters, for `image_episodes`.

    Raises:
      InputError: for an unknown split, an archive that is missing, truncated or not
        Omniglot, or no network.

    Source: Lake et al., "Human-level concept learning through probabilistic program
    induction", Science 2015. Split: Vinyals et al., "Matching Networks", NeurIPS 2016.
    """
    check_one_of("split", split, get_args(Split))
    builder: Any = prepare_omniglot(archives=archives, data_dir=data_dir)
    shape = builder.info.features["images"].shape
    classes = builder.info.splits[split].num_examples
    opened = partial(_source, split, builder.data_path.parent.parent)
    images = Records(opened, "images", (classes, *shape))
    names = tuple(
        f"{record['alphabet'].decode()}/{record['character'].decode()}"
        for record in images.source
    )
    counts = np.full(classes, shape[0])
    return ImageStore(images if mapped else np.asarray(images), counts, names)


def _source(split: Split, data_dir: Path) -> Any:
    """The records of a split that is prepared."""
    builder: Any = prepare_omniglot(data_dir=data_dir)
    return builder.as_data_source(split)


def prepare_omniglot(
    *, archives: str | Path | None = None, data_dir: str | Path | None = None
) -> "OmniglotCharacters":
    """Prepares Omniglot unless it is prepared already, and returns its TFDS builder.

    Args:
      archives: see `omniglot`.
      data_dir: see `omniglot`.

    Returns:
      The builder, for TFDS's own interface.

    Raises:
      InputError: see `omniglot`.
    """
    return prepare(
        make_builder("Omniglot", builder_class, archives=archives, data_dir=data_dir)
    )


def builder_class() -> "type[OmniglotCharacters]":
    """The TFDS builder's class, imported with TFDS, which other data do without."""
    from metajax.data.sets.omniglot_builder import OmniglotCharacters

    return OmniglotCharacters
