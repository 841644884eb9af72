"""Named arrays in the format of safetensors, which runs no code when it is read.

Eight bytes hold the length n of a header of n bytes of JSON, which gives each array's
type, shape and place among the bytes that follow, little-endian and row by row.
"""

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

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
    "U8": np.uint8,
    "BOOL": np.bool_,
}
MOST = 100 * 2**20  # bytes of a header, the format's own limit
PICKLES = b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; their bytes are read when they are used.

    Raises:
      InputError: if the file cannot be read, is a pickle or of another format, is cut
        short, or says what cannot be.
    """
    try:
        content = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the path of a .safetensors"
        ) from error
    header, start = _header(path, content)
    arrays, end = {}, start
    for name, entry in header.items():
        if name != "__metadata__":
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
