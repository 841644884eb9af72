import errno
import http.client
import io
import pickle
import urllib.error
import zipfile

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets")

import metajax as mj
from metajax.data import Records, omniglot
from metajax.data.sets import downloads, omniglot_builder
from metajax.data.sets._omniglot_split import vinyals_split
from metajax.data.sets.omniglot import prepare_omniglot
from tests.helpers import ARCHIVES, SMALL, small_parts, write_archives

real = pytest.mark.skipif(
    ARCHIVES is None, reason="METAJAX_OMNIGLOT_ARCHIVES names no folder of archives"
)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(SMALL))
    return write_archives(tmp_path / "archives")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omniglot")
    prepare_omniglot(archives=ARCHIVES, data_dir=folder)
    return folder


def test_small_archives(small, tmp_path):
    places = dict(archives=small, data_dir=tmp_path / "data")
    train = omniglot("train", **places)
    assert train.names == (
        "Greek/character01",
        "Greek/character02",
        "Angelic/character01",
        "Gurmukhi/character41",
    )
    assert train.images.shape == (4, 20, 28, 28, 1)
    assert train.images.dtype == np.uint8 and set(train.counts) == {20}
    assert omniglot("validation", **places).names == ("Hebrew/character01",)
    test = omniglot("test", **places)
    assert test.names == ("Gurmukhi/character42", "Kannada/character01")
    assert len(omniglot("background", **places).names) == 3
    assert len(omniglot("evaluation", **places).names) == 4


def test_ink_is_bright(small, tmp_path):
    images = omniglot("train", archives=small, data_dir=tmp_path / "data").images
    image = images[0, 0, :, :, 0]
    assert image.max() == 255 and image.min() == 0
    # The first character of the helper has its square at the top left.
    assert image[1:4, 1:4].mean() > 250 and image[10:, 10:].max() == 0


def test_prepared_data_need_no_archives(small, tmp_path):
    first = omniglot("test", archives=small, data_dir=tmp_path / "data")
    again = omniglot("test", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(first.images, again.images)


@pytest.mark.parametrize("reading", [1, 2])
def test_another_process_is_done_first(small, tmp_path, monkeypatch, reading):
    places = dict(archives=small, data_dir=tmp_path / "data")
    read, readings = omniglot_builder._read, []

    def read_late(files):
        readings.append(files)
        if len(readings) == reading:  # of one to check the source, one to prepare
            omniglot("test", **places)
        return read(files)

    monkeypatch.setattr(omniglot_builder, "_read", read_late)
    late = omniglot("test", **places)
    np.testing.assert_array_equal(late.images, omniglot("test", **places).images)
    kept = tmp_path / "data" / "omniglot_characters"
    assert [path.name for path in kept.iterdir()] == ["1.0.0"]


def test_another_process_is_done_while_this_one_renames(small, tmp_path, monkeypatch):
    places = dict(archives=small, data_dir=tmp_path / "data")
    builder = omniglot_builder.OmniglotCharacters
    prepare_here = builder.download_and_prepare

    def prepare_elsewhere(self, **settings):
        monkeypatch.setattr(builder, "download_and_prepare", prepare_here)
        omniglot("test", **places)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(builder, "download_and_prepare", prepare_elsewhere)
    assert omniglot("test", **places).names == omniglot("test", **places).names


def test_mapped_drawings_are_read_when_asked_for(small, tmp_path):
    places = dict(archives=small, data_dir=tmp_path / "data")
    whole, mapped = omniglot(**places), omniglot(**places, mapped=True)
    assert isinstance(mapped.images, Records) and mapped.names == whole.names
    some = np.array([[3], [0]]), np.array([[0, 19], [7, 7]])
    np.testing.assert_array_equal(mapped.images[some], whole.images[some])
    # As a worker process has it.
    sent = pickle.loads(pickle.dumps(mapped.images))
    np.testing.assert_array_equal(sent, whole.images)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda path: path.unlink(), "no images_evaluation.zip in"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-900]),
            "truncated or damaged",
        ),
        (lambda path: path.write_text("not a zip"), "truncated or damaged"),
        (
            lambda path: zipfile.ZipFile(path, "w").close(),
            "expected 4 characters, found 0",
        ),
    ],
)
def test_bad_archives(small, tmp_path, harm, message):
    harm(small / "images_evaluation.zip")
    with pytest.raises(mj.InputError, match=message) as caught:
        omniglot("test", archives=small, data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value) and "download" in str(caught.value)
    assert not (tmp_path / "data").exists(), "nothing is written"


