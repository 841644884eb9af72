"""What is said of labels before and after they are made: on small made pictures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.errors import InputError
from metajax.labelling import ImageFormat, Label, Predictions
from metajax.labelling.choosing import is_clearly_better, pixel_baseline
from metajax.labelling.novelty import Novelty
from metajax.labelling.pictures.contents import Contents, classes_by_content
from metajax.labelling.pictures.preparation import Preparation
from metajax.labelling.trust.comparison import (
    describe_differences,
    describe_strange,
    summarise,
)
from metajax.labelling.trust.scoring import read_truth, score
from metajax.labelling.trust.suggesting import suggest
from metajax.labelling.trust.suspects import (
    describe_suspects,
    find_mislabelled,
    find_twins,
)
from tests.helpers import write_image

FORM = ImageFormat((28, 28), "L", inverted=True)


def squares(place, side, paper=255, ink=0):
    """A picture `uint8[1, 112, 112, 1]` of a square."""
    pixels = np.full((1, 112, 112, 1), paper, np.uint8)
    pixels[:, place : place + side, place : place + side] = ink
    return pixels


def test_pictures_are_cropped_to_their_ink_wherever_it_is():
    form = FORM.prepared(crop=True)
    assert form.size == (112, 112) and form.input_shape == (28, 28, 1)
    first, second = (form.to_inputs(squares(*x)) for x in ((8, 40), (60, 40)))
    assert first.shape == (1, 28, 28, 1)
    np.testing.assert_allclose(first, second, atol=0.02)
    assert abs(float(first.mean()) - 0.8**2) < 0.03
    small = form.to_inputs(squares(50, 10))
    np.testing.assert_allclose(small, first, atol=0.35)
    blank = form.to_inputs(squares(0, 0))
    np.testing.assert_allclose(blank, 0, atol=1e-6)


def test_only_what_is_bright_on_dark_is_inverted():
    form = FORM.prepared(invert=True)._replace(size=(112, 112))
    dark, bright = (squares(40, 20, *x) for x in ((255, 0), (0, 255)))
    np.testing.assert_allclose(form.to_inputs(dark), form.to_inputs(bright), atol=1e-6)
    assert FORM.prepared(invert=True, crop=True).preparation.flags() == (
        "--invert --crop ink"
    )
    assert FORM.prepared().preparation == Preparation()


def test_a_folder_unlike_the_labelled_pictures_is_warned_of():
    form = ImageFormat((112, 112), "L")
    ours = summarise(form, np.concatenate([squares(x, 40) for x in range(20, 60, 10)]))
    assert describe_differences(ours, ours) == ()
    (line,) = describe_differences(ours, summarise(form, squares(40, 40, 0, 255)))
    assert "100 % of the pictures" in line and "add --invert" in line
    (line,) = describe_differences(ours, summarise(form, squares(40, 10)))
    assert "add --crop ink" in line
    (line,) = describe_differences(ours, summarise(form, squares(40, 40, 130, 100)))
    assert "have a brightness of 4" in line
    cropped = form.prepared(crop=True)
    ours, theirs = (
        summarise(cropped, np.kron(squares(30, x), np.ones((1, 2, 2, 1), np.uint8)))
        for x in (40, 10)
    )
    assert describe_differences(ours, theirs) == ()


def test_a_folder_of_strangers_is_warned_of():
    novelty = Novelty(jnp.zeros((1, 1)), 1.0, 0.0, 0.25, 0.9)
    labeller: Any = SimpleNamespace(novelty=novelty)
    assert describe_strange(labeller, 40, 100) == ()
    (line,) = describe_strange(labeller, 50, 100)
    assert line.startswith("50 % of the pictures") and "25 % of the labelled" in line
    assert line.endswith("label some of them, or give --none")
    labeller.novelty = novelty._replace(least_area=0.504)
    (line,) = describe_strange(labeller, 50, 100)
    assert line.endswith("label some of them")
    labeller.novelty = Novelty(*novelty[:3])  # nothing is known of one picture a class
    assert describe_strange(labeller, 100, 100) == ()


def test_the_baseline_is_that_of_a_loop():
    draw = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 1, 1, 2])
    x = draw.uniform(size=(6, 8, 8, 3)) + 0.1 * labels[:, None, None, None]
    expected = []
    for i in range(5):  # the last is the only one of its class
        rest = np.delete(np.arange(6), i)
        grey = x.mean(-1).reshape(6, -1)
        means = [grey[rest][labels[rest] == k].mean(0) for k in range(3)]
        distances = [np.sum((grey[i] - mean) ** 2) for mean in means]
        expected.append(np.argmin(distances) == labels[i])
    result = pixel_baseline(x.mean(-1).reshape(6, -1), labels)
    assert result.tolist() == expected


def test_a_choice_is_clear_only_beyond_chance():
    same = np.array([True, False])
    assert not is_clearly_better(same, same)
    assert not is_clearly_better(np.ones(4, bool), np.zeros(4, bool))
    assert is_clearly_better(np.ones(5, bool), np.zeros(5, bool))


def test_doubtful_labels_are_listed():
    logits = np.array([[9.0, 0.0], [0.0, 9.0], [0.0, 0.3]])
    own = Predictions(logits, np.array([0, 0, 0]))
    names = ["a/0.png", "a/1.png", "a/2.png"]
    wrong = find_mislabelled(own, np.arange(3), 1.0, ("a", "b"), names)
    assert wrong == ["a/1.png looks like b, not a (100 %)"]
    references = np.array([[1.0, 0.0], [1.0, 0.001], [0.0, 1.0]])
    (twins,) = find_twins(references, np.array([0, 1, 1]), names)
    assert twins == "a/0.png and a/1.png are nearly the same"
    assert find_twins(references, np.array([1, 1, 0]), names) == []
    (line,) = describe_suspects([twins] * 7, "pair")
    assert line.startswith("check 7 pairs") and line.endswith("and 2 more")


def test_suggestions_are_uncertain_and_apart():
    sure, torn, other = [0.98, 0.01, 0.01], [0.5, 0.49, 0.01], [0.01, 0.5, 0.49]
    assert suggest(np.array([sure, torn, torn, other, torn]), 2) == [1, 3]
    assert len(suggest(np.array([sure, torn]), 5)) == 2


def test_none_is_scored_against_the_truth():
    """Right of pictures of other classes; of the classes wrong, and not calibrated."""
    truth = {"0": "cat", "1": "cat", "2": "dog", "3": "none", "4": "fox", "5": "none"}
    given = ["cat", "none", "dog", "none", "none", "cat"]
    labels = [
        Label(str(i), name, 0.5 + 0.4 * (name == "none"), "dog", 0.1)
        for i, name in enumerate(given)
    ]
    lines = score(labels, truth.get, ("cat", "dog"))
    assert "on 3 pictures of the classes: 66.7 %" in lines[0]
    assert lines[0].endswith(
        ", 1 of them labelled none; the rest have a mean confidence of 50.0 % and a "
        "calibration error of 50.0 %"
    )
    assert "largest confusions: cat as none 1" in lines
    assert "2 of 3 pictures of unlabelled classes were labelled none" in lines
    (line, *_) = score(labels[1:2], truth.get, ("cat", "dog"))
    assert line.endswith("), 1 of them labelled none")  # no confidence is of a class


def test_labels_are_scored_against_the_truth(tmp_path):
    for i, name in enumerate(("cat", "cat", "dog", "fox")):
        write_image(tmp_path / "truth" / name / f"{i}.png", 20 * i)
        write_image(tmp_path / "images" / f"{i}.png", 20 * i)
    labels = [
        Label(f"{i}.png", name, 0.8, "dog", 0.1, strange)
        for i, (name, strange) in enumerate(zip(["cat", "dog", "dog", "cat"], range(4)))
    ]
    table = tmp_path / "truth.csv"
    table.write_text("file,label\n0.png,cat\n1.png,cat\n2.png,dog\n3.png,fox\n")
    for path in (tmp_path / "truth", table):
        truth = read_truth(path, tmp_path / "images")
        lines = score(labels, truth, ("cat", "dog"))
        assert "on 3 pictures of the classes: 66.7 % (95 % interval" in lines[0]
        assert "mean confidence of 80.0 %" in lines[0]
        assert lines[1].endswith("cat 1 of 2, dog 1 of 1")
        assert lines[2] == "largest confusions: cat as dog 1"
        assert lines[3].startswith("0 of 1 pictures") and lines[4].endswith("100.0 %")
    assert "none of these" in score(labels, lambda _: None, ("cat",))[0]
    table.write_text("photo,breed\n")
    with pytest.raises(InputError, match="it has none for labels, got photo, breed"):
        read_truth(table, tmp_path)


def test_the_truth_is_read_as_labelled_tables_are(tmp_path):
    """Of any encoding and separator, whatever form its names have; or it is refused."""
    images, table = tmp_path / "images", tmp_path / "truth.csv"
    for name in ("caf\u00e9.png", "sub/b.png"):
        write_image(images / name, 0)
    rows = "file,label\ncafe\u0301.png, cat\nimages\\sub\\b.png,do\u0301g \n"
    for text in (rows, rows.replace(",", ";")):
        for encoding in ("utf-8-sig", "utf-16"):
            table.write_bytes(text.encode(encoding))
            truth = read_truth(table, images)
            assert truth("caf\u00e9.png") == "cat" and truth("sub/b.png") == "d\u00f3g"
    table.write_bytes("file,label\ncaf\u00e9.png,cat\n".encode("latin-1"))
    with pytest.raises(InputError, match="not a table of UTF-8"):
        read_truth(table, images)
    table.write_text("file,label\nsub/b.png,cat\nsub/b.png,dog\nno.png,dog\n")
    with pytest.warns(UserWarning, match="2 lines are not read in .* again") as said:
        truth = read_truth(table, images)
    assert truth("sub/b.png") == "cat" and len(said) == 1


def test_labelled_pictures_are_known_by_their_content(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", 20 * i)
        write_image(tmp_path / f"copy{i}.png", 20 * i)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    contents = Contents(classes_by_content(files, "aab"))
    assert [contents.class_of(tmp_path / f"copy{i}.png") for i in range(3)] == [*"aab"]
    write_image(tmp_path / "other.png", 99)
    assert contents.class_of(tmp_path / "other.png") is None
    assert contents.class_of(Path("nowhere")) is None
    assert classes_by_content([files[0], tmp_path / "copy0.png"], "ab") == {}
