"""Named arrays in a file: numpy's own archive, `.npz`.

Every member of the archive has a CRC-32, so a damaged file is refused. A file of
safetensors has no checksum, and one flipped bit would be read as another number; it
would also need a second reader for the files that are there.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metajax._files.archives import read_member
from metajax._files.writing import write_whole


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None
) -> None:
    """Writes arrays by name, and texts beside them, whole or not at all.

    Arrays of a dtype that numpy lacks, such as bfloat16, are written as unsigned
    integers of the same bits.

    Raises:
      OSError: if the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "arrays.npz"
    >>> write_arrays(path, {"w": np.ones(2)}, {"about.txt": "weights"})
    >>> with zipfile.ZipFile(path) as archive:
    ...     read_array(archive, "w", most=1000)
    array([1., 1.])
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in (texts or {}).items():
            archive.writestr(name, text)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                bits = array.view(stored_dtype(array.dtype))
                np.lib.format.write_array(member, bits, allow_pickle=False)
    write_whole(path, file.getvalue())


def read_array(archive: zipfile.ZipFile, name: str, *, most: int) -> np.ndarray:
    """Reads the array of a name, of at most so many bytes with its header.

    Raises:
      Exception: of any kind, from zipfile and numpy, if the file is damaged.
    """
    file = io.BytesIO(read_member(archive, f"{name}.npy", most=most))
    return np.lib.format.read_array(file, allow_pickle=False)


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of an array in the file: numpy's format cannot name JAX's own."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
