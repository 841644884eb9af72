"""Training episodes, changed as a configuration says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from metajax import data
from metajax.errors import InputError
from metajax.experiments.bounds import Count, Positive, Share, Ways
from metajax.experiments.tasks import LossName, Task
from metajax.types import Sampler

CLASSES: dict[str, tuple[data.Transform, ...]] = {
    "none": (),
    "turn": (data.turn_classes,),
    "turn-flip": (data.turn_classes, data.flip_classes),
}
MIXES: dict[str, Callable[[float, int], tuple[data.Transform, ...]]] = {
    "none": lambda alpha, ways: (),
    "mixup": lambda alpha, ways: (data.mixup(alpha, ways),),
    "metamix": lambda alpha, ways: (data.metamix(alpha, ways),),
}


def jitter_of(size: float) -> data.Transform:
    """Random shifts, scales and turns up to shares of a side, of one and of 90°."""
    return data.jitter(shift=size, scale=size, turn=90 * size)


@dataclass(frozen=True)
class Augment:
    """Augmentation of training episodes of images."""

    classes: Literal["none", "turn", "turn-flip"] = "none"
    """New classes: each class of an episode rotated by a random multiple of 90 degrees,
    and for turn-flip also mirrored at random. With Omniglot, also give --data.rotations
    1, as its classes are rotated already."""
    jitter: Share = 0.0
    """Random shift, scale and rotation of each training image; 0.1 shifts by up to 10 %
    of a side, scales by up to 10 % and rotates by up to 9 degrees."""
    mix: Literal["none", "mixup", "metamix"] = "none"
    """Mixing of examples: within the support set and within the query set (mixup), or
    of query with support examples (metamix, which has no effect on Reptile)."""
    alpha: Positive = 1.0
    """α of the Beta(α, α) distribution of the weights of --augment.mix; 1 is uniform,
    and MetaMix's authors use 2."""
    fewest_ways: Ways | None = None
    """Sample the number of classes of each training task between this and --data.ways
    (or --data.train-ways), and pad tasks to one shape; not with --augment.mix."""
    fewest_shots: Count | None = None
    """Sample the number of support images of each class between this and --data.shots
    (or --data.train-shots), and pad tasks to one shape; not with --augment.mix."""

    def transforms(self, ways: int) -> tuple[data.Transform, ...]:
        """The changes of episodes of so many ways."""
        return (
            *CLASSES[self.classes],
            *((jitter_of(self.jitter),) if self.jitter else ()),
            *MIXES[self.mix](self.alpha, ways),
        )

    @property
    def varies(self) -> bool:
        """Whether tasks have different numbers of ways or shots."""
        return (self.fewest_ways, self.fewest_shots) != (None, None)


def augment_episodes(
    augment: Augment, task: Task, queries: int, shots: int, loss: LossName
) -> Sampler:
    """The training episodes of a task, augmented.

    Args:
      augment: how.
      task: of the data.
      queries: query examples a class.
      shots: support examples a class, at most.
      loss: that the learner takes.

    Raises:
      InputError: if episodes that are not of images are to be augmented, or the fewest
        ways or shots are more than there are, or come with another loss than a mean.
    """
    episodes, ways = task.episodes("train", queries), task.train_outputs
    if augment == Augment():
        return episodes
    if task.kind != "classes":
        raise InputError(
            "--augment is for classes of images, which these data are not; leave it out"
        )
    if augment.mix == "none" and augment.alpha != Augment.alpha:
        raise InputError("--augment.alpha has no effect without --augment.mix")
    if transforms := augment.transforms(ways):
        episodes = data.augmented(episodes, *transforms)
    if not augment.varies:
        return episodes
    if augment.mix != "none":
        raise InputError(
            "--augment.mix makes mixtures of labels, which --augment.fewest-ways and "
            "--augment.fewest-shots cannot take; leave one out"
        )
    if loss != "mean":
        raise InputError(
            "tasks of fewer ways or shots (--augment.fewest-...) need --loss mean, got "
            f"{loss}"
        )
    fewest = augment.fewest_ways or ways, augment.fewest_shots or shots
    return data.varied(episodes, (fewest[0], ways), (fewest[1], shots))
