"""A pre-trained backbone of a file, and how it sees pictures."""

from pathlib import Path
from typing import NamedTuple

from metajax.checks import check_one_of
from metajax.data.pictures.decoding import Mode
from metajax.data.pictures.fitting import Fit, check_interpolation
from metajax.errors import InputError
from metajax.labelling.learner import ImageFormat
from metajax.models import Backbone, Preprocessing, backbone_digest, load_backbone


class BackboneFile(NamedTuple):
    """A backbone and the file that it was read from.

    Attributes:
      backbone: the backbone.
      path: of the file.
      digest: of it and of the config.json beside it.
    """

    backbone: Backbone
    path: Path
    digest: str


def read_backbone(path: str | Path) -> BackboneFile:
    """Reads a backbone, and what tells its file from another.

    Args:
      path: see `metajax.models.load_backbone`.

    Returns:
      A `BackboneFile`.

    Raises:
      InputError: see there; or if its pictures are prepared in an unknown way.

    >>> import metajax as mj
    >>> def learner(path):
    ...     return mj.labelling.backbone_learner(read_backbone(path), "ridge")
    """
    path = Path(path)
    backbone = load_backbone(path)
    picture_format(backbone.preprocessing)
    return BackboneFile(backbone, path, backbone_digest(path))


def picture_format(pictures: Preprocessing) -> ImageFormat:
    """How an image becomes an input of a backbone, as in its pre-training.

    Raises:
      InputError: if its config.json asks for what Pillow or metajax has not.

    >>> pictures = Preprocessing((0.5,), (0.5,), (224, 224), 0.9, "bicubic")
    >>> picture_format(pictures).mode
    'L'
    """
    modes: dict[int, Mode] = {1: "L", 3: "RGB"}
    channels = len(pictures.mean)
    if channels not in modes or pictures.crop > 1:
        raise InputError(
            f"expected a backbone of pictures of 1 or 3 channels, and a crop_pct of at "
            f"most 1, got {channels} and {pictures.crop}; mend its config.json"
        )
    check_one_of("crop_mode", pictures.crop_mode, ("center", "squash"))
    fit = Fit(
        pictures.crop,
        check_interpolation(pictures.interpolation),
        squashed=pictures.crop_mode == "squash",
    )
    return ImageFormat(pictures.size, modes[channels], fit=fit)
