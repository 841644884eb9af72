"""Labels the images of a folder with a few labelled images, with calibrated confidence.

`teach` gives an `ImageLearner`, which is a learner and the format of its images, the
classes of a folder of labelled images, and returns a `Labeller`. `FolderLabels` labels
the images of another folder, each by itself, so that a label does not depend on what
else is in the folder.

Here a prototypical network is taught three glyphs of two images each. It is untrained,
so that the example is quick; `meta` would be the meta-parameters of training.

>>> import tempfile
>>> from functools import partial
>>> from pathlib import Path
>>> import jax, numpy as np
>>> from PIL import Image
>>> import metajax as mj
>>> folder = Path(tempfile.mkdtemp())
>>> glyphs = mj.data.glyphs(ways=3, shots=2, queries=1)(jax.random.key(1), 1)
>>> for part, (images, labels) in zip(("support", "query"), glyphs):
...     for i, (image, label) in enumerate(zip(images[0], labels[0])):
...         path = folder / part / f"glyph{label}" / f"{i}.png"
...         path.parent.mkdir(parents=True, exist_ok=True)
...         pixels = np.asarray(255 * (1 - image[..., 0])).astype(np.uint8)
...         Image.fromarray(pixels).save(path)  # dark ink on white paper

>>> def build(classes, pretrained):
...     body, _ = mj.conv4(classes, 8, norm="support").parts
...     return PerQueryLearner(mj.learners.prototypical(body, classes), classes)
>>> learner = ImageLearner(build, ImageFormat((28, 28), "L", inverted=True))
>>> meta = build(3, None).learner.init(jax.random.key(0))
>>> labeller = teach(learner, meta, folder / "support")
>>> print(labeller.expected[0])
leave-one-out accuracy on 6 labelled pictures: 100.0 % (95 % interval 61 to 100);
expect at least 61 % on pictures from the same source, and 34 % where another hand or
camera made them
>>> for label in FolderLabels(labeller, folder / "query"):
...     print(label.file, label.label, 0 < label.confidence <= 1)
glyph0/0.png glyph0 True
glyph1/1.png glyph1 True
glyph2/2.png glyph2 True

Labels are written in a form: a table, or what another tool imports (`LABEL_STUDIO`,
`COCO_FILE`); `write_links` writes folders of links.

>>> source = LabelSource(folder / "query", labeller.classes)
>>> labels = FolderLabels(labeller, folder / "query")
>>> _, first, *_ = TABLES[".csv"].blocks(labels, source)
>>> first[:20]
b'glyph0/0.png,glyph0,'

`validation=validation_tasks(partial(mj.data.glyphs, split="validation"), [2, 2, 2])`
calibrates the confidences on other classes too. `save` and `load` keep a labeller in a
file; `export` writes it as a program that runs without metajax, on pictures of any
size.

>>> save(labeller, folder / "labeller.npz")
>>> same = load(folder / "labeller.npz", lambda facts: learner)
>>> same.classes
('glyph0', 'glyph1', 'glyph2')

`teach_backbone` teaches a head on a pre-trained network, see
`metajax.models.load_backbone`, whose features of an image are computed once and kept by
the content of its file.

`teach_dense` teaches a `DenseLearner`, of segmentation or detection, a folder of
outlined or boxed pictures, and `FolderMarks` outlines or boxes those of another folder.
What is special to `masks` or to `boxes` is in a `DenseTargets`.
"""

from metajax.labelling.answers import Answer, Label
from metajax.labelling.backbones.backbone import (
    backbone_learner,
    rebuild_learner,
    teach_backbone,
)
from metajax.labelling.backbones.file import BackboneFile, read_backbone
from metajax.labelling.backbones.heads import HEADS, Head
from metajax.labelling.choosing import (
    Choice,
    choose_preparation,
    is_clearly_better,
    pixel_baseline,
)
from metajax.labelling.dense.boxes import boxes
from metajax.labelling.dense.folder import FolderMarks
from metajax.labelling.dense.marks import DenseTargets, Mark, Marked
from metajax.labelling.dense.masks import masks
from metajax.labelling.dense.teaching import DenseLabeller, DenseLearner, teach_dense
from metajax.labelling.folder import FolderLabels
from metajax.labelling.labeller import Judgement, Labeller
from metajax.labelling.learner import (
    Embedding,
    ImageFormat,
    ImageLearner,
    PerQueryLearner,
    balanced_cross_entropy,
)
from metajax.labelling.novelty import Novelty
from metajax.labelling.pictures.feature_cache import FeatureCache
from metajax.labelling.pictures.preparation import Preparation
from metajax.labelling.pictures.resizing import to_pixels
from metajax.labelling.saved import PLATFORMS, export, load, save
from metajax.labelling.teaching import LabelledImages, read_labelled, teach
from metajax.labelling.trust.calibration import (
    calibration_error,
    confidence_error,
    share_interval,
    temperature,
)
from metajax.labelling.trust.comparison import compare_folder
from metajax.labelling.trust.predictions import (
    Predictions,
    ValidationTasks,
    leave_one_out,
    predict_tasks,
    validation_tasks,
)
from metajax.labelling.trust.scoring import read_truth, score
from metajax.labelling.trust.strangers import learn_novelty
from metajax.labelling.trust.suggesting import suggest
from metajax.labelling.whitening import Whitening, learn_whitening
from metajax.labelling.writing.forms import (
    COCO_FILE,
    LABEL_STUDIO,
    TABLES,
    Form,
    LabelSource,
)
from metajax.labelling.writing.links import write_links

__all__ = [
    "COCO_FILE",
    "HEADS",
    "LABEL_STUDIO",
    "PLATFORMS",
    "TABLES",
    "Answer",
    "BackboneFile",
    "Choice",
    "DenseLabeller",
    "DenseLearner",
    "DenseTargets",
    "Embedding",
    "FeatureCache",
    "FolderLabels",
    "FolderMarks",
    "Form",
    "Head",
    "ImageFormat",
    "ImageLearner",
    "Label",
    "Judgement",
    "LabelSource",
    "LabelledImages",
    "Labeller",
    "Mark",
    "Marked",
    "Novelty",
    "PerQueryLearner",
    "Predictions",
    "Preparation",
    "ValidationTasks",
    "Whitening",
    "backbone_learner",
    "balanced_cross_entropy",
    "boxes",
    "calibration_error",
    "choose_preparation",
    "compare_folder",
    "confidence_error",
    "export",
    "is_clearly_better",
    "learn_novelty",
    "learn_whitening",
    "leave_one_out",
    "load",
    "masks",
    "pixel_baseline",
    "predict_tasks",
    "read_backbone",
    "read_labelled",
    "read_truth",
    "rebuild_learner",
    "save",
    "score",
    "share_interval",
    "suggest",
    "teach",
    "teach_backbone",
    "teach_dense",
    "temperature",
    "to_pixels",
    "validation_tasks",
    "write_links",
]
