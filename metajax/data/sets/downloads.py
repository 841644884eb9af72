"""Archives, at hand or downloaded by TFDS. Importing this file imports TFDS."""

import abc
import functools
import http.client
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from metajax.errors import InputError, argument

NETWORK_TIMEOUT = 10.0  # seconds; TFDS itself retries for minutes


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder that reads archives at hand, or else downloads them."""

    url_infos: ClassVar[dict[str, Any]]

    def __init__(
        self, *, data_dir: str | None = None, archives: str | Path | None = None
    ):
        """Args: see `metajax.data.omniglot`."""
        self._archives = archives
        super().__init__(data_dir=data_dir)

    def check_source(self) -> None:
        """Reads the archives, or sees that the network is there, before any writing.

        Raises:
          InputError: if they cannot be read, or it is not.
        """
        if self._local is None:
            reach(self.url_infos, self._otherwise)

    @functools.cached_property
    def _local(self) -> Any:
        """What the archives at hand hold, if any, read once."""
        return None if self._archives is None else self._read_at(Path(self._archives))

    @abc.abstractmethod
    def _read_at(self, place: Path) -> Any:
        """What the archives there hold."""

    @property
    def _otherwise(self) -> str:
        return by_hand(info.filename for info in self.url_infos.values())


def by_hand(files: Iterable[str]) -> str:
    """What to do without a network."""
    return (
        f"put {' and '.join(files)} in a folder and pass it as {argument('archives')}, "
        f"or pass the folder of data prepared before as {argument('data_dir')}"
    )


def reach(urls: Iterable[str], otherwise: str) -> None:
    """Sees that there is something at each address.

    Raises:
      InputError: if there is not, with what to do otherwise.
    """
    for url in urls:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT).close()
        except (OSError, http.client.HTTPException) as error:  # no HTTP, say
            raise InputError(
                f"cannot download {url} ({error}); without a network, {otherwise}"
            ) from error


def download(
    manager: Any, what: str, urls: Mapping[str, str], otherwise: str
) -> dict[str, Path]:
    """Downloads files by TFDS's manager, which knows their checksums.

    Raises:
      InputError: if that fails, with what to do otherwise.
    """
    try:
        paths = manager.download(dict(urls))
    except (tfds.download.DownloadError, NonMatchingChecksumError, OSError) as error:
        raise InputError(
            f"the download of {what} failed ({error}); try again, or {otherwise}"
        ) from error
    return {name: Path(path) for name, path in paths.items()}
