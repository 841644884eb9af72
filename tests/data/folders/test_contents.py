"""The hash of every file of a data set."""

import os
from pathlib import Path

import numpy as np
import pytest

from metajax.data.folders import contents
from metajax.data.folders.contents import digest_of, hash_files, hash_store
from metajax.data.images import ImageStore
from metajax.errors import InputError


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are read."""
    names, true = [], contents._hash_file
    monkeypatch.setattr(
        contents, "_hash_file", lambda path: (names.append(path.name), true(path))[1]
    )
    return names


def fill(folder):
    for name in ("a/1", "a/2", "b/1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return {c: sorted((folder / c).iterdir()) for c in ("a", "b")}


def test_a_file_is_read_again_only_if_it_may_have_changed(tmp_path, hashed):
    classes, kept = fill(tmp_path / "set"), tmp_path / "deep" / "kept.json"
    first = hash_files(tmp_path / "set", classes, kept=kept)
    assert sorted(hashed) == ["1", "1", "2"] and list(first["a"]) == ["a/1", "a/2"]
    hashed.clear()
    assert hash_files(tmp_path / "set", classes, kept=kept) == first and not hashed
    path = tmp_path / "set/a/2"
    times = path.stat()
    path.write_text("a/9")  # as long
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = hash_files(tmp_path / "set", classes, kept=kept)
    assert hashed == ["2"] and digest_of(second) != digest_of(first)
    assert second["b"] == first["b"] and second["a"]["a/1"] == first["a"]["a/1"]


def test_files_are_named_below_the_folder_however_they_are_given(tmp_path, monkeypatch):
    """As a COCO file may name its images by whole paths."""
    classes, kept = fill(tmp_path / "set"), tmp_path / "kept.json"
    monkeypatch.chdir(tmp_path)
    below = {c: [x.relative_to(tmp_path) for x in xs] for c, xs in classes.items()}
    for given, folder in ((classes, "set"), (below, "set"), (below, tmp_path / "set")):
        hashes = hash_files(Path(folder), given, kept=kept)
        assert [*hashes["a"]] == ["a/1", "a/2"]


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a/1": 1}', b"\xff", b"[" * 99999])
def test_kept_hashes_that_are_damaged(tmp_path, hashed, content):
    classes, kept = fill(tmp_path / "set"), tmp_path / "kept.json"
    first = hash_files(tmp_path / "set", classes, kept=kept)
    kept.write_bytes(content)
    hashed.clear()
    assert hash_files(tmp_path / "set", classes, kept=kept) == first
    assert len(hashed) == 3


def test_hashes_that_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    classes, kept = fill(tmp_path / "set"), tmp_path / "file" / "kept.json"
    assert len(hash_files(tmp_path / "set", classes, kept=kept)) == 2


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    classes = {"a": [tmp_path / "pipe"]}
    with pytest.raises(InputError, match=r"pipe cannot be read \(it is not a file\)"):
        hash_files(tmp_path, classes, kept=tmp_path / "kept.json")


def test_stored_images_are_hashed_without_their_padding():
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2, 1)
    store = ImageStore(images, np.array([3, 2]), ("a", "b"))
    padded = images.copy()
    padded[1, 2] = 99
    assert hash_store(store) == hash_store(store._replace(images=padded))
    padded[1, 1] = 99
    changed = hash_store(store._replace(images=padded))
    assert changed["a"] == hash_store(store)["a"] and changed != hash_store(store)
