"""Named arrays in the format of safetensors, which runs no code when it is read.

Eight bytes hold the length n of a header of n bytes of JSON, which gives each array's
type, shape and place among the bytes that follow, little-endian and row by row. It may
hold texts by name too.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax._files.writing import write_blocks
from metajax.errors import InputError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
KINDS = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}
TEXTS = "__metadata__"
MOST = 100 * 2**20  # bytes of a header, the format's own limit
PICKLES = b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors, whatever its name is."""
    with path.open("rb") as file:
        size, first = int.from_bytes(file.read(8), "little"), file.read(1)
    return first == b"{" and size <= min(MOST, path.stat().st_size - 8)


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]
) -> None:
    """Writes arrays and texts by name, whole or not at all.

    Raises:
      InputError: if the format has no name for the type of an array.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write_safetensors(path, {"w": np.ones(2)}, {"licence": "MIT"})
    >>> read_safetensors(path), read_texts(path)
    ({'w': array([1., 1.])}, {'licence': 'MIT'})
    """
    header: dict[str, Any] = {TEXTS: dict(texts)}
    parts, end = [], 0
    for name, array in sorted(arrays.items()):
        if array.dtype not in KINDS:
            types = ", ".join(map(str, KINDS))
            raise InputError(f"{name} is {array.dtype}, expected one of {types}")
        entry = {"dtype": KINDS[array.dtype], "shape": list(array.shape)}
        header[name] = entry | {"data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
        parts.append(array.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_blocks(path, [len(text).to_bytes(8, "little"), text, *parts])


def read_texts(path: Path) -> dict[str, str]:
    """The texts of a file by name.

    Raises:
      InputError: see `read_safetensors`; or if they are not texts.
    """
    content = _content(path)
    texts = _header(path, content)[0].get(TEXTS, {})
    if not isinstance(texts, dict) or not all(type(x) is str for x in texts.values()):
        raise InputError(f"{path} is damaged in its {TEXTS}; copy it again")
    return texts


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; their bytes are read when they are used.

    Raises:
      InputError: if the file cannot be read, is a pickle or of another format, is cut
        short, or says what cannot be.
    """
    content = _content(path)
    header, start = _header(path, content)
    arrays, end = {}, start
    for name, entry in header.items():
        if name != TEXTS:
            dtype, shape, begin, stop = _entry(path, name, entry)
            end = max(end, start + stop)
            part = content[start + begin : start + stop]
            if start + stop <= len(content):
                arrays[name] = np.asarray(part).view(dtype).reshape(shape)
    if end != len(content):
        raise InputError(
            f"{path} has {len(content):,} bytes, and its header describes {end:,}: it "
            "was cut short or changed; copy it again"
        )
    return arrays


def _content(path: Path) -> Any:
    """The bytes of a file, read when they are used."""
    try:
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the path of a .safetensors"
        ) from error


def _header(path: Path, content: Any) -> tuple[dict[str, Any], int]:
    """The header, and where the arrays begin."""
    first = bytes(content[:8])
    size = int.from_bytes(first, "little")
    text = bytes(content[8 : 8 + min(size, MOST)])
    if len(first) < 8 or not 2 <= size <= MOST or text[:1] != b"{":
        raise InputError(_foreign(path, first))
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "cut short" if len(text) < size else "damaged"
        raise InputError(f"{path} is {reason} in its header; copy it again") from error
    return header, 8 + size


def _foreign(path: Path, first: bytes) -> str:
    """What is wrong with a file of another format, by its first bytes."""
    if first.startswith(PICKLES):
        return (
            f"{path} is a pickle, which can run any code when it is read, and so is "
            "not read; convert it where it came from: safetensors.torch.save_file("
            'torch.load(FILE, weights_only=True), "model.safetensors")'
        )
    return (
        f"{path} is not in the format of safetensors; save one with "
        'safetensors.torch.save_file(model.state_dict(), "model.safetensors")'
    )


def _entry(path: Path, name: str, entry: Any) -> tuple[Any, list[int], int, int]:
    """An array's type, shape and place."""
    try:
        kind, shape, (begin, stop) = (
            entry[key] for key in ("dtype", "shape", "data_offsets")
        )
        numbers = [*shape, begin, stop]
        whole = all(type(n) is int and n >= 0 for n in numbers)
        dtype = np.dtype(DTYPES[kind]) if kind in DTYPES else None
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: {name} is described wrongly; copy it again") from (
            error
        )
    if dtype is None:
        raise InputError(
            f"{path}: {name} has the type {kind}, expected one of {', '.join(DTYPES)}; "
            "save it as F32"
        )
    if not whole or stop - begin != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{path}: {name} is {kind}{shape} in bytes {begin} to {stop}, which cannot "
            "be; copy it again"
        )
    return dtype, shape, begin, stop
