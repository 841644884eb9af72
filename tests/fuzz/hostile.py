"""Strategies for what a user may give by mistake, and for files that were harmed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 5, 2**31 - 1, 2**31, 2**63, -(2**63) - 1, 10**30]),
    st.sampled_from([0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan"), 1.5]),
    st.integers(-3, 40),
    st.floats(),
)
# With NUL, halves of surrogate pairs, and what paths and tables mean something by.
TEXTS = st.one_of(
    st.sampled_from(["", ".", "..", "/", "\0", "\ud800", "a" * 300, "../x", "kind"]),
    st.text(max_size=8),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)
# Names that a file can have: any bytes but two.
NAMES = st.one_of(
    st.sampled_from(["a", "b", "train", "val", "images", "1", ".x", "\udcff", "\n"]),
    st.binary(min_size=1, max_size=6)
    .filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
    .map(os.fsdecode),
)


def _cut(content: bytes, at: int, payload: bytes) -> bytes:
    return content[:at]


def _flip(content: bytes, at: int, payload: bytes) -> bytes:
    bit = 1 << (len(payload) % 8)
    return (
        content[:at] + bytes(b ^ bit for b in content[at : at + 1]) + content[at + 1 :]
    )


def _overwrite(content: bytes, at: int, payload: bytes) -> bytes:
    return content[:at] + payload + content[at + len(payload) :]


def _insert(content: bytes, at: int, payload: bytes) -> bytes:
    return content[:at] + payload + content[at:]


def _drop(content: bytes, at: int, payload: bytes) -> bytes:
    return content[:at] + content[at + len(payload) + 1 :]


def _repeat(content: bytes, at: int, payload: bytes) -> bytes:
    return content[:at] + content[at // 2 :]


Harm = Callable[[bytes], bytes]
HARMS = (_cut, _flip, _flip, _overwrite, _insert, _drop, _repeat)
PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\xff" * 4, b"\x00" * 8, b"\x80\x04N.", b"PK\x03\x04", b"\n"]),
)


@st.composite
def harms(draw) -> Harm:
    """A few changes of bytes, at places that are shares of the length."""
    chosen = draw(
        st.lists(
            st.tuples(st.sampled_from(HARMS), st.integers(0, 2**20 - 1), PAYLOADS),
            min_size=1,
            max_size=3,
        )
    )

    def harm(content: bytes) -> bytes:
        for change, share, payload in chosen:
            content = change(content, share * len(content) >> 20, payload)
        return content

    return harm


@st.composite
def changed(draw, plain):
    """A JSON document with values replaced, keys removed and others put in."""
    plain = json.loads(json.dumps(plain))
    for _ in range(draw(st.integers(1, 3))):
        at, value = plain, draw(JSON)
        while True:
            key = draw(st.sampled_from(sorted(at)))
            if not (isinstance(at[key], dict) and at[key] and draw(st.booleans())):
                break
            at = at[key]
        {
            "replace": lambda: at.update({key: value}),
            "remove": lambda: at.pop(key),
            "add": lambda: at.update({draw(TEXTS): value}),
        }[draw(st.sampled_from(["replace", "replace", "remove", "add"]))]()
        if not plain:
            break
    return plain


def snapshot(folder: Path) -> dict[str, object]:
    """All that is in a folder: files by content, links by target, other things."""
    found: dict[str, object] = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                found[path] = Path(path).read_bytes()
            else:
                found[path] = None
    return found
