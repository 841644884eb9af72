"""Where the data sets are that are prepared once."""

from pathlib import Path

from metajax.data.cifar import builder_class as cifar100
from metajax.data.omniglot import builder_class as omniglot
from metajax.data.preparing import make_builder
from metajax.errors import InputError

BUILDERS = {"omniglot": omniglot, "cifar100": cifar100}


def find_prepared(name: str, data_dir: Path | None) -> Path:
    """The folder of a prepared data set.

    Args:
      name: of the data set, in `BUILDERS`.
      data_dir: the folder of all prepared data; TFDS's own by default.

    Raises:
      InputError: if the data set is not prepared, or a package is missing.
    """
    builder = make_builder(name, BUILDERS[name], archives=None, data_dir=data_dir)
    if not builder.is_prepared():
        more = (
            ", or --data-dir DIR if they are elsewhere"
            if data_dir is None
            else f" --data-dir {data_dir}"
        )
        raise InputError(f"not prepared: metajax data prepare {name}{more}")
    return Path(builder.data_dir)
