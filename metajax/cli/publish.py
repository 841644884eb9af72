"""The command that publishes a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Publish:
    """Write a run to one file, which evaluate, label, study and train --from accept.

    The file holds the meta-parameters, the configuration, the result with its protocol,
    and a digest of the data. A model card in Markdown is written beside it.
    """

    run: tyro.conf.Positional[Path]
    """Directory of the run."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """File to write, named *.safetensors."""
    checkpoint: Literal["last", "best"] = "last"
    """Checkpoint to publish: the newest, or the one of the best validation. metajax
    evaluate must have measured it before."""
    licence: str | None = None
    """Licence of the parameters, such as CC-BY-4.0; without it, the card says that none
    is given."""

    def __call__(self) -> None:
        """Publishes."""
        from metajax.experiments.publishing import publish

        publish(self.run, self.out, kept=self.checkpoint, licence=self.licence)
