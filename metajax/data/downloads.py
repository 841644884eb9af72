"""Downloads by TFDS, refused in one line. Importing this file imports TFDS."""

import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from metajax.errors import InputError

NETWORK_TIMEOUT = 10.0  # seconds; TFDS itself retries for minutes


def by_hand(files: Iterable[str]) -> str:
    """What to do without a network."""
    return (
        f"put {' and '.join(files)} in a folder and pass archives=DIR (--archives DIR)"
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
        except (urllib.error.URLError, OSError) as error:
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
