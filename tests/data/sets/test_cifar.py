"""CIFAR-FS and FC100, from small archives in the form of CIFAR-100's."""

import io
import pickle
import tarfile
import urllib.error

import jax
import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets")

import metajax as mj
from metajax._files.archives import read_tar
from metajax.data import Records, cifar_fs, fc100, image_episodes
from metajax.data.sets import cifar_builder, downloads
from metajax.data.sets._cifar_classes import PAIRS
from tests.helpers import cifar_files, cut, flip, write_tar

TRAIN, TEST = cifar_builder.IMAGES
SMALL = {TRAIN: 3, TEST: 2}
SPLITS = ("train", "validation", "test")
# Of each fine label in turn, as torchvision's users know it.
SUPERCLASS = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The folder of a small archive, and what is in it."""
    monkeypatch.setattr(cifar_builder, "IMAGES", SMALL)
    files = cifar_files(SMALL)
    return write_tar(tmp_path / "archives" / cifar_builder.FILE, files).parent, files


def images_of(files, name):
    """The images of a class as a loop over the bytes finds them."""
    label = sorted(each for _, each in PAIRS).index(name)
    found = []
    for content in (files[TRAIN], files[TEST]):
        for at in range(0, len(content), 3074):
            if content[at + 1] == label:
                red, green, blue = (
                    np.frombuffer(content, np.uint8, 1024, at + 2 + 1024 * plane)
                    for plane in range(3)
                )
                found.append(np.stack([red, green, blue], -1).reshape(32, 32, 3))
    return np.stack(found)


def test_the_images_of_each_class(small, tmp_path):
    folder, files = small
    places = dict(archives=folder, data_dir=tmp_path / "data")
    for load, sizes in ((cifar_fs, (64, 16, 20)), (fc100, (60, 20, 20))):
        stores = [load(split, **places) for split in SPLITS]
        assert tuple(len(store.names) for store in stores) == sizes
        names = [name for store in stores for name in store.names]
        assert len(set(names)) == 100, "no class is in two"
        for store in stores:
            assert store.images.shape == (len(store.names), 5, 32, 32, 3)
            assert store.images.dtype == np.uint8 and set(store.counts) == {5}
        for store in stores:
            for name, images in list(zip(store.names, store.images))[::7]:
                expected = images_of(files, name.split("/")[1])
                np.testing.assert_array_equal(images, expected)


def test_fc100_holds_out_whole_superclasses(small, tmp_path):
    folder, _ = small
    places = dict(archives=folder, data_dir=tmp_path / "data")
    groups = [
        {name.split("/")[0] for name in fc100(split, **places).names}
        for split in SPLITS
    ]
    assert [len(each) for each in groups] == [12, 4, 4]
    assert groups[2] == {"aquatic_mammals", "insects", "medium_mammals", "people"}
    assert not groups[0] & groups[1] and not set.union(*groups[:2]) & groups[2]


def test_labels_are_those_of_the_files():
    labels, groups = cifar_builder._labels()
    assert sorted(labels) == list(range(100))
    assert [SUPERCLASS[label] for label in labels] == list(groups)


def test_prepared_data_need_no_archive(small, tmp_path):
    folder, _ = small
    data = tmp_path / "data"
    first = cifar_fs("test", archives=folder / cifar_builder.FILE, data_dir=data)
    again = fc100("test", data_dir=data)
    shared = "insects/bee" in first.names, "insects/bee" in again.names
    assert shared == (False, True)
    both = "people/baby"
    np.testing.assert_array_equal(
        first.images[first.names.index(both)], again.images[again.names.index(both)]
    )


def test_mapped_images_are_read_when_asked_for(small, tmp_path):
    folder, _ = small
    places = dict(archives=folder, data_dir=tmp_path / "data")
    whole, mapped = cifar_fs(**places), cifar_fs(**places, mapped=True)
    assert isinstance(mapped.images, Records) and mapped.names == whole.names
    some = np.array([[3], [60]]), np.array([[0, 4], [2, 2]])
    np.testing.assert_array_equal(mapped.images[some], whole.images[some])
    # As a worker process has it.
    sent = pickle.loads(pickle.dumps(mapped.images))
    np.testing.assert_array_equal(sent, whole.images)


def test_feeds_episodes(small, tmp_path):
    folder, _ = small
    store = fc100(archives=folder, data_dir=tmp_path / "data")
    episodes = image_episodes(store, ways=5, shots=1, queries=4)(jax.random.key(0), 2)
    assert episodes.query.inputs.shape == (2, 20, 32, 32, 3)


def changed(files, at, value):
    """The files with a byte of the first record changed."""
    content = bytearray(files[TRAIN])
    content[at] = value
    return {**files, TRAIN: bytes(content)}


def relabelled(files):
    """Of each class as many as there should be, two of them in one another's place."""
    records = np.frombuffer(files[TRAIN], np.uint8).reshape(-1, 3074).copy()
    first, second = (np.flatnonzero(records[:, 1] == c)[0] for c in (0, 1))
    records[first, 1], records[second, 1] = 1, 0
    return {**files, TRAIN: records.tobytes()}


