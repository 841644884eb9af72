"""What a learner learnt from a support set, as a file."""

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
MOST = 2**26  # bytes of what it is


def write_adapted(path: Path, about: Mapping[str, Any], arrays: PyTree) -> None:
    """Saves arrays and what they are, wholly or not at all.

    The file is an `.npz` of the arrays, `0.npy`, `1.npy`, ..., with one member more,
    `about.json`, of the schema's version, the arrays' paths, dtypes and shapes, and a
    SHA-256 of everything. Arrays of a dtype that numpy lacks, such as bfloat16, are in
    it as unsigned integers of their bits.

    Args:
      path: the file.
      about: what they are: plain values, as JSON has them.
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
    whole = {"schema": SCHEMA, "about": dict(about), "arrays": described(arrays)}
    whole["sha256"] = _checksum(whole, arrays)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(ABOUT, json.dumps(whole))
        for i, leaf in enumerate(jax.tree.leaves(arrays)):
            member = io.BytesIO()
            held = leaf.view(_held(leaf.dtype))
            np.lib.format.write_array(member, held, allow_pickle=False)
            archive.writestr(f"{i}.npy", member.getvalue())
    write_whole(path, file.getvalue())


def read_about(path: Path) -> dict[str, Any]:
    """What the arrays of a file are.

    Raises:
      InputError: if it is no such file, is damaged, or is of another version.
    """
    return _whole(path)["about"]


def read_arrays(path: Path, like: PyTree) -> PyTree:
    """The arrays of a file.

    Args:
      path: the file.
      like: arrays, or abstract ones, of the structure, shapes and dtypes expected.

    Returns:
      A pytree of numpy's arrays.

    Raises:
      InputError: see `read_about`; and if the arrays are others, or not those saved.
    """
    whole = _whole(path)
    if (found := whole["arrays"]) != (expected := described(like)):
        differing = [line for line in expected if line not in found] or [found]
        raise InputError(
            f"{path} holds other arrays than its description asks for (expected "
            f"{differing[0]}); save it again"
        )
    leaves, structure = jax.tree.flatten(like)
    try:
        with zipfile.ZipFile(path) as archive:
            read = [_array(archive, f"{i}.npy", leaf) for i, leaf in enumerate(leaves)]
        arrays = jax.tree.unflatten(structure, read)
        if whole.pop("sha256") != _checksum(whole, arrays):
            raise ValueError("its checksum is another")
    except Exception as error:  # of a damaged file zipfile and numpy raise anything
        raise _damaged(path, error) from error
    return arrays


def _whole(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"expected a saved learner at {path}, which is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = json.loads(read_member(archive, ABOUT, most=MOST))
        schema = whole["schema"]
        if schema == SCHEMA:
            _check(whole)
    except Exception as error:  # of a damaged file zipfile and json raise anything
        raise _damaged(path, error) from error
    if schema != SCHEMA:
        raise InputError(
            f"{path} was saved in form {schema!r}, and this version of metajax reads "
            f"form {SCHEMA}; save it again"
        )
    return whole


def _check(whole: Mapping[str, Any]) -> None:
    kinds = {"about": dict, "arrays": list, "sha256": str}
    for name, kind in kinds.items():
        if not isinstance(whole[name], kind):
            raise ValueError(f"{name} is no {kind.__name__}")


def _array(archive: zipfile.ZipFile, name: str, like: Any) -> np.ndarray:
    most = like.size * like.dtype.itemsize + 2**12  # and the header
    file = io.BytesIO(read_member(archive, name, most=most))
    array = np.lib.format.read_array(file, allow_pickle=False)
    if (array.dtype, array.shape) != (_held(like.dtype), like.shape):
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
    return array.view(like.dtype)


def _held(dtype: np.dtype) -> np.dtype:
    """A dtype as it is in the file: numpy's format has no name for JAX's own."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _checksum(whole: Mapping[str, Any], arrays: PyTree) -> str:
    told = json.dumps(whole, sort_keys=True) + digest(arrays)
    return hashlib.sha256(told.encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a saved learner, or is damaged ({error}); save it again"
    )
