"""Labelling from Python: no run, no command, no configuration."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.errors import InputError
from metajax.labelling import (
    FolderLabels,
    ImageFormat,
    ImageLearner,
    LabelledImages,
    PerQueryLearner,
    load,
    save,
    teach,
    validation_tasks,
)
from tests.helpers import KEY

FORM = ImageFormat((28, 28), "L", inverted=True)


def build(classes, pretrained):
    body, _ = mj.conv4(classes, 4, norm="support").parts
    return PerQueryLearner(mj.learners.prototypical(body, classes), classes)


LEARNER = ImageLearner(build, FORM, name="prototypical")


@pytest.fixture(scope="module")
def meta():
    return build(3, None).learner.init(KEY)


def drawings(shots):
    """Labelled images of three glyphs, as pixels of files."""
    support, _ = mj.data.glyphs(ways=3, shots=shots, queries=1)(KEY, 1)
    pixels = np.asarray(255 * (1 - support.inputs[0])).astype(np.uint8)
    return LabelledImages(("a", "b", "c"), pixels, np.asarray(support.targets[0]))


@pytest.fixture(scope="module")
def labeller(meta):
    """One that was calibrated on other glyphs too."""
    glyphs = partial(mj.data.glyphs, split="validation")
    tasks = validation_tasks(glyphs, [2, 2, 2])._replace(tasks=10)
    return teach(LEARNER, meta, drawings(2), validation=tasks)


def test_arrays_teach_as_a_folder_does(labeller, meta, tmp_path):
    support = drawings(2)
    for i, (image, label) in enumerate(zip(support.images, support.labels)):
        path = tmp_path / "support" / "abc"[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    other = teach(LEARNER, meta, tmp_path / "support")
    assert other.classes == labeller.classes and other.support == labeller.support
    inputs = FORM.to_inputs(support.images)
    ours, theirs = (x.learner.logits(x.adapted, inputs) for x in (other, labeller))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    labels = FolderLabels(labeller, tmp_path / "support")
    likeliest = np.argmax(labeller.probabilities(support.images), axis=1)
    for _ in range(2):
        assert [label.label for label in labels] == ["abc"[k] for k in likeliest]
    assert labels.counts.total() == 6
    assert "the 0 least sure of 6" in labels.page()


def test_what_to_expect_is_measured_on_both(labeller):
    own, others = labeller.expected
    assert own.startswith("leave-one-out accuracy on 6 labelled pictures")
    assert "on 90 pictures of 10 tasks of the same ways and shots" in others
    assert 0 < labeller.temperature < np.inf


def test_one_image_a_class_is_not_calibrated(meta):
    labeller = teach(LEARNER, meta, drawings(1))
    assert labeller.temperature == 1.0
    assert labeller.expected[-1] == "confidences are the learner's own, not calibrated"


def test_a_saved_labeller_comes_back(labeller, tmp_path):
    source = LEARNER._replace(facts={"filters": 4})
    save(labeller._replace(source=source), tmp_path / "a")
    facts = []
    again = load(tmp_path / "a", lambda x: [LEARNER, facts.append(x)][0])
    assert facts == [{"filters": 4}] and again.expected == labeller.expected
    images = drawings(1).images
    ours, theirs = (np.asarray(x.probabilities(images)) for x in (again, labeller))
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(InputError, match="has outputs for 2.*; save it again"):
        load(tmp_path / "a", lambda _: LEARNER._replace(most_classes=2))


def test_a_learner_of_fewer_classes(meta):
    with pytest.raises(InputError, match="got 3 classes, and this maml has outputs"):
        teach(LEARNER._replace(name="maml", most_classes=2), meta, drawings(1))
    with pytest.raises(InputError, match=r"at least 2 classes .*, got 1 \(a\)"):
        teach(LEARNER, meta, drawings(1)._replace(classes=("a",)))


def test_images_are_inverted_only_if_the_learner_sees_them_so():
    white = jnp.full((1, 2, 2, 1), 255, jnp.uint8)
    assert FORM.to_inputs(white).max() == 0.0
    assert FORM._replace(inverted=False).to_inputs(white).min() == 1.0