def link(path, files):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(TRAIN)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)


HARMS = {
    "missing": (lambda path, files: path.unlink(), "no cifar-100-binary.tar.gz in"),
    "cut": (lambda path, files: cut(path), "truncated, damaged"),
    "flipped": (lambda path, files: flip(path), "truncated, damaged"),
    "a page": (lambda path, files: path.write_text("<html>"), "Not a gzipped file"),
    "empty": (lambda path, files: path.write_bytes(b""), "truncated, damaged"),
    "for Python": (
        lambda path, files: write_tar(path, {"cifar-100-python/train": b"pickle"}),
        "it has no cifar-100-binary/test.bin or cifar-100-binary/train.bin",
    ),
    "one file": (
        lambda path, files: write_tar(path, {TRAIN: files[TRAIN]}),
        "it has no cifar-100-binary/test.bin",
    ),
    "short": (
        lambda path, files: write_tar(path, {**files, TEST: files[TEST][:-1]}),
        "test.bin has 614799 bytes, expected 614800",
    ),
    "long": (
        lambda path, files: write_tar(path, {**files, TEST: files[TEST] + b"\0"}),
        "test.bin has 614801 bytes, expected 614800",
    ),
    "twice": (
        lambda path, files: write_tar(path, [*files.items(), *files.items()]),
        "train.bin is in it twice",
    ),
    "a link": (link, "train.bin is not a plain file"),
    "elsewhere": (
        lambda path, files: write_tar(path, {f"../{n}": c for n, c in files.items()}),
        "it has no",
    ),
    "a class": (
        lambda path, files: write_tar(path, changed(files, 1, 100)),
        "its labels are not 3 of each class",
    ),
    "a superclass": (
        lambda path, files: write_tar(path, changed(files, 0, 20)),
        "not in the superclasses of CIFAR-100",
    ),
    "two classes": (
        lambda path, files: write_tar(path, relabelled(files)),
        "not in the superclasses of CIFAR-100",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_bad_archives(small, tmp_path, harm):
    folder, files = small
    break_it, message = HARMS[harm]
    break_it(folder / cifar_builder.FILE, files)
    with pytest.raises(mj.InputError, match=message) as caught:
        cifar_fs("test", archives=folder, data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value) and "; download cifar" in str(caught.value)
    assert not (tmp_path / "data").exists(), "nothing is written"


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("metajax._files.archives.ROOM", 2**16)
    files = {"a": b"1", "more": bytes(2**17)}
    path = write_tar(tmp_path / "a.tar.gz", files)
    with pytest.raises(OSError, match="unpacks to more than it should"):
        read_tar(path, {"a": 1})
    # Nor is a header's own data read, whatever its size.
    long = write_tar(tmp_path / "b.tar.gz", {"n" * 2**18: b"", "a": b"1"})
    with pytest.raises(OSError, match="unpacks to more than it should"):
        read_tar(long, {"a": 1})
    small = write_tar(tmp_path / "c.tar.gz", {"../b": b"22", "a": b"1"})
    assert read_tar(small, {"a": 1}) == {"a": b"1"}


def test_the_checksum_at_the_end_is_read(tmp_path):
    path = write_tar(tmp_path / "a.tar.gz", {"a": b"1" * 100})
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of CRC-32
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC check failed"):
        read_tar(path, {"a": 100})


def test_no_network(tmp_path, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
    with pytest.raises(mj.InputError, match="no route to host.*as archives"):
        fc100(data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists(), "nothing is written"


def test_download(small, tmp_path, monkeypatch):
    """The path through TFDS's downloader, the network replaced by a local file."""
    folder, files = small
    asked = []

    def download(_manager, urls):
        asked.extend(urls.values())
        return {name: str(folder / name) for name in urls}

    monkeypatch.setattr(
        downloads.urllib.request, "urlopen", lambda *_, **__: io.BytesIO()
    )
    manager = cifar_builder.tfds.download.DownloadManager
    monkeypatch.setattr(manager, "download", download)
    store = cifar_fs("test", data_dir=tmp_path / "data")
    expected = images_of(files, "whale")
    np.testing.assert_array_equal(store.images[0], expected)
    assert store.names[0] == "aquatic_mammals/whale"
    assert asked == list(cifar_builder.Cifar100Classes.url_infos)


def test_unknown_split():
    for load in (cifar_fs, fc100):
        with pytest.raises(mj.InputError, match='one of "train", "validation", "test"'):
            load("val")
