"""A run as one file, which is taken wherever a run is read.

`metajax publish` writes it, in the format of safetensors. Its arrays are the
meta-parameters, each named `meta` and its path in the tree; the bytes of the run's
`backbone.npz`, if there is one; and the tensors of a network of a file (`--model
backbone`), each named `network/` and its name there. Its texts are

| name | what |
|---|---|
| format | which form of such files it is |
| metajax | the version that wrote it |
| step | after how many meta-steps |
| checkpoint | last, or best: that of the best validation |
| licence | of the parameters, as its author put it |
| config.json | the configuration |
| data.json | a digest of the data of each split, if they are files |
| evaluation.json, evaluation.txt | the result with its protocol |
| forms.json | the forms of operations, of a run that timed them |
| genotype.json | of `cells`, the architecture |
| network.json | of `backbone`, the config.json of its network |
| sha256 | of all texts and arrays |
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax._files.fingerprint import described, digest
from metajax._files.safetensors import read_safetensors, read_texts, write_safetensors
from metajax.errors import InputError
from metajax.types import PyTree

SUFFIX = ".safetensors"
RESULTS = "-results"  # ends the name of the folder of a file's results
FORM, OLDER = "metajax run 1", "metajax run "
META, HASH = "meta", "sha256"


class Published(NamedTuple):
    """What a published file holds.

    Attributes:
      path: of the file.
      texts: by name.
      arrays: by name.
    """

    path: Path
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """After how many meta-steps."""
        return int(self.texts["step"])

    def meta(self, like: PyTree) -> PyTree:
        """The meta-parameters.

        Args:
          like: arrays, or abstract ones, of the structure, shapes and dtypes expected.

        Raises:
          InputError: if the file holds others.
        """
        own = {x: array for x, array in self.arrays.items() if x.startswith(META)}
        present, expected = described(own), described(by_path(META, like))
        if present != expected:
            lacking = [line for line in expected if line not in present] or expected
            raise InputError(
                f"{self.path} holds other parameters than its configuration asks for "
                f"(expected {lacking[0]}); publish it again"
            )

        def select(path: tuple, _: PyTree) -> jax.Array:
            return jnp.asarray(own[META + jax.tree_util.keystr(path)])

        return jax.tree_util.tree_map_with_path(select, like)


def write_published(
    path: Path, texts: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes a run as one file, whole or not at all.

    Args:
      path: of the file.
      texts: by name, but for the format and the hash.
      arrays: by name.

    Raises:
      InputError: if an array is of a type that the format lacks.
      OSError: if it cannot be written.
    """
    texts = {"format": FORM, **texts}
    write_safetensors(path, arrays, texts | {HASH: _hash(texts, arrays)})


def read_published(path: Path) -> Published:
    """Reads a run of one file, whose arrays cannot be written to.

    Raises:
      InputError: if it is no such file, is damaged, or is of a later version.
    """
    return _read(path, *stamps(path))


def stamps(path: Path) -> tuple[int, ...]:
    """Which file it is, when it was changed, and its size; of no file, none."""
    if not path.is_file():
        return ()
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=1)  # a command asks for several parts, and each time all is hashed
def _read(path: Path, *when: int) -> Published:
    try:
        texts, arrays = read_texts(path), dict(read_safetensors(path))
    except InputError as error:
        raise InputError(
            f"{path} is no file of metajax publish, or is damaged; give a run's "
            "directory, or such a file"
        ) from error
    form = texts.get("format", "")
    if form != FORM and form.startswith(OLDER):
        raise InputError(
            f"{path} is of the form {form!r}, and this version of metajax reads "
            f"{FORM!r}; publish it again, or take the version that wrote it"
        )
    if form != FORM:
        raise InputError(
            f"{path} holds arrays, and no run; give a run's directory, or a file that "
            "metajax publish wrote"
        )
    if texts.pop(HASH, "") != _hash(texts, arrays) or not texts["step"].isdecimal():
        raise InputError(
            f"{path} is damaged: its contents are not those that were written; copy it "
            "again"
        )
    return Published(path, MappingProxyType(texts), MappingProxyType(arrays))


def is_published(run: Path) -> bool:
    """Whether a run is one file, and no directory."""
    return run.suffix == SUFFIX and run.is_file()


def holds_run(path: Path) -> bool:
    """Whether a file of safetensors is a published run, of any version.

    Raises:
      InputError: if it is no file of safetensors.
    """
    return read_texts(path).get("format", "").startswith(OLDER)


def file_of(run: Path, name: str) -> bytes | None:
    """The contents of a file of a run.

    Args:
      run: its directory, or its published file, which holds some of the files.
      name: of the file.

    Returns:
      The contents; None if the run has no such file.

    Raises:
      InputError: if a published file cannot be read.
    """
    if not is_published(run):
        path = run / name
        return path.read_bytes() if path.is_file() else None
    published = read_published(run)
    if name in published.arrays:
        return published.arrays[name].tobytes()
    text = published.texts.get(name)
    return None if text is None else text.encode()


def results_of(run: Path) -> Path:
    """The folder of a run's results: its directory, or a folder beside its file."""
    return run.with_name(run.stem + RESULTS) if is_published(run) else run


def by_path(prefix: str, tree: PyTree) -> dict[str, PyTree]:
    """The leaves of a tree by a prefix and their paths.

    >>> by_path("meta", {"w": 1.0, "b": [2.0]})
    {"meta['b'][0]": 2.0, "meta['w']": 1.0}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _hash(texts: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    named = dict(arrays)
    text = json.dumps([dict(texts), described(named), digest(named)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
