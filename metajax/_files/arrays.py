"""Arrays in a file: numpy's own archive, `.npz`, written whole and checked when read.

Every member of the archive has a CRC-32, so a damaged file is refused. A file of
safetensors has no checksum, and a flipped bit would be read as another number; it
would also need a second reader for the files that are there.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax._files.archives import read_member
from metajax._files.fingerprint import described, digest
from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.types import PyTree

SCHEMA = 1
ABOUT = "about.json"
MOST = 2**26  # bytes of `ABOUT`
KINDS = {"about": dict, "arrays": list, "sha256": str}


def write_named(path: Path, arrays: Mapping[str, np.ndarray], about: str = "") -> None:
    """Writes arrays by name, and a text if there is one, whole or not at all.

    Arrays of a dtype that numpy lacks, such as bfloat16, are written as unsigned
    integers of the same bits.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        if about:
            archive.writestr(ABOUT, about)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                bits = array.view(_stored(array.dtype))
                np.lib.format.write_array(member, bits, allow_pickle=False)
    write_whole(path, file.getvalue())


def read_named(archive: zipfile.ZipFile, name: str, *, most: int) -> np.ndarray:
    """Reads the array of a name, of at most so many bytes with its header.

    Raises:
      Exception: of any kind, from zipfile and numpy, if the file is damaged.
    """
    file = io.BytesIO(read_member(archive, f"{name}.npy", most=most))
    return np.lib.format.read_array(file, allow_pickle=False)


def write_arrays(path: Path, about: Mapping[str, Any], arrays: PyTree) -> None:
    """Writes a pytree of arrays and plain values about it, whole or not at all.

    The arrays are `0.npy`, `1.npy`, ...; `about.json` has the version of the format,
    the values, the arrays' paths, dtypes and shapes, and a SHA-256 of everything.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "adapted.npz"
    >>> write_arrays(path, {"classes": ["cat", "dog"]}, {"w": np.ones(2)})
    >>> read_about(path), read_arrays(path, {"w": np.zeros(2)})
    ({'classes': ['cat', 'dog']}, {'w': array([1., 1.])})
    """
    arrays = jax.tree.map(np.asarray, arrays)
    header = {"schema": SCHEMA, "about": dict(about), "arrays": described(arrays)}
    header["sha256"] = _checksum(header, arrays)
    numbered = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(arrays))}
    write_named(path, numbered, json.dumps(header))


def read_about(path: Path) -> dict[str, Any]:
    """Reads the values in a file of `write_arrays`.

    Raises:
      InputError: if it is no such file, is damaged, or is of another version.
    """
    return _read_header(path)["about"]


def read_arrays(path: Path, like: PyTree) -> PyTree:
    """Reads the arrays in a file of `write_arrays`.

    Args:
      path: the file.
      like: arrays, or abstract ones, of the structure, shapes and dtypes expected.

    Raises:
      InputError: see `read_about`; and if the arrays are not as expected.
    """
    header, expected = _read_header(path), described(like)
    if (present := header["arrays"]) != expected:
        differing = [line for line in expected if line not in present] or [present]
        raise InputError(
            f"{path} holds other arrays than its description asks for (expected "
            f"{differing[0]}); save it again"
        )
    leaves, structure = jax.tree.flatten(like)
    try:
        with zipfile.ZipFile(path) as archive:
            read = [_read_leaf(archive, str(i), x) for i, x in enumerate(leaves)]
        arrays = jax.tree.unflatten(structure, read)
        if header.pop("sha256") != _checksum(header, arrays):
            raise ValueError("its checksum is another")
    except Exception as error:  # of a damaged file zipfile and numpy raise anything
        raise _damaged(path, error) from error
    return arrays


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"expected a saved learner at {path}, which is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(read_member(archive, ABOUT, most=MOST))
        schema = header["schema"]
        for name, kind in KINDS.items():
            if schema == SCHEMA and not isinstance(header[name], kind):
                raise ValueError(f"its {name} is not a {kind.__name__}")
    except Exception as error:  # of a damaged file zipfile and json raise anything
        raise _damaged(path, error) from error
    if schema != SCHEMA:
        raise InputError(
            f"{path} was saved in form {schema!r}, and this version of metajax reads "
            f"form {SCHEMA}; save it again"
        )
    return header


def _read_leaf(archive: zipfile.ZipFile, name: str, like: Any) -> np.ndarray:
    most = like.size * like.dtype.itemsize + 2**12  # and the header
    array = read_named(archive, name, most=most)
    if (array.dtype, array.shape) != (_stored(like.dtype), like.shape):
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
    return array.view(like.dtype)


def _stored(dtype: np.dtype) -> np.dtype:
    """The dtype of an array in the file: numpy's format cannot name JAX's own."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _checksum(header: Mapping[str, Any], arrays: PyTree) -> str:
    text = json.dumps(header, sort_keys=True) + digest(arrays)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a saved learner, or is damaged ({error}); save it again"
    )
