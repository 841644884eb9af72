"""Classes of too few pictures: counted, and left out on request."""

import warnings

import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import ImageStore, image_episodes, image_folder, stream_episodes
from metajax.errors import naming
from tests.helpers import write_image

COUNTS = {"a": 5, "b": 1, "c": 4, "d": 2, "e": 5}
FLAGS = {
    "shots": "--data.shots",
    "queries": "--evaluation.queries",
    "min_per_class": "--data.drop-small-classes",
    "store": "the validation data",
}


def store(counts):
    images = np.zeros((len(counts), max(counts), 4, 4, 1), np.uint8)
    return ImageStore(images, np.array(counts), tuple("abcdefghij"[: len(counts)]))


def refused(call):
    with pytest.raises(mj.InputError) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    for c, (name, count) in enumerate(COUNTS.items()):
        for i in range(count):
            write_image(tmp_path / "train" / name / f"{i}.png", 10 * c + i)
    return tmp_path


@pytest.mark.parametrize("episodes", [image_episodes, stream_episodes])
def test_small_classes_are_counted_and_named(episodes):
    small = store(list(COUNTS.values()))
    said = refused(lambda: episodes(small, 3, 1, 2))
    for part in (
        "shots + queries must be at most the images a class, 1 (of b), got 1 + 2 = 3",
        "2 of the 5 classes in store are too small (b has 1, d has 2)",
        "make shots or queries smaller",
        "image_folder(min_per_class=3)",
    ):
        assert part in said
    with naming(FLAGS):
        said = refused(lambda: episodes(small, 3, 1, 2))
    for part in (
        "--data.shots + --evaluation.queries must be at most",
        "2 of the 5 classes in the validation data",
        "make --data.shots or --evaluation.queries smaller",
        "with --data.drop-small-classes",
    ):
        assert part in said
    assert "image_folder" not in said and " shots" not in said


def test_what_leaving_out_would_leave():
    few = refused(lambda: image_episodes(store([5, 1, 4, 2, 5]), 4, 1, 2))
    assert few.endswith("(which leaves 3, too few for 4 ways)")
    assert "leave such" not in refused(lambda: image_episodes(store([2, 2]), 2, 1, 2))
    many = refused(lambda: image_episodes(store([1] * 8 + [9] * 2), 2, 1, 2))
    assert "e has 1, and 3 more" in many


def test_names_of_an_outer_block_hold():
    with naming({"shots": "--shots"}), naming({"shots": "x", "queries": "y"}):
        said = refused(lambda: image_episodes(store([2, 2]), 2, 1, 2))
        assert said.startswith("--shots + y must be")
        said = refused(lambda: image_episodes(store([2, 2]), 2, 0, 2))
    assert said == "--shots must be a whole number of at least 1, got 0"


@pytest.mark.parametrize("mapped", [False, True])
def test_small_classes_are_left_out(folder, tmp_path, mapped):
    kept = dict(cache=tmp_path / "cache", mapped=mapped)
    with pytest.warns(UserWarning, match="2 of the 5 classes in .* have fewer than 3 "):
        large = image_folder(folder, (4, 4), split="train", min_per_class=3, **kept)
    assert large.names == ("a", "c", "e") and large.counts.tolist() == [5, 4, 5]
    whole = image_folder(folder, (4, 4), split="train", **kept)
    np.testing.assert_array_equal(large.images, whole.images[[0, 2, 4]])
    episodes = stream_episodes if mapped else image_episodes
    assert episodes(large, 3, 1, 2) is not None


@pytest.mark.parametrize("kept", [False, True])
def test_small_classes_count_for_the_depth(tmp_path, kept):
    """Whichever split is read, and whether or not they are left out."""
    names = ("train/dim/0", "train/dim/1", "train/bright/0", "test/other/0")
    for name in (*names, "test/other/1"):
        path = tmp_path / f"set/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        most = 4000 if "bright" in name else 400
        Image.fromarray(np.full((4, 4), most, np.uint16)).save(path)
    cache = tmp_path / "cache" if kept else None
    for split in ("train", "test"):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            store = image_folder(
                tmp_path / "set", (4, 4), split=split, min_per_class=2, cache=cache
            )
        assert "read as 12-bit" in str(said[-1].message)
        np.testing.assert_array_equal(store.images, 400 >> 4)


def test_faults_of_other_splits_leave_out_small_classes(folder, tmp_path):
    write_image(tmp_path / "test" / "b" / "0.png", 1)
    (tmp_path / "test" / "b" / "0.png").write_bytes(b"")
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"")
    for i in range(2):
        write_image(tmp_path / "test" / "a" / f"{i}.png", i)
    with pytest.warns(UserWarning, match="left out"):
        said = refused(
            lambda: image_folder(folder, (4, 4), split="train", min_per_class=2)
        )
    assert "train/a/0.png cannot be read" in said and "test/b" not in said


def test_the_warning_counts_classes_and_images(folder):
    with pytest.warns(UserWarning) as said, naming({"store": "the train data"}):
        image_folder(folder, (4, 4), split="train", min_per_class=5)
    assert str(said[0].message) == (
        "3 of the 5 classes in the train data have fewer than 5 images and are left "
        "out, with 7 images in all: b (1), c (4), d (2)"
    )


def test_no_class_is_large_enough(folder):
    call = lambda: image_folder(folder, (4, 4), split="train", min_per_class=9)  # noqa: E731
    assert "the largest, a, has 5; add images, or lower min_per_class" in refused(call)
    call = lambda: image_folder(folder, (4, 4), min_per_class=0)  # noqa: E731
    assert "min_per_class must be a whole number of at least 1" in refused(call)
