import threading

import pytest

from metajax.training.background import in_background


def test_a_call_does_not_wait_for_itself():
    go, done = threading.Event(), []

    def work(item):
        assert go.wait(60)
        done.append(item)

    with in_background(work) as begin:
        begin(1)
        assert not done
        go.set()
        begin(2)
        assert done[:1] == [1], "one at a time, in order"
    assert done == [1, 2]


def fail(item):
    raise OSError(f"no room for {item}")


def test_an_error_surfaces_at_the_next_call():
    with pytest.raises(OSError, match="no room for 1"):
        with in_background(fail) as begin:
            begin(1)
            begin(2)
            pytest.fail("the second call came too far")


def test_an_error_surfaces_at_the_end_whatever_ends_it():
    with pytest.raises(OSError, match="no room for 1"):
        with in_background(fail) as begin:
            begin(1)
    with pytest.raises(OSError, match="no room for 1") as caught:
        with in_background(fail) as begin:
            begin(1)
            raise ValueError("another")
    assert str(caught.value.__context__) == "another"
