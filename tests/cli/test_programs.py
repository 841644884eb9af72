"""Compiled programs that are kept: the same numbers, whatever is in the folder."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cli import programs
from metajax.cli.main import main
from metajax.cli.programs import FOLDER, OF_THE_USER, Programs
from metajax.experiments import run
from metajax.training.checkpoints import Checkpoints
from tests.helpers import compilations, cut, flip

pytestmark = pytest.mark.usefixtures("relaxed")
HITS = "/jax/compilation_cache/cache_hits"


@pytest.fixture(autouse=True)
def default(monkeypatch):
    """As for a user who has set nothing, and in a new process."""
    monkeypatch.delenv(OF_THE_USER)
    yield
    jax.clear_caches()


def entries(folder):
    return sorted((folder / FOLDER).glob("*/*-cache.*"))


def compute(prepared, cache=True):
    """Numbers of a small program, and whether it came from the disk."""
    jax.clear_caches()
    hits = []

    def listen(event, **_):
        if event == HITS:
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        with Programs(cache).kept(prepared):
            value = jax.jit(lambda x: jnp.sin(x) @ x.T)(np.ones((3, 3), np.float32))
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return np.asarray(value).tobytes(), bool(hits)


def test_a_program_is_compiled_once(tmp_path):
    fresh, again = compute(tmp_path), compute(tmp_path)
    assert fresh == (again[0], False) and again[1]
    (folder,) = (tmp_path / FOLDER).iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not jax.config.jax_compilation_cache_dir
    assert compute(tmp_path, cache=False) == fresh


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_replaced(tmp_path, capsys, damage):
    fresh = compute(tmp_path)
    whole = [path.read_bytes() for path in entries(tmp_path)]
    for path in entries(tmp_path):
        damage(path)
    assert compute(tmp_path) == fresh
    # The time that compiling took is in them too.
    assert len(entries(tmp_path)) == len(whole) and compute(tmp_path)[1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "there", ["a file", "a link", "another's", "a link to one's own", "anyone's parent"]
)
def test_a_folder_that_will_not_do(tmp_path, capsys, there):
    fresh = compute(tmp_path, cache=False)
    place = tmp_path / FOLDER
    if there == "a file":
        place.write_text("")
    elif there == "a link":
        place.symlink_to(place)
    else:
        compute(tmp_path)
        (own,) = place.iterdir()
        if there == "another's":
            own.chmod(0o777)
        elif there == "anyone's parent":
            place.chmod(0o777)
        else:
            own.symlink_to(own.rename(tmp_path / "moved"))
    assert compute(tmp_path) == fresh
    told = capsys.readouterr().err
    assert told.startswith("warning: compiled programs are not kept")
    assert told.count("\n") == 1


def test_a_folder_of_features(tmp_path, capsys):
    """Users may share it, and none trusts what others may write to."""
    own = Programs().features(tmp_path).parent
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert own.parent.stat().st_mode & stat.S_ISVTX
    assert own.parent.stat().st_mode & stat.S_IXOTH
    assert Programs(cache=False).features(tmp_path) is None
    own.chmod(0o777)
    assert Programs().features(tmp_path) is None
    told = capsys.readouterr().err
    assert told.startswith("warning: features of pictures are not kept")


def test_a_folder_that_goes_away(tmp_path, capsys):
    with Programs().kept(tmp_path):
        shutil.rmtree(tmp_path / FOLDER)
        assert jax.jit(lambda x: x + 2)(1) == 3
    assert capsys.readouterr().err == ""


def test_a_full_disk(small_disk, capsys):
    disk = small_disk(64)
    (disk / "filling").write_bytes(b"x" * 2**15)
    with Programs().kept(disk):
        for shift in range(8):
            function = jax.jit(lambda x, shift=shift: jnp.sin(x) * x + shift)
            assert np.isfinite(function(np.ones(100 + shift, np.float32))).all()
    assert capsys.readouterr().err == ""
    assert compute(disk)[0] == compute(disk, cache=False)[0]


def test_a_folder_that_a_group_shares(tmp_path):
    before = os.umask(0o002)
    try:
        fresh, again = compute(tmp_path), compute(tmp_path)
    finally:
        os.umask(before)
    assert again == (fresh[0], True)
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o1775


def test_a_full_temporary_disk(tmp_path, small_disk, monkeypatch, capsys):
    """What JAX could write only a part of is not kept; the rest is read from there."""
    disk = small_disk(64)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    filling = disk / "filling"
    noise = np.random.default_rng(0).random(2**11, np.float32)  # not to be compressed
    parts = []
    for room in (4, 8, 48):
        filling.write_bytes(b"x" * (64 - room) * 2**10)
        jax.clear_caches()
        with Programs().kept(tmp_path):
            jax.jit(lambda x: jnp.sin(x) + noise)(np.float32(1))
            (written,) = disk.glob("*/*-cache")
            parts.append(written.stat().st_size)
        assert bool(entries(tmp_path)) == (room == 48)
    assert 0 < parts[0] < parts[1] < parts[2]
    for path in entries(tmp_path):
        path.unlink()
    filling.unlink()
    fresh = compute(tmp_path)
    assert compute(tmp_path) == (fresh[0], True)
    filling.write_bytes(b"x" * 64 * 2**10)
    before = entries(tmp_path)
    assert compute(tmp_path) == (fresh[0], False) and entries(tmp_path) == before
    assert capsys.readouterr().err == ""


def test_a_part_of_a_file():
    whole = zlib.compress(bytes(range(256)))
    assert programs._is_whole(whole)
    assert not any(programs._is_whole(whole[:n]) for n in range(len(whole)))
    assert not programs._is_whole(programs.ZSTD + whole)


def test_a_part_of_a_file_that_zstandard_wrote():
    zstd = pytest.importorskip("zstandard")
    whole = zstd.compress(bytes(range(256)))
    assert programs._is_whole(whole)
    assert not any(programs._is_whole(whole[:n]) for n in range(len(whole)))


def test_a_file_that_another_thread_is_writing(tmp_path):
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    kept.mkdir()
    folder.mkdir()
    store, whole = programs._Store(kept, folder), zlib.compress(bytes(range(256)))
    (folder / "program-cache").write_bytes(whole[:99])
    store.keep()
    assert list(kept.iterdir()) == []
    (folder / "program-cache").write_bytes(whole)
    store.keep()
    (path,) = kept.iterdir()
    assert path.read_bytes() == whole


def test_a_file_of_which_only_a_part_was_kept(tmp_path):
    """As they were kept before they were checked: with the checksum of the part."""
    fresh = compute(tmp_path)
    for path in entries(tmp_path):
        content = path.read_bytes()[:-9]
        path.unlink()
        name = f"{path.stem}.{zlib.crc32(content):08x}"
        assert name != path.name
        path.with_name(name).write_bytes(content)
    assert compute(tmp_path) == fresh and compute(tmp_path)[1]
    assert all(programs._is_whole(path.read_bytes()) for path in entries(tmp_path))


@pytest.mark.parametrize("same_disk", [True, False])
def test_files_that_another_process_removes(tmp_path, monkeypatch, same_disk):
    if not same_disk:

        def refuse(*_):
            raise OSError

        monkeypatch.setattr(programs.Path, "hardlink_to", refuse)
    fresh = compute(tmp_path)
    jax.clear_caches()
    read = programs.Path.read_bytes

    def read_and_remove(path):
        content = read(path)
        if FOLDER in path.parts:
            path.unlink()
        return content

    with monkeypatch.context() as patch:
        patch.setattr(programs.Path, "read_bytes", read_and_remove)
        assert compute(tmp_path) == (fresh[0], True)
    assert entries(tmp_path) == []
    compute(tmp_path)
    listed = programs._Store._entries
    with monkeypatch.context() as patch:

        def list_and_remove(store):
            paths = listed(store)
            for path in paths:
                path.unlink()
            return paths

        patch.setattr(programs._Store, "_entries", list_and_remove)
        with Programs().kept(tmp_path):
            patch.undo()
            assert not entries(tmp_path)
    assert compute(tmp_path) == fresh and compute(tmp_path)[1]


def test_what_was_used_last_is_left(tmp_path, monkeypatch):
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    os.utime(probe, (0, 1))
    probe.read_bytes()
    if not probe.stat().st_atime_ns:
        pytest.skip("this disk does not note when a file is read")
    compute(tmp_path)
    used = entries(tmp_path)
    for path in used:
        os.utime(path, (1, 1))
    with Programs().kept(tmp_path):
        jax.jit(lambda x: jnp.cos(x) + 1)(np.float32(1))
    other = set(entries(tmp_path)) - set(used)
    for path in other:
        os.utime(path, (2, 2))
    assert compute(tmp_path)[1]
    monkeypatch.setattr(programs, "MOST_BYTES", sum(p.stat().st_size for p in used))
    with Programs().kept(tmp_path):
        pass
    assert entries(tmp_path) == used


def test_the_oldest_are_removed(tmp_path, monkeypatch):
    for shift in range(3):
        with Programs().kept(tmp_path):
            jax.jit(lambda x, shift=shift: jnp.cos(x) + shift)(np.float32(shift))
    ages = sorted(entries(tmp_path), key=lambda path: path.stat().st_mtime_ns)
    most = sum(path.stat().st_size for path in ages[1:])
    monkeypatch.setattr(programs, "MOST_BYTES", most)
    left = ages[0].with_name(".metajax-killed.tmp")
    left.touch()
    os.utime(left, (0, 0))
    with Programs().kept(tmp_path):
        pass
    assert entries(tmp_path) == sorted(ages[1:]) and not left.exists()


def test_processes_share_a_folder(tmp_path):
    """Two that begin at once, and each compiles and reads."""
    code = (
        "import sys, jax, numpy as np; from pathlib import Path\n"
        "from metajax.cli.programs import Programs\n"
        "with Programs().kept(Path(sys.argv[1])):\n"
        "    for i in range(4): jax.jit(lambda x: x * i)(np.ones(3 + i))\n"
    )
    run = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    both = [subprocess.Popen(run, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120)[1] == b""
        assert process.returncode == 0
    assert entries(tmp_path)


def test_the_users_own_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(OF_THE_USER, "elsewhere")
    compute(tmp_path)
    assert not entries(tmp_path)


def test_another_machine_has_another_folder(tmp_path, monkeypatch):
    compute(tmp_path)
    monkeypatch.setattr(programs.platform, "machine", lambda: "another")
    assert not compute(tmp_path)[1]
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_a_run_is_the_same_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 4)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    states, numbers = [], []
    for name, more in {"none": ["--no-cache"], "cold": [], "warm": []}.items():
        jax.clear_caches()
        folder = tmp_path / name
        command = ["train", "sinusoid", "--run-dir", str(folder), "--outer.steps", "4"]
        quick = ["--outer.tasks", "2", "--evaluation.tasks", "4"]
        assert main([*command, *quick, *more]) == 0
        assert bool(entries(tmp_path / "data")) == (name != "none")
        (step,) = (folder / "checkpoints").iterdir()
        states.append((step / "manifest" / "metadata").read_text())
        numbers.append((folder / "evaluation.json").read_text())
    assert Checkpoints(folder / "checkpoints").steps() == [4]
    assert len(set(states)) == len(set(numbers)) == 1


def test_a_validation_is_the_program_of_the_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 4)
    flags = ["--outer.steps", "1", "--outer.tasks", "1", "--evaluation.tasks", "4"]
    with compilations() as compiled:
        small = ["--model.filters", "2", "--data.queries", "1", "--no-cache"]
        folder = ["--run-dir", str(tmp_path / "run")]
        assert main(["train", "glyphs", *folder, *flags, *small]) == 0
    assert sum("evaluated_records" in name for name in compiled) == 1, compiled
    assert len(compiled) < 60
