"""Learners that begin with a body of `metajax pretrain`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from metajax.errors import InputError
from metajax.experiments.backbone import digest, read_body
from metajax.experiments.learners.adaptation import Adaptation, Setting
from metajax.models import headed, pretrained
from metajax.models.headed import parts
from metajax.types import Learner, LearnerSchedule, Model, Params


@dataclass(frozen=True)
class OnBackbone(Adaptation):
    """A learner that takes a pre-trained body."""

    needs_backbone = True
    backbone: str | None = None  # pyright: ignore (a class's constant elsewhere)
    """Pre-trained body: the directory of a metajax pretrain run, or the file of a
    body."""

    def with_backbone(self, path: str | None) -> Self:
        """The same on the body of another file."""
        return replace(self, backbone=path)

    @property
    def path(self) -> Path | None:
        """Where the body is."""
        return None if self.backbone is None else Path(self.backbone)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The digest of the body's file."""
        return {} if self.path is None else {"backbone_digest": digest(self.path)}

    def read(self, network: Model) -> Params | None:
        """The parameters of the network's body, if there is a file."""
        return read_body(self.path, parts(network, self.name)[0])

    def build_training(self, setting: Setting) -> Learner | LearnerSchedule:
        """The learner that a run begins with.

        Raises:
          InputError: if it needs a body and has none.
        """
        if self.needs_backbone and self.backbone is None:
            raise InputError(
                f"{self.name} needs a pre-trained backbone: make one with metajax "
                "pretrain, and give it as --inner.backbone DIR"
            )
        return super().build_training(setting)


@dataclass(frozen=True)
class PretrainedStart(OnBackbone):
    """A learner whose body starts from the pre-trained one."""

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner; of a body that starts at random, if there is no file."""
        weights = self.read(setting.network)
        if weights is not None:
            body, head = parts(setting.network, self.name)
            network = headed(pretrained(body, weights), head)
            setting = setting._replace(network=network)
        return super().build(setting, **changes)
