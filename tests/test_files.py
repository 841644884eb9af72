from concurrent.futures import ThreadPoolExecutor

import pytest

from metajax.files import write_blocks, write_whole


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


def test_blocks_that_end_early_leave_the_file(tmp_path):
    def blocks():
        yield "two"
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_whole(path, b"one")
    with pytest.raises(KeyboardInterrupt):
        write_blocks(path, blocks())
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]
