"""What all learners' configurations have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

from metajax.experiments.evaluating import Evaluating
from metajax.experiments.tasks import Kind, Trials
from metajax.metrics import Metric
from metajax.models.norms import NormName
from metajax.training.step import MakeStep, train_step
from metajax.types import Learner, LearnerSchedule, Loss


class Setting(NamedTuple):
    """What a learner is built for.

    Attributes:
      network: the model; a policy, for trials.
      outputs: of an input, or of each pixel or place of it.
      loss: of a batch.
      metrics: what training logs, by name.
      input_shape: of an input.
      support: the most examples of a support set.
      norm: what the network's batch norm goes by.
      trials: the environment to act in, if there is one.
      is_whole: whether a support set is all of its signal.
    """

    network: Any
    outputs: int
    loss: Loss
    metrics: Mapping[str, Loss]
    input_shape: tuple[int, ...]
    support: int
    norm: NormName
    trials: Trials | None = None
    is_whole: bool = False

    @property
    def own_trials(self) -> Trials:
        """The environment to act in, of a learner that is for one."""
        assert self.trials is not None
        return self.trials


class Adaptation:
    """How a learner adapts to a task; its fields are the options of one learner.

    Attributes:
      name: as `--learner` takes it.
      steps: inner steps; 0 of a learner without an inner loop.
      context: channels that it adds to the model's inputs.
      loss: what takes the place of the tasks' own loss.
      logits: whether its outputs of classes, or masks, are logits of them.
      any_ways: whether it takes any number of classes, once trained.
      any_shots: likewise of examples a class.
      fewer_ways: whether it may be trained on tasks of fewer ways, padded.
      takes: which kinds of tasks it takes.
      makes_head: whether it makes its own head, in place of the network's.
      differentiated: whether its inner gradient is, and may be of another order.
      rate_is_learnt: whether `rate` is only where a learnt rate begins.
      rates_differ: whether some parameters have another rate than `rate`.
      searches: whether it adapts an architecture, which its network must have.
      temperature: of the softmax over the operations of an architecture.
      in_order: whether it reads the support set in its order.
      pretrained: whether it is built on a pre-trained body that it does not hold among
        its parameters.
      backbone: where the pre-trained body is that it takes; None if it takes none.
      needs_backbone: whether a run of it needs one.
      trained: whether it is meta-trained; a run of another makes no meta-steps.
      not_inherited: the options that no other learner takes over from it, nor it from
        another.
      metric: what takes the place of the tasks' own metric.
      measurement: the options of an evaluation of it.
      beside_support: whether a query alone needs the support set beside it, by
        `metajax.per_query`, as its network cannot settle on that.
    """

    name: ClassVar[str]
    steps: ClassVar[int] = 0
    context: ClassVar[int] = 0
    loss: ClassVar[Loss | None] = None
    logits: ClassVar[bool] = True
    any_ways: ClassVar[bool] = False
    any_shots: ClassVar[bool] = True
    fewer_ways: ClassVar[bool] = True
    takes: ClassVar[tuple[Kind, ...]]
    makes_head: ClassVar[bool] = False
    differentiated: ClassVar[bool] = False
    rate_is_learnt: ClassVar[bool] = False
    rates_differ: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    temperature: ClassVar[float] = 1.0
    in_order: ClassVar[bool] = False
    metric: ClassVar[Metric | None] = None
    measurement: ClassVar[type] = Evaluating
    beside_support: ClassVar[bool] = False
    pretrained: ClassVar[bool] = False
    backbone: ClassVar[str | None] = None
    needs_backbone: ClassVar[bool] = False
    trained: ClassVar[bool] = True
    not_inherited: ClassVar[tuple[str, ...]] = ()

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner; `changes` are arguments of its factory."""
        raise NotImplementedError

    def build_training(self, setting: Setting) -> Learner | LearnerSchedule:
        """The learner to train, which may change on the way."""
        return self.build(setting)

    def taking(self, steps: int) -> Self:
        """The same with another number of inner steps, if it has an inner loop."""
        return self

    def after_search(self) -> "Adaptation":
        """The learner of a network whose architecture was searched and is now fixed."""
        return self

    def make_step(self) -> MakeStep:
        """What makes its meta-step."""
        return train_step

    def planned_step(self) -> MakeStep:
        """The same, for a meta-batch of any size."""
        return self.make_step()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the protocol of a result says of it, by name."""
        return {}

    @property
    def updates(self) -> int:
        """Outer updates of a meta-step."""
        return 1

    def with_backbone(self, path: str | None) -> Self:
        """The same on the pre-trained body of a file, if it is built on one."""
        return self