def test_an_archive_with_a_drawing_too_few(tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(SMALL))
    folder = write_archives(tmp_path / "archives", drawings=19)
    with pytest.raises(mj.InputError, match="expected 20 drawings of .*, found 19"):
        omniglot("test", archives=folder, data_dir=tmp_path / "data")


@pytest.mark.parametrize("error", [urllib.error.URLError, http.client.BadStatusLine])
def test_no_network(tmp_path, monkeypatch, error):
    def unreachable(*_args, **_kwargs):
        raise error("no route to host")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
    with pytest.raises(mj.InputError, match="no route to host.*as archives"):
        omniglot("test", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists(), "nothing is written"


def test_download(small, tmp_path, monkeypatch):
    """The path through TFDS's downloader, the network replaced by local files."""

    class Downloads:
        def download(self, urls):
            return {name: str(small / url.split("/")[-1]) for name, url in urls.items()}

    reached = []

    def reach(request, timeout):
        reached.append(request.full_url)
        return io.BytesIO()

    monkeypatch.setattr(downloads.urllib.request, "urlopen", reach)
    omniglot_builder.OmniglotCharacters(data_dir=str(tmp_path)).check_source()
    urls = {name: part.url for name, part in omniglot_builder.PARTS.items()}
    paths = downloads.download(Downloads(), "Omniglot", urls, "go without")
    assert [path.name for path in paths.values()] == [
        "images_background.zip",
        "images_evaluation.zip",
    ]
    assert len(reached) == 2
    assert set(reached) <= set(omniglot_builder.OmniglotCharacters.url_infos)


def test_a_download_that_is_not_the_file():
    class Downloads:
        def download(self, urls):
            raise downloads.NonMatchingChecksumError("checksum mismatch")

    otherwise = downloads.by_hand(["a.zip"])
    with pytest.raises(mj.InputError, match="checksum mismatch.*as archives"):
        downloads.download(Downloads(), "Omniglot", {}, otherwise)


def test_unknown_split():
    with pytest.raises(mj.InputError, match='split must be one of "background"'):
        omniglot("all")  # pyright: ignore


def test_vinyals_rule():
    characters = [("background", "Bengali", "character03")]
    characters += [("evaluation", "Gurmukhi", f"character{i}") for i in (41, 42)]
    split = vinyals_split(characters)
    assert split == {"train": [1], "validation": [0], "test": [2]}


@real
def test_real_splits(prepared):
    sizes = {
        split: len(omniglot(split, data_dir=prepared).names)
        for split in ("background", "evaluation", "train", "validation", "test")
    }
    assert sizes == dict(
        background=964, evaluation=659, train=1028, validation=172, test=423
    )
    parts = [
        set(omniglot(s, data_dir=prepared).names)
        for s in ("train", "validation", "test")
    ]
    assert len(set.union(*parts)) == 1623
    test = omniglot("test", data_dir=prepared)
    assert test.names[0] == "Gurmukhi/character42" and test.names[-1].startswith("ULOG")


@real
def test_real_drawing(prepared):
    """A known image: the file as PIL reads it, inverted and made smaller."""
    from PIL import Image

    with zipfile.ZipFile(f"{ARCHIVES}/images_background.zip") as archive:
        name = next(n for n in sorted(archive.namelist()) if n.endswith("_01.png"))
        with Image.open(io.BytesIO(archive.read(name))) as image:
            ink = ~np.asarray(image.convert("1"))
    ours = omniglot("background", data_dir=prepared).images[0, 0, :, :, 0]
    assert ours.max() > 200 and ours[0].max() == 0
    # The share of ink, and its centre, survive the resize.
    assert abs(ours.mean() / 255 - ink.mean()) < 0.005
    centre = [np.average(np.arange(105), weights=ink.sum(axis)) for axis in (0, 1)]
    mine = [
        np.average(np.arange(28), weights=ours.astype(float).sum(a)) for a in (0, 1)
    ]
    np.testing.assert_allclose(
        (np.array(mine) + 0.5) / 28, (np.array(centre) + 0.5) / 105, atol=0.02
    )
