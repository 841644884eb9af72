"""The parameters of a pre-trained body, as a file."""

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax._files.archives import read_member
from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.types import Model, Params, PyTree

FILE = "backbone.npz"


def write_body(path: Path, body: Params) -> None:
    """Saves parameters by their paths in the tree, wholly or not at all."""
    named = {name: np.asarray(leaf) for name, leaf in _by_name(body).items()}
    file = io.BytesIO()
    np.savez(file, **named)  # pyright: ignore (a stub takes names for options)
    write_whole(path, file.getvalue())


def keep_body(path: Path, directory: Path) -> None:
    """Copies a backbone into a run that lacks one, so that it stays what it was."""
    if not (directory / FILE).exists():
        write_whole(directory / FILE, _file(path).read_bytes())


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path


def read_body(path: Path | None, body: Model) -> Params | None:
    """The parameters of a body that `write_body` saved; None of no file.

    Raises:
      InputError: if the file cannot be read, or is of another body.
    """
    if path is None:
        return None
    path = _file(path)
    expected = jax.eval_shape(body.init, jax.random.key(0))
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            named = {
                name: _array(read_member(archive, f"{name}.npy", most=_most(like)))
                for name, like in _by_name(expected).items()
                if f"{name}.npy" in names
            }
    except Exception as error:  # of a damaged file zipfile and numpy raise anything
        raise InputError(
            f"{path} is not a backbone ({error}); make one with metajax pretrain"
        ) from error

    def find(at: tuple, like: jax.ShapeDtypeStruct):
        name = jax.tree_util.keystr(at)
        found = named.get(name)
        if found is None or found.shape != like.shape:
            shape = None if found is None else list(found.shape)
            raise InputError(
                f"{path} is the backbone of another model: {name} is {shape} there, "
                f"and {list(like.shape)} here; pre-train with the same --model"
            )
        return found.astype(like.dtype)

    return jax.tree_util.tree_map_with_path(find, expected)


def _by_name(body: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(body)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _most(like: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array, with room for that of a larger model, to be told of it."""
    return 64 * like.size + 2**20


def _array(content: bytes) -> np.ndarray:
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind != "f":
        raise ValueError(f"expected floating-point numbers, got {array.dtype}")
    return array
