"""What a family of pre-trained networks has to say of itself."""

from collections.abc import Callable
from typing import NamedTuple

from metajax.models.backbones.config import Config
from metajax.models.backbones.weights import Weights
from metajax.types import Array, Params


class Network(NamedTuple):
    """A network of one family.

    Attributes:
      forward: `forward(params, x) -> float[n, features]`, of normalised pictures
        `float[n, height, width, channels]`.
      features: the number of features of a picture.
      multiple: what a picture's sides have to be multiples of.
    """

    forward: Callable[[Params, Array], Array]
    features: int
    multiple: int = 1


class Family(NamedTuple):
    """A family of networks, told by a tensor and confirmed by its architecture's name.

    Some networks of timm differ in what they compute and not in their tensors, so that
    a name is needed; widths and depths come from the tensors.

    Attributes:
      name: for errors.
      mark: the name of a tensor that no other family has.
      architectures: a regular expression of timm's names of architectures.
      head: what the names of a classifier's tensors, which are left out, start with.
      build: `build(weights, config) -> Network`, which takes the tensors.
    """

    name: str
    mark: str
    architectures: str
    head: tuple[str, ...]
    build: Callable[[Weights, Config], Network]
