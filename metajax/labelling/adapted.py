"""A pytree of arrays and a description of it, as a file that is checked when read."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax._files.archives import read_member
from metajax._files.arrays import read_array, stored_dtype, write_arrays
from metajax._files.fingerprint import described, digest
from metajax.errors import InputError
from metajax.types import PyTree

SCHEMA = 1
ABOUT = "about.json"
MOST = 2**26  # bytes of the description
KINDS = {"about": dict, "arrays": list, "sha256": str}


def write_adapted(path: Path, about: Mapping[str, Any], arrays: PyTree) -> None:
    """Saves arrays and their description, whole or not at all.

    The file is an `.npz` of the arrays, `0.npy`, `1.npy`, ..., with one member more,
    `about.json`: the version of the format, the description, the arrays' paths, dtypes
    and shapes, and a SHA-256 of everything.

    Args:
      path: the file.
      about: the description, of plain values as in JSON.
      arrays: a pytree.

    Raises:
      OSError: if it cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "adapted.npz"
    >>> write_adapted(path, {"classes": ["cat", "dog"]}, {"w": np.ones(2)})
    >>> about = read_about(path)
    >>> about["classes"], read_arrays(path, {"w": np.zeros(2)})
    (['cat', 'dog'], {'w': array([1., 1.])})
    """
    arrays = jax.tree.map(np.asarray, arrays)
    header = {"schema": SCHEMA, "about": dict(about), "arrays": described(arrays)}
    header["sha256"] = _checksum(header, arrays)
    numbered = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(arrays))}
    write_arrays(path, numbered, {ABOUT: json.dumps(header)})


def read_about(path: Path) -> dict[str, Any]:
    """Reads the description in a file.

    Raises:
      InputError: if it is not a file of `write_adapted`, is damaged, or is of another
        version.
    """
    return _read_header(path)["about"]


def read_arrays(path: Path, like: PyTree) -> PyTree:
    """Reads the arrays of a file.

    Args:
      path: the file.
      like: arrays, or abstract ones, of the structure, shapes and dtypes expected.

    Returns:
      A pytree of numpy's arrays.

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
    array = read_array(archive, name, most=most)
    if (array.dtype, array.shape) != (stored_dtype(like.dtype), like.shape):
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
    return array.view(like.dtype)


def _checksum(header: Mapping[str, Any], arrays: PyTree) -> str:
    text = json.dumps(header, sort_keys=True) + digest(arrays)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a saved learner, or is damaged ({error}); save it again"
    )
