"""A learner of images: what labelling has to know of it."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.pictures.decoding import Mode, Pixels
from metajax.data.pictures.fitting import STRETCHED, Fit
from metajax.errors import InputError
from metajax.labelling.pictures.feature_cache import FeatureCache
from metajax.labelling.pictures.preparation import Preparation
from metajax.labelling.whitening import Whitening
from metajax.losses import memberships
from metajax.models.flat import rows
from metajax.types import Array, Batch, Learner, Model, Params, PyTree

FOLDS = 50  # times that one example of each class is left out

LARGER, LARGEST = 4, 256  # times and pixels, of pictures that are cropped


class ImageFormat(NamedTuple):
    """How an image file becomes an input of a learner.

    Attributes:
      size: (height, width) in pixels.
      mode: "RGB", or "L" for grey.
      inverted: whether the learner sees dark pixels as bright ones, as learners of
        drawings see ink.
      fit: how an image of another size becomes one of this size.
      preparation: what is done to the pixels first.

    >>> ImageFormat((28, 28), "L", True).to_inputs(jnp.full((1, 1), 255, jnp.uint8))
    Array([[0.]], dtype=float32)
    """

    size: tuple[int, int]
    mode: Mode = "RGB"
    inverted: bool = False
    fit: Fit = STRETCHED
    preparation: Preparation = Preparation()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return *self.size, len(self.mode)

    def pixels(self, bits: int | None) -> Pixels:
        """What image files are decoded to.

        Args:
          bits: see `metajax.data.pictures.decoding.decode`.
        """
        return Pixels(self.size, self.mode, bits, self.fit)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an input, which may be cropped."""
        times = self.preparation.crop or 1
        height, width = self.size
        return height // times, width // times, len(self.mode)

    def prepared(self, *, invert: bool = False, crop: bool = False) -> "ImageFormat":
        """The same format with other preparation.

        Args:
          invert: see `Preparation`.
          crop: whether pictures are cropped to their ink. They are then decoded at up
            to four times the size, of at most 256 pixels, so that little is lost.
        """
        height, width, _ = self.input_shape
        times = max(1, min(LARGER, LARGEST // max(height, width))) if crop else 1
        size = times * height, times * width
        done = Preparation(invert, times if crop else 0)
        return self._replace(size=size, preparation=done)

    def to_inputs(self, images: Array) -> Array:
        """Inputs `float32[...]` in [0, 1] from the pixels of files, `uint8[...]`."""
        done = self.preparation
        if done != Preparation():
            pixels = done.apply(images.astype(jnp.float32) / 255.0)
            return 1 - pixels if self.inverted else pixels
        pixels = 255 - images if self.inverted else images
        return pixels.astype(jnp.float32) / 255.0

    def warn_of_dark(self, images: np.ndarray) -> None:
        """Warns of labelled pictures that are dark, where those of training were ink.

        Args:
          images: the pictures, `uint8[...]`.
        """
        inverted = self.inverted and not self.preparation.invert
        if inverted and np.mean(images) < 128:
            warnings.warn(
                "the labelled pictures are mostly dark, and this learner was trained "
                "on dark ink on white paper; if theirs is bright ink, add --invert",
                stacklevel=3,
            )


class PerQueryLearner(NamedTuple):
    """A learner of a number of classes that predicts each query by itself.

    Attributes:
      learner: the learner, whose prediction of a query does not depend on the others:
        its network settles its statistics on the support set, or has none, or it is
        made such a learner by `metajax.per_query`.
      classes: the number of classes; further outputs of the learner are ignored.
      folds: the largest number of adaptations of `leave_one_out`.
    """

    learner: Learner
    classes: int
    folds: int = FOLDS

    def adapt(self, meta: PyTree, support: Batch) -> PyTree:
        """The adapted learner, as `metajax.labelling.save` keeps it."""
        return {"adapted": self.learner.adapt(meta, support)}

    def logits(self, adapted: PyTree, queries: Array) -> Array:
        """`float[n, classes]` for queries `[n, ...]`, each predicted by itself."""
        outputs = self.learner.predict(adapted["adapted"], queries)
        return outputs[:, : self.classes]


class Embedding(NamedTuple):
    """A frozen network, whose features of an image a learner takes in place of pixels.

    Attributes:
      model: from images `float[n, height, width, channels]` to `float[n, features]`.
      params: its parameters.
      features: the number of features of an image.
      cache: `cache(form)` keeps features of pictures of a format between commands.
    """

    model: Model
    params: Params
    features: int
    cache: Callable[[ImageFormat], FeatureCache] | None = None


class ImageLearner(NamedTuple):
    """A learner of images for any number of classes, and how it sees images.

    Attributes:
      build: `build(classes, pretrained) -> PerQueryLearner`.
      format: how an image becomes an input.
      name: of the algorithm, for messages.
      most_classes: the number of outputs; None if there may be any number of classes.
      facts: plain values from which `metajax.labelling.load` builds the learner again.
      pretrained: parameters that the learner is built on and does not learn, or None.
      embedding: the network of whose features the learner is; None if it is of pixels.
      whitening: of these features; None to take them as they are.
    """

    build: Callable[[int, Params | None], PerQueryLearner]
    format: ImageFormat
    name: str = "learner"
    most_classes: int | None = None
    facts: Mapping[str, Any] = {}
    pretrained: Params | None = None
    embedding: Embedding | None = None
    whitening: Whitening | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an input."""
        embedding = self.embedding
        return self.format.input_shape if embedding is None else (embedding.features,)

    @property
    def cache(self) -> FeatureCache | None:
        """Where features of pictures of its format are kept, if they are."""
        if self.embedding is None or self.embedding.cache is None:
            return None
        return self.embedding.cache(self.format)

    def inputs(self, images: np.ndarray | Array) -> Array:
        """The learner's inputs of images.

        Args:
          images: `uint8[n, height, width, channels]`, as `format` says.

        Returns:
          `float32[n, *input_shape]`.
        """
        if self.embedding is None:
            return _pixels_of(self.format, images)
        return self.whitened(self.features(images))

    def features(self, images: np.ndarray | Array) -> Array:
        """A network's features of images; it has one program for all formats.

        Args:
          images: see `inputs`.
        """
        assert self.embedding is not None
        model, params, *_ = self.embedding
        return _features_of(model, params, _pixels_of(self.format, images))

    def whitened(self, features: Array) -> Array:
        """The learner's inputs of features."""
        return features if self.whitening is None else self.whitening(features)

    def check_classes(self, names: tuple[str, ...]) -> None:
        """Checks that the learner can tell the classes apart.

        Raises:
          InputError: if they are fewer than two, or more than its outputs.
        """
        if len(names) < 2:
            raise InputError(
                f"expected at least 2 classes to choose from, got {len(names)} "
                f"({', '.join(names)}); add images of another class"
            )
        if self.most_classes is not None and len(names) > self.most_classes:
            raise InputError(
                f"got {len(names)} classes, and this {self.name} has outputs for "
                f"{self.most_classes}; give fewer, or train a learner of any number of "
                "classes, such as prototypical"
            )


@partial(jax.jit, static_argnums=0)
def _pixels_of(form: ImageFormat, images: Array) -> Array:
    return form.to_inputs(images)


@partial(jax.jit, static_argnums=0)
def _features_of(model: Model, params: Params, pixels: Array) -> Array:
    return rows(model.predict(params, pixels))


def balanced_cross_entropy(outputs: Array, targets: Array, *, classes: int) -> Array:
    """The mean over classes of the mean cross-entropy of each class's examples.

      L = -1/K Σ_k 1/n_k Σ_{i: y_i = k} log softmax(z_i)[k],  K classes with n_k > 0

    It equals `cross_entropy` if all classes have equally many examples. If they do not,
    an inner loop of `cross_entropy` mainly learns which class is the largest.

    Args:
      outputs: logits z, `float[n, outputs]`; outputs after the first `classes` are left
        out of the softmax.
      targets: labels y, `int[n]`.
      classes: the number of classes.

    Returns:
      The loss, a scalar in nats; NaN if a label is out of range.

    >>> z, y = jnp.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1, 1])
    >>> print(f"{balanced_cross_entropy(z, y, classes=2):.4f}")
    0.4100
    """
    members = memberships(targets, classes, outputs.dtype)
    counts = jnp.sum(members, axis=0)
    present = jnp.sum(counts > 0).astype(outputs.dtype)
    weights = members / jnp.maximum(counts, jnp.ones_like(counts))[None]
    return -jnp.sum(weights * jax.nn.log_softmax(outputs[:, :classes])) / present
