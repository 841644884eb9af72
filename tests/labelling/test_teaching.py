"""Labelling from Python: no run, no command, no configuration."""

import json
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax._files.writing import write_whole
from metajax.errors import FilesError, InputError
from metajax.labelling import (
    FolderLabels,
    ImageFormat,
    ImageLearner,
    LabelledImages,
    PerQueryLearner,
    choose_preparation,
    export,
    load,
    read_labelled,
    save,
    saved,
    teach,
    validation_tasks,
)
from metajax.labelling.saved import classes_of
from tests.helpers import KEY, write_image

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
    own, others, strangers = labeller.expected
    assert strangers.startswith("pictures of none of the classes: AUROC")
    assert own.startswith("leave-one-out accuracy on 6 labelled pictures")
    assert "on 90 pictures of 10 tasks of the same ways and shots" in others
    assert 0 < labeller.temperature < np.inf


def test_one_image_a_class_is_not_calibrated(meta):
    labeller = teach(LEARNER, meta, drawings(1))
    assert labeller.temperature == 1.0
    assert "confidences are the learner's own, not calibrated" in labeller.expected
    assert "one picture a class says nothing" in labeller.expected[-1]


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


def larger(learner, shots=2):
    """The drawings as a learner reads them."""
    support = drawings(shots)
    times = learner.format.size[0] // support.images.shape[1]
    images = np.kron(support.images, np.ones((1, times, times, 1), np.uint8))
    return support._replace(images=images)


def test_how_pictures_are_prepared_is_chosen_and_saved(meta, tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (24, 28, 28, 1)).astype(np.uint8)
    unreadable = drawings(8)._replace(images=noise)
    learner, images, lines = choose_preparation(
        LEARNER, meta, unreadable, partial(larger, shots=8)
    )
    assert "as they are" in lines[0] and "--crop ink" in lines[0]
    assert learner.format.preparation.crop and "--crop ink is used" in lines[1]
    assert images.images.shape[1:3] == learner.format.size
    same = drawings(2)._replace(images=np.repeat(noise[:3], 2, 0))  # nothing to mend
    (said,) = choose_preparation(
        LEARNER, meta, same, lambda _: pytest.fail("read")
    ).lines
    assert "as they are 100.0 %; of the nearest class mean" in said
    one = drawings(1)
    assert choose_preparation(LEARNER, meta, one) == (LEARNER, one, ())
    cropped = learner._replace(format=FORM.prepared(invert=True, crop=True))
    labeller = teach(cropped, meta, images := larger(cropped))
    save(labeller, tmp_path / "a")
    again = load(tmp_path / "a", lambda _: LEARNER)
    assert again.source.format == cropped.format and again.examples
    ours, theirs = (x.judge(images.images) for x in (again, labeller))
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    np.testing.assert_array_equal(ours.novelty, theirs.novelty)


def test_a_learner_of_fewer_classes(meta):
    with pytest.raises(InputError, match="got 3 classes, and this maml has outputs"):
        teach(LEARNER._replace(name="maml", most_classes=2), meta, drawings(1))
    with pytest.raises(InputError, match=r"at least 2 classes .*, got 1 \(a\)"):
        teach(LEARNER, meta, drawings(1)._replace(classes=("a",)))


def test_a_table_teaches_by_the_columns_that_are_named(tmp_path):
    for i in range(2):
        write_image(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / "a.csv").write_text("photo;breed\n0.png;pug\n1.png;cat\n")
    with pytest.raises(InputError, match="say which they are by columns="):
        read_labelled(tmp_path / "a.csv", LEARNER)
    columns = {"file": "photo", "label": "breed"}
    images = read_labelled(tmp_path / "a.csv", LEARNER, columns=columns)
    assert images.classes == ("cat", "pug") and images.shots == [1, 1]
    with pytest.raises(InputError, match="columns must name"):
        read_labelled(tmp_path / "a.csv", LEARNER, columns={"photo": "file"})


def test_everything_that_cannot_be_used_is_in_one_error(tmp_path):
    for i in range(2):
        write_image(tmp_path / "images" / f"{i}.png", i)
        (tmp_path / "images" / f"empty{i}.png").write_bytes(b"")
    files = ("0", "1", "empty0", "empty1", "none")
    lines = [f"{name}.png,{name}" for name in files]
    (tmp_path / "a.csv").write_text("\n".join(["file,label", *lines]))
    with pytest.raises(FilesError, match="3 files or lines of tables") as caught:
        read_labelled(tmp_path / "a.csv", LEARNER)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("link", [False, True])
def test_new_weights_never_stand_beside_old_classes(
    labeller, tmp_path, monkeypatch, link
):
    program = tmp_path / "a"
    exported = SimpleNamespace(serialize=lambda: b"new")
    monkeypatch.setattr(saved.jax.export, "export", lambda *_, **__: lambda _: exported)
    classes_of(program).symlink_to("real") if link else None
    export(labeller, program)
    assert json.loads(classes_of(program).read_text())["classes"] == ["a", "b", "c"]

    def interrupted(path, content):
        write_whole(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(saved, "write_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(labeller, program)
    assert program.read_bytes() == b"new" and not classes_of(program).exists()
    assert classes_of(program).is_symlink() == link


def test_images_are_inverted_only_if_the_learner_sees_them_so():
    white = jnp.full((1, 2, 2, 1), 255, jnp.uint8)
    assert FORM.to_inputs(white).max() == 0.0
    assert FORM._replace(inverted=False).to_inputs(white).min() == 1.0
