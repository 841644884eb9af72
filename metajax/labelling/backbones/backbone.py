"""Teaches a pre-trained backbone the classes of a folder: no training is needed."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache as remembered
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL

import metajax
from metajax.checks import check_one_of
from metajax.errors import InputError
from metajax.labelling.backbones.file import (
    BackboneFile,
    picture_format,
    read_backbone,
)
from metajax.labelling.backbones.heads import HEADS
from metajax.labelling.choosing import choose_preparation
from metajax.labelling.labeller import Labeller
from metajax.labelling.learner import (
    Embedding,
    ImageFormat,
    ImageLearner,
    PerQueryLearner,
)
from metajax.labelling.pictures.feature_cache import FeatureCache
from metajax.labelling.teaching import LabelledImages, read_labelled, teach
from metajax.labelling.trust.predictions import leave_one_out, shuffled
from metajax.labelling.whitening import Whitening, learn_whitening
from metajax.ops.precision import matmul_precision
from metajax.types import Array, Batch, Model, Params, PyTree

AUTO = "auto"
BACKBONE = "backbone"  # the fact by which such a learner is known
FEATURES = 1  # raised with each change of decoding, of fitting or of a backbone
UNMEASURED = (
    "a backbone has no validation classes: these labelled pictures alone say what "
    "accuracy to expect"
)


def backbone_learner(
    file: BackboneFile, head: str = "prototypes", *, cache: Path | None = None
) -> ImageLearner:
    """A backbone with a head, as a learner of images.

    Args:
      file: the backbone.
      head: a name of `HEADS`: "prototypes", the nearest class mean of features that are
        centred on the labelled pictures' mean, at length one; "cosine", the same of
        features that are not centred; "ridge", ridge regression to the labels; "pmf",
        the backbone fine-tuned on the labelled pictures, which is slow.
      cache: of features, a file that is made if there is none; None to keep none.

    Returns:
      An `ImageLearner`. It is of features that are computed once, but for "pmf".

    Raises:
      InputError: if there is no such head.

    Source: Wang et al., "SimpleShot", 2019; Bertinetto et al., "Meta-learning with
    Differentiable Closed-form Solvers", ICLR 2019; Hu et al., "Pushing the Limits of
    Simple Pipelines for Few-Shot Learning", CVPR 2022.
    """
    check_one_of("head", head, tuple(HEADS))
    chosen = HEADS[head]
    model, params, pictures, features = file.backbone
    opened = remembered(FeatureCache)  # by context, which may change between calls

    def kept(form: ImageFormat) -> FeatureCache:
        return opened(cache, _context(file, form))

    place = None if cache is None else kept
    embedding = Embedding(model, params, features, place)
    body = _IDENTITY if chosen.frozen else model

    @remembered  # so that programs of it are compiled once
    def build(classes: int, pretrained: Params | None) -> PerQueryLearner:
        learner = chosen.build(body, features, classes)
        return PerQueryLearner(learner, classes, chosen.folds)

    return ImageLearner(
        build,
        picture_format(pictures),
        name=f"{head} on {file.path}",
        facts={
            BACKBONE: str(file.path.resolve()),
            "digest": file.digest,
            "head": head,
        },
        embedding=embedding if chosen.frozen else None,
    )


def teach_backbone(
    file: BackboneFile,
    support: LabelledImages | str | Path,
    *,
    head: str = AUTO,
    cache: Path | None = None,
    form: ImageFormat | None = None,
    read: Callable[[ImageLearner], LabelledImages] | None = None,
    others: LabelledImages | str | Path | None = None,
) -> Labeller:
    """Teaches a backbone the classes of labelled images, and calibrates it.

    Args:
      file: the backbone.
      support: the labelled images, or their folder, see `read_labelled`.
      head: see `backbone_learner`; "auto" for the one of the closed forms that predicts
        the most labelled images correctly, each from the others.
      cache: see there.
      form: how pictures are seen; as in its pre-training by default.
      read: `read(learner)` reads the labelled images in another format, where it may be
        chosen how they are prepared, see `choose_preparation`; None to choose nothing.
      others: labelled images of other classes, or their folder: how features of one
        class differ is learnt from them, and undone in all, see `learn_whitening`.
        Nothing is chosen then of how pictures are prepared.

    Returns:
      A `Labeller`, see `teach`.

    Raises:
      InputError: see `backbone_learner` and `read_labelled`; or if a class is among the
        others, these have no two pictures of any class, or the head is no closed form.

    >>> from metajax.labelling import FolderLabels
    >>> def label(folder, pictures):
    ...     backbone = read_backbone("model.safetensors")
    ...     return list(FolderLabels(teach_backbone(backbone, folder), pictures))
    """
    learners = _learners(file, head, cache, form)
    first = next(iter(learners.values()))
    if not isinstance(support, LabelledImages):
        support = read_labelled(support, first)
    support = support._replace(features=None)  # which may be of another learner
    first.check_classes(support.classes)
    whitened = ""
    if others is not None:
        whitening, whitened = _learn_others(first, others, support)
        learners = {n: x._replace(whitening=whitening) for n, x in learners.items()}
        first, read = next(iter(learners.values())), None
    support = support.embedded(first)
    learner, reason = _choose(learners, support) if len(learners) > 1 else (first, "")
    meta = learner.build(len(support.classes), None).learner.init(jax.random.key(0))
    chosen: tuple[str, ...] = ()
    if learner.embedding is not None:  # else each trial would fine-tune a network
        learner, support, chosen = choose_preparation(learner, meta, support, read)
    labeller = teach(learner, meta, support)
    lines = filter(None, (*chosen, reason, whitened, UNMEASURED))
    return labeller._replace(expected=(*labeller.expected, *lines))


def _learners(
    file: BackboneFile, head: str, cache: Path | None, form: ImageFormat | None
) -> dict[str, ImageLearner]:
    """By name, those of a head, or of all heads that may be chosen."""
    check_one_of("head", head, (AUTO, *HEADS))
    names = [n for n, x in HEADS.items() if x.chosen] if head == AUTO else [head]
    learners = {name: backbone_learner(file, name, cache=cache) for name in names}
    if form is None:
        return learners
    return {n: x._replace(format=form) for n, x in learners.items()}


def _learn_others(
    learner: ImageLearner,
    others: LabelledImages | str | Path,
    support: LabelledImages,
) -> tuple[Whitening, str]:
    """The whitening of images of other classes, and a sentence of it."""
    if learner.embedding is None:
        raise InputError(
            "pictures of other classes are for heads on features; choose the head "
            "prototypes, cosine or ridge, or leave these pictures out"
        )
    if not isinstance(others, LabelledImages):
        others = read_labelled(others, learner)
    if both := sorted({*others.classes} & {*support.classes}):
        raise InputError(
            f"{', '.join(both)} is labelled and among the other classes, so that what "
            "leave-one-out promises would be too much; leave it out of one of both"
        )
    features = np.asarray(others._replace(features=None).inputs(learner))
    count = f"{len(others.labels)} pictures of {len(others.classes)} other classes"
    return learn_whitening(features, others.labels), f"whitened by {count}"


def rebuild_learner(
    facts: Mapping[str, Any], *, path: Path | None = None, cache: Path | None = None
) -> ImageLearner:
    """The learner of the facts that `save` kept, for `load`.

    Args:
      facts: of a learner of `backbone_learner`.
      path: of the backbone, if it was moved.
      cache: see `backbone_learner`.

    Returns:
      The learner.

    Raises:
      InputError: if the backbone cannot be read, or is another than it was.
    """
    names = BACKBONE, "digest", "head"
    before, digest, head = (str(facts.get(name)) for name in names)
    file = read_backbone(Path(before) if path is None else path)
    if file.digest != digest:
        raise InputError(
            f"{file.path} is another backbone than the labeller was taught on, or its "
            "config.json was changed; give the one that it was by --backbone, or teach "
            "it again"
        )
    return backbone_learner(file, head, cache=cache)


def _choose(
    learners: Mapping[str, ImageLearner], support: LabelledImages
) -> tuple[ImageLearner, str]:
    """The learner that predicts the most images correctly, the first of several.

    Returns:
      It, and why it was chosen, in a sentence.
    """
    order = shuffled(len(support.labels))
    inputs = np.asarray(support.inputs(next(iter(learners.values()))))[order]
    batch = Batch(jnp.asarray(inputs), jnp.asarray(support.labels[order]))
    correct: dict[str, int] = {}
    count = 0
    for name, learner in learners.items():
        built = learner.build(len(support.classes), None)
        meta = built.learner.init(jax.random.key(0))
        predictions = leave_one_out(built, meta, batch)
        count = len(predictions.labels)
        correct[name] = int(np.sum(predictions.correct()))
    first = next(iter(learners))
    if not count:
        said = f"head {first}: with one picture a class none can be left out"
        return learners[first], said
    best = max(correct, key=correct.__getitem__)
    shares = ", ".join(f"{n} {100 * k / count:.1f} %" for n, k in correct.items())
    return learners[best], (
        f"head {best} was chosen by leave-one-out accuracy: {shares}; as the best of "
        f"{len(correct)} on the same pictures, it may be less accurate on others"
    )


def _context(file: BackboneFile, form: ImageFormat) -> str:
    """What a feature depends on, beside the content of a picture's file."""
    code = FEATURES, metajax.__version__, PIL.__version__, matmul_precision()
    text = repr((*code, file.digest, *form))
    return hashlib.sha256(text.encode()).hexdigest()


def _same(params: Params, inputs: PyTree) -> Array:
    return inputs


_IDENTITY = Model(lambda key: {}, _same)
