"""The command that publishes a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Publish:
    """Write a run as one file that evaluate, label, study and train --from take.

    The file holds the meta-parameters, the configuration, the result with its protocol
    and a digest of the data. A card of what it is, in Markdown, is written beside it.
    """

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The file, named *.safetensors."""
    checkpoint: Literal["last", "best"] = "last"
    """The newest, or that of the best validation; each is evaluated first."""
    licence: str | None = None
    """Licence of the parameters, such as CC-BY-4.0; the card says if none is given."""

    def __call__(self) -> None:
        """Publishes."""
        from metajax.experiments.publishing import publish

        publish(self.run, self.out, kept=self.checkpoint, licence=self.licence)
