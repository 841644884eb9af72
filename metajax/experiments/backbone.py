"""The parameters of a pre-trained body, as a file."""

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax._files.arrays import read_named, write_named
from metajax._files.writing import write_whole
from metajax.data.folders.contents import hash_bytes
from metajax.errors import InputError
from metajax.experiments.published import file_of, is_published
from metajax.types import Array, Model, Params, PyTree

FILE, BEST = "backbone.npz", "backbone-best.npz"
MEAN = "mean"  # no path in a tree: those begin with a bracket, or are empty


def write_body(path: Path, body: Params, mean: Array | None = None) -> None:
    """Saves parameters by their paths in the tree, whole or not at all.

    Args:
      path: the file.
      body: the parameters.
      mean: the mean feature of the training classes, for SimpleShot.
    """
    more = {} if mean is None else {MEAN: mean}
    write_named(path, jax.tree.map(np.asarray, _by_name(body) | more))


def keep_body(path: Path, directory: Path) -> None:
    """Copies a backbone into a run that has none, so that it cannot change later."""
    if not (directory / FILE).exists():
        write_whole(directory / FILE, _content(path))


def digest(path: Path) -> str:
    """What tells one body from another: the hash of its file.

    Args:
      path: the file, or the directory or published file that holds it.
    """
    return hash_bytes(_content(path))


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path


def _content(path: Path) -> bytes:
    """The bytes of the file of a body.

    Raises:
      InputError: if the path is of a published file that holds none.
    """
    if not is_published(path):
        return _file(path).read_bytes()
    content = file_of(path, FILE)
    if content is None:
        raise InputError(f"{path} holds no backbone; make one with metajax pretrain")
    return content


def read_body(path: Path | None, body: Model) -> Params | None:
    """The parameters of a body that `write_body` saved.

    Args:
      path: the file, or the directory or published file that holds it; None for no
        file.
      body: the model that the parameters are for.

    Returns:
      The parameters; None if there is no file.

    Raises:
      InputError: if the file cannot be read, or is of another body.
    """
    if path is None:
        return None
    path = _file(path)
    expected = jax.eval_shape(body.init, jax.random.key(0))
    arrays = _read(path, _by_name(expected))

    def select(place: tuple, like: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(place)
        return _checked(path, name, arrays.get(name), like)

    return jax.tree_util.tree_map_with_path(select, expected)


def read_mean(path: Path, features: int) -> np.ndarray:
    """The mean feature of the training classes, that `write_body` saved.

    Args:
      path: the file, or the directory that holds it.
      features: how many there are.

    Returns:
      `float32[features]`.

    Raises:
      InputError: if the file cannot be read, has none, or is of another body.
    """
    path, like = _file(path), jax.ShapeDtypeStruct((features,), np.dtype("float32"))
    if (mean := _read(path, {MEAN: like}).get(MEAN)) is None:
        raise InputError(
            f"{path} has no mean feature of its training classes; pre-train it anew, "
            "or take --inner.centring support"
        )
    return _checked(path, "the mean feature", mean, like)


def _checked(
    path: Path, name: str, array: np.ndarray | None, like: jax.ShapeDtypeStruct
) -> np.ndarray:
    """An array of a file, of the shape and the dtype that it should have."""
    if array is None or array.shape != like.shape:
        shape = None if array is None else list(array.shape)
        raise InputError(
            f"{path} is the backbone of another model: {name} is {shape} there, "
            f"and {list(like.shape)} here; pre-train with the same --model"
        )
    return array.astype(like.dtype)


def _by_name(body: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(body)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _read(
    path: Path, expected: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    """The arrays of the expected names that are in a file, refused if damaged."""
    try:
        return _read_named(path, expected)
    except Exception as error:  # of a damaged file zipfile and numpy raise anything
        raise InputError(
            f"{path} is not a backbone ({error}); make one with metajax pretrain"
        ) from error


def _read_named(
    path: Path, expected: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    """The arrays of the expected names that are in a file."""
    file = io.BytesIO(_content(path)) if is_published(path) else path
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        arrays = {  # of a larger model too, to name it in the error
            name: read_named(archive, name, most=64 * like.size + 2**20)
            for name, like in expected.items()
            if f"{name}.npy" in names
        }
    for array in arrays.values():
        if array.dtype.kind != "f":
            raise ValueError(f"expected floating-point numbers, got {array.dtype}")
    return arrays
