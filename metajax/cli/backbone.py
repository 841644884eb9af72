"""The parameters of a pre-trained body, as a file."""

import io
import zipfile
from pathlib import Path

import jax
import numpy as np

from metajax.errors import InputError
from metajax.files import write_whole
from metajax.types import Model, Params

FILE = "backbone.npz"


def write_body(path: Path, body: Params) -> None:
    """Saves parameters by their paths in the tree, wholly or not at all."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(body)
    named = {jax.tree_util.keystr(p): np.asarray(x) for p, x in leaves}
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
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            named = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not a backbone ({error}); make one with metajax pretrain"
        ) from error
    expected = jax.eval_shape(body.init, jax.random.key(0))

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
