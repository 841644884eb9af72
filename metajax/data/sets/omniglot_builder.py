"""The TFDS builder of Omniglot. Importing this file imports TFDS; nothing else does."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.units import Size

from metajax._files.archives import read_member
from metajax.data.sets._omniglot_split import vinyals_split
from metajax.data.sets.downloads import ArchiveBuilder, download
from metajax.errors import InputError

SIZE, DRAWINGS, ORIGINAL_SIZE = 28, 20, 105
LARGEST = 2**16  # bytes; the drawings have a few hundred


class Part(NamedTuple):
    """One of the two archives."""

    file: str
    characters: int
    url: str
    bytes: int
    sha256: str


_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
PARTS = {
    "background": Part(
        "images_background.zip",
        964,
        _URL + "images_background.zip",
        9464212,
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    "evaluation": Part(
        "images_evaluation.zip",
        659,
        _URL + "images_evaluation.zip",
        6462886,
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
}


class Character(NamedTuple):
    """Where a character comes from, and its drawings, `uint8[20, 28, 28, 1]`."""

    part: str
    alphabet: str
    name: str
    images: np.ndarray


class OmniglotCharacters(ArchiveBuilder):
    """Omniglot, one record a character, ink bright; no TensorFlow needed."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "28x28, Lanczos, ink 255 on paper 0."}
    url_infos = {
        part.url: checksums.UrlInfo(Size(part.bytes), part.sha256, part.file)
        for part in PARTS.values()
    }

    def _read_at(self, place: Path) -> list[Character]:
        return _read({name: place / part.file for name, part in PARTS.items()})

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "alphabet": tfds.features.Text(),
                "character": tfds.features.Text(),
                "images": tfds.features.Tensor(
                    shape=(DRAWINGS, SIZE, SIZE, 1), dtype=np.uint8
                ),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Omniglot by character: 20 drawings of 1,623 characters.",
            features=features,
            homepage="https://github.com/brendenlake/omniglot",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        characters = self._local
        if characters is None:
            urls = {name: part.url for name, part in PARTS.items()}
            characters = _read(download(dl_manager, "Omniglot", urls, self._otherwise))
        splits = {
            name: [i for i, c in enumerate(characters) if c.part == name]
            for name in PARTS
        } | vinyals_split([c[:3] for c in characters])
        return {
            split: self._generate_examples([characters[i] for i in chosen])
            for split, chosen in splits.items()
        }

    def _generate_examples(self, characters: list[Character]) -> Iterator:
        for key, (_, alphabet, name, images) in enumerate(characters):
            yield key, {"alphabet": alphabet, "character": name, "images": images}


def _read(paths: Mapping[str, Path]) -> list[Character]:
    return [c for name in PARTS for c in read_archive(paths[name], name)]


def read_archive(path: Path, part: str) -> list[Character]:
    """Reads the characters of an archive, in the order of alphabets and characters.

    Raises:
      InputError: if the file is missing, damaged, or not this part of Omniglot.
    """
    mend = f"download {PARTS[part].file} from {_URL}"
    if not path.is_file():
        raise InputError(
            f"no {path.name} in {path.parent}: expected the folder that holds "
            f"{' and '.join(p.file for p in PARTS.values())}; {mend}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, f"images_{part}")
            wrong = _mistake(members, part)
            if wrong:
                raise InputError(
                    f"{path} is not Omniglot's {part} part: {wrong}; {mend}"
                )
            return [
                Character(part, *name, np.stack([_decode(archive, f) for f in files]))
                for name, files in sorted(members.items())
            ]
    except InputError:
        raise
    except Exception as error:  # zipfile and Pillow raise almost anything
        raise InputError(f"{path} is truncated or damaged ({error}); {mend}") from error


def _members(archive: zipfile.ZipFile, top: str) -> dict[tuple[str, str], list[str]]:
    """File names by (alphabet, character), sorted; others are passed over."""
    members = defaultdict(list)
    for name in sorted(archive.namelist()):
        first, *inner = name.split("/")
        whole = first == top and len(inner) == 3 and not {*inner} & {"", ".", ".."}
        if whole and name.endswith(".png"):
            members[inner[0], inner[1]].append(name)
    return members


def _mistake(members: dict[tuple[str, str], list[str]], part: str) -> str | None:
    expected = PARTS[part].characters
    if len(members) != expected:
        return f"expected {expected} characters, found {len(members)}"
    for name, files in members.items():
        if len(files) != DRAWINGS:
            return (
                f"expected {DRAWINGS} drawings of {'/'.join(name)}, found {len(files)}"
            )
    return None


def _decode(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One drawing, `uint8[28, 28, 1]`, ink bright."""
    file = io.BytesIO(read_member(archive, name, most=LARGEST))
    with Image.open(file, formats=("PNG",)) as image:
        if image.size != (ORIGINAL_SIZE, ORIGINAL_SIZE):
            raise OSError(f"{name} is {image.size}, not 105x105")
        # The files hold one bit a pixel; "L" makes paper 255 and ink 0.
        grey = image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return 255 - np.asarray(grey)[..., None]
