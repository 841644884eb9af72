import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from metajax._files.writing import (
    check_writable,
    writable_place,
    write_blocks,
    write_whole,
)
from metajax.errors import InputError


def test_write_whole_replaces(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]


def test_writers_do_not_meet(tmp_path):
    path = tmp_path / "file"
    contents = {str(i) * 10_000 for i in range(4)}

    def write(content):
        for _ in range(50):
            write_whole(path, content)
            assert path.read_text() in contents

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))
    assert list(tmp_path.iterdir()) == [path]


def ends_early():
    yield "two"
    raise KeyboardInterrupt


def test_blocks_that_end_early_leave_the_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"one")
    with pytest.raises(KeyboardInterrupt):
        write_blocks(path, ends_early())
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_is_written_through(tmp_path, there, absolute):
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    if there:
        target.write_text("one")
    inner = tmp_path / "deep" / "inner"
    inner.symlink_to(target if absolute else "target")
    link.symlink_to(inner if absolute else "deep/inner")
    write_whole(link, "two")
    assert link.is_symlink() and inner.is_symlink() and not target.is_symlink()
    assert target.read_text() == "two"
    assert sorted(os.listdir(tmp_path / "deep")) == ["inner", "target"]
    if there:
        with pytest.raises(KeyboardInterrupt):
            write_blocks(link, ends_early())
        assert target.read_text() == "two"


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    write_whole(path, "two")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


def test_another_name_of_a_file_keeps_its_contents(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("one")
    other.hardlink_to(path)
    write_whole(path, "two")
    assert (path.read_text(), other.read_text()) == ("two", "one")


@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_is_written_to(tmp_path, linked):
    pipe, said = tmp_path / "pipe", []
    os.mkfifo(pipe)
    path = tmp_path / "link" if linked else pipe
    if linked:
        path.symlink_to(pipe)
    assert writable_place(path) is None
    check_writable("--out", path)
    reader = threading.Thread(target=lambda: said.append(pipe.read_bytes()))
    reader.start()
    write_blocks(path, ["one", b"two"])
    reader.join(10)
    assert said == [b"onetwo"] and pipe.is_fifo() and path.is_symlink() == linked
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_what_is_no_file_is_refused(tmp_path):
    there = socket.socket(socket.AF_UNIX)
    there.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    for name, what in (
        ("socket", "is a socket or a disk"),
        ("loop", "leads back to itself"),
        ("folder", "is a folder"),
    ):
        for write in (check_writable, lambda _, path: write_whole(path, "x")):
            with pytest.raises(InputError, match=f"{name} .*{what}|{name} {what}"):
                write("--out", tmp_path / name)
    there.close()
    assert sorted(os.listdir(tmp_path)) == before


def test_a_link_into_no_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "no" / "file")
    with pytest.raises(InputError, match="--out is in .*/no, which is not a folder"):
        check_writable("--out", tmp_path / "link")


OWN = """
import sys; from pathlib import Path
from metajax._files.writing import write_whole, is_stdout
print("before"); assert is_stdout(Path("/dev/stdout"))
write_whole(Path("/dev/stdout"), "whole\\n"); print("after")
"""


@pytest.mark.parametrize("to", ["file", "pipe"])
def test_the_output_of_the_process_is_continued(tmp_path, to):
    (tmp_path / "said").write_text("first\n")
    with (tmp_path / "said").open("a") as said:
        out = said if to == "file" else subprocess.PIPE
        ran = subprocess.run([sys.executable, "-c", OWN], stdout=out, check=True)
    expected = b"before\nwhole\nafter\n"
    found = ran.stdout if to == "pipe" else (tmp_path / "said").read_bytes()
    assert found == (expected if to == "pipe" else b"first\n" + expected)
    assert os.listdir(tmp_path) == ["said"]


def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path):
    path, longer = tmp_path / ("n" * 255), tmp_path / ("n" * 256)
    check_writable("--out", path)
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]
    for write in (check_writable, lambda _, path: write_whole(path, "x")):
        with pytest.raises(InputError, match="is too long; choose another"):
            write("--out", longer)


@pytest.mark.parametrize("mode", [0o444, 0o400, 0o555])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_nobody_may_write_stays(tmp_path, mode, linked):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("one")
    path.chmod(mode)
    link.symlink_to("file")
    given = link if linked else path
    with pytest.raises(InputError, match="--out would be .* which is read-only"):
        check_writable("--out", given)
    with pytest.raises(PermissionError, match="read-only"):
        write_whole(given, "two")
    assert path.read_text() == "one"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
    path.chmod(mode | 0o200)
    check_writable("--out", given)
    write_whole(given, "two")
    assert path.read_text() == "two"
