"""torchmeta's HDF5, and files that are never read."""

import json
import pickle
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import image_episodes, image_folder, stream_episodes
from metajax.data.folders.contents import hash_files
from metajax.data.folders.listing import list_images, list_loose

h5py = pytest.importorskip("h5py")

SIZE = (6, 5)


def noise(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


def png(image):
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


def write(path, classes, *, encoded=False, labels=None):
    """A file as torchmeta writes it: bytes of pixels, or of PNG files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("datasets")
        for name, images in classes.items():
            if encoded:
                data = group.create_dataset(
                    name, len(images), dtype=h5py.vlen_dtype(np.uint8)
                )
                for i, image in enumerate(images):
                    data[i] = png(image)
            else:
                group.create_dataset(name, data=images)
    names = sorted(classes) if labels is None else labels
    stem = path.name.removesuffix("_data.hdf5")
    path.with_name(f"{stem}_labels.json").write_text(json.dumps(names))


CLASSES = {"n02": noise(4, 12, 10, 3), "n01": noise(3, 12, 10, 3)}


def refused(path, split="train", **settings):
    with pytest.raises(mj.InputError) as caught:
        image_folder(path, SIZE, split=split, **settings)
    return str(caught.value)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("mode", ["plain", "kept", "mapped"])
def test_torchmeta_splits_are_read_as_files_are(tmp_path, encoded, mode):
    write(tmp_path / "set/train_data.hdf5", CLASSES, encoded=encoded)
    write(tmp_path / "set/val_data.hdf5", {"n03": noise(2, 12, 10, 3)})
    for name, images in CLASSES.items():
        for i, image in enumerate(images):
            path = tmp_path / "files" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    kept = {} if mode == "plain" else {"cache": tmp_path / "cache"}
    for _ in range(2):
        store = image_folder(
            tmp_path / "set", SIZE, split="train", mapped=mode == "mapped", **kept
        )
    plain = image_folder(tmp_path / "files", SIZE)
    assert store.names == plain.names == ("n01", "n02")
    assert store.counts.tolist() == [3, 4]
    np.testing.assert_array_equal(store.images, plain.images)
    episodes = stream_episodes if mode == "mapped" else image_episodes
    assert episodes(store, 2, 1, 2) is not None
    validation = image_folder(tmp_path / "set", SIZE, split="validation")
    assert validation.names == ("n03",)
    assert "is split (train_data.hdf5, val_data.hdf5)" in refused(
        tmp_path / "set", None
    )


def test_grey_and_small_classes(tmp_path):
    grey = noise(3, 6, 5, 1)
    write(tmp_path / "train_data.hdf5", {"a": grey, "b": grey[:1]})
    with pytest.warns(UserWarning, match="1 of the 2 classes .* b .1."):
        store = image_folder(
            tmp_path, SIZE, split="train", color=False, min_per_class=2
        )
    np.testing.assert_array_equal(store.images, grey[None])


def test_a_changed_file_is_read_again(tmp_path):
    path, kept = tmp_path / "set/train_data.hdf5", dict(cache=tmp_path / "cache")
    for shade in (10, 20):
        write(path, {"a": np.full((2, 6, 5, 3), shade, np.uint8)})
        store = image_folder(tmp_path / "set", SIZE, split="train", **kept)
        assert set(np.ravel(store.images)) == {shade}


def test_the_contents_of_a_run(tmp_path):
    write(tmp_path / "train_data.hdf5", CLASSES)
    classes = list_images(tmp_path, "train").classes
    found = hash_files(tmp_path, classes, kept=tmp_path / "kept.json")
    assert list(found) == ["n01", "n02"]
    assert set(found["n01"]) == {"train_data.hdf5"}


def test_other_labels_are_said(tmp_path):
    write(tmp_path / "train_data.hdf5", CLASSES, labels=["n01"])
    with pytest.warns(UserWarning, match="train_labels.json does not list the classes"):
        assert image_folder(tmp_path, SIZE, split="train").names == ("n01", "n02")


def harmed(tmp_path):
    path = tmp_path / "train_data.hdf5"
    write(path, CLASSES)
    return path


def links_outside(path):
    with h5py.File(path, "a") as file:
        file["datasets"]["out"] = h5py.ExternalLink("elsewhere.hdf5", "/datasets/a")


def of_floats(path):
    with h5py.File(path, "a") as file:
        file["datasets"].create_dataset("x", data=np.zeros((2, 4, 4, 3)))


HARMS = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:900]), "damaged"),
    "text": (lambda path: path.write_text("text"), "is damaged, or no HDF5 file"),
    "a link": (links_outside, "out is no array of images"),
    "floats": (of_floats, "x is no array of images"),
    "empty": (lambda path: write(path, {}), "torchmeta's form (no classes)"),
    "other": (
        lambda path: h5py.File(path, "w").close(),
        "not in torchmeta's form",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_not_of_that_form(tmp_path, harm):
    change, message = HARMS[harm]
    change(harmed(tmp_path))
    assert message in refused(tmp_path)


def test_encoded_images_that_are_damaged_are_listed(tmp_path):
    write(tmp_path / "train_data.hdf5", CLASSES, encoded=True)
    with h5py.File(tmp_path / "train_data.hdf5", "a") as file:
        for i in (0, 2):
            file["datasets"]["n02"][i] = np.frombuffer(b"no image", np.uint8)
    message = refused(tmp_path)
    assert message.startswith(f"2 files in {tmp_path} cannot be used: train_data.hdf5:")
    assert "n02[0]" in message and "n02[2]" in message


def test_encoded_images_of_unknown_depth_are_refused(tmp_path):
    deep = {"a": np.full((2, 6, 5), 400, np.uint16)}
    write(tmp_path / "train_data.hdf5", deep, encoded=True)
    message = refused(tmp_path)
    assert "a[0]" in message and "a[1] has 16 bits a number" in message
    assert message.endswith("; encode it in 8 bits")


def test_without_h5py(tmp_path, monkeypatch):
    write(tmp_path / "train_data.hdf5", CLASSES)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert "needs h5py, which is not installed: pip install h5py" in refused(tmp_path)


@pytest.mark.parametrize(
    "names, message",
    [
        (["mini-imagenet-cache-train.pkl"], "pickles are not read, as loading one can"),
        (["deep/train.pickle"], "pickles are not read"),
        (["train.npz"], "arrays are not read"),
        (["setid.mat"], "arrays are not read"),
        (["train.h5"], "HDF5 files are read in torchmeta's form only"),
        (["data.mdb", "lock.mdb"], "LMDB databases are not read"),
        (["train.tfrecord-00000-of-00010"], "TFRecord files are not read"),
        (["train.tfrecords"], "TFRecord files are not read"),
        (["train.parquet"], "Parquet and Arrow files are not read"),
        (["images.zip", "x.tar.gz"], "archives are not read; unpack them"),
    ],
)
def test_what_is_never_read_is_said(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps(0))
    for split in (None, "train"):
        said = refused(tmp_path, split)
        assert message in said and "\n" not in said
    with pytest.raises(mj.InputError, match="no images in") as caught:
        list_loose(tmp_path)
    assert message in str(caught.value)
    assert message in refused(tmp_path / names[0], None)
