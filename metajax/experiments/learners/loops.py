"""Configurations of learners with an inner loop of gradient steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import optax

from metajax import learners
from metajax.errors import InputError
from metajax.experiments.bounds import Count, CountOrZero, NotNegative, Positive
from metajax.experiments.evaluating import EvaluatingSteps
from metajax.experiments.learners.adaptation import Adaptation, Setting
from metajax.experiments.learners.on_backbone import OnBackbone
from metajax.experiments.plain import names_of
from metajax.gradients import first_order
from metajax.inner import adam, mini_batches, whole
from metajax.learners import InnerOptimizer, curvature, parameter_rates, step_rates
from metajax.models import at_temperature
from metajax.types import Array, Learner, LearnerSchedule

OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": adam,
    "adam-b1-0": lambda rate: adam(rate, b1=0.0),
}


@dataclass(frozen=True)
class GradientSteps(Adaptation):
    """An inner loop of gradient steps."""

    factory: ClassVar[Callable[..., Learner]]
    takes = "classes", "values", "masks", "boxes"
    measurement = EvaluatingSteps
    rate: Positive = 0.4
    """Inner learning rate."""
    steps: CountOrZero = 1  # pyright: ignore (a class's constant elsewhere)
    """Inner steps in training."""
    batch: Count | None = None
    """Support examples per inner step; all by default."""

    def taking(self, steps: int) -> Self:
        """The same with another number of inner steps."""
        return replace(self, steps=steps)

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """What every factory of this kind takes by name."""
        view = whole if self.batch is None else mini_batches(self.batch)
        return {"view": view, "metrics": setting.metrics}

    def rule(self) -> Any:
        """The inner optimizer: one of optax, or one that is learnt."""
        raise NotImplementedError

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner."""
        arguments = self.arguments(setting) | changes
        network, loss = setting.network, setting.loss
        return type(self).factory(network, loss, self.rule(), self.steps, **arguments)


@dataclass(frozen=True)
class InnerLoop(GradientSteps):
    """Gradient steps by an optimizer of optax."""

    optimizer: Literal["sgd", "momentum", "adam", "adam-b1-0"] = "sgd"
    """Inner optimizer; momentum is 0.9, adam has an eps_root that keeps its derivative
    finite, and adam-b1-0 has β1 = 0, as in Reptile."""

    def rule(self) -> optax.GradientTransformation:
        """The inner optimizer."""
        return OPTIMIZERS[self.optimizer](self.rate)


@dataclass(frozen=True)
class LearntSteps(GradientSteps):
    """Gradient steps by an optimizer that is learnt."""

    rate_is_learnt = True
    factory = staticmethod(learners.learned_maml)


@dataclass(frozen=True)
class Exact(GradientSteps):
    """Gradient steps that are differentiated exactly."""

    differentiated = True
    first_order: CountOrZero = 0
    """Number of initial meta-steps with the first-order gradient (MAML++)."""

    def build_training(self, setting: Setting) -> Learner | LearnerSchedule:
        """First the first-order gradient, if asked for, then the exact one."""
        after = self.build_phase(setting)
        if not self.first_order:
            return after
        before = self.build_phase(setting, grad=first_order)
        return learners.switch(self.first_order, before, after)

    def build_phase(
        self, setting: Setting, **changes: Any
    ) -> Learner | LearnerSchedule:
        """The learner with one kind of gradient."""
        return self.build(setting, **changes)


@dataclass(frozen=True)
class Maml(Exact, InnerLoop):
    """MAML: the exact gradient through the inner loop."""

    name = "maml"
    factory = staticmethod(learners.maml)


@dataclass(frozen=True)
class Tnas(Exact, InnerLoop):
    """T-NAS: MAML on a network of cells; the architecture has its own inner rate."""

    name = "tnas"
    takes = "classes", "values"  # of which there are networks with α
    rates_differ = True
    searches = True
    alpha_rate: Positive = 30.0
    """T-NAS: inner learning rate of the architecture."""
    temperature: Positive = 1.0  # pyright: ignore (a class's constant elsewhere)
    """T-NAS: temperature of the softmax over operations; also used in validation and
    evaluation."""
    annealing: CountOrZero = 0
    """T-NAS: number of meta-steps in which the temperature falls from 1 to
    --inner.temperature (MetaNAS)."""
    warm_up: CountOrZero = 0
    """T-NAS: number of meta-steps at temperature 1 before the annealing."""
    factory = staticmethod(learners.tnas)

    def after_search(self) -> Maml:
        """MAML, as no α are left to adapt."""
        return Maml(**{name: getattr(self, name) for name in names_of(Maml)})

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the optimizer of α."""
        return super().arguments(setting) | {"alphas": optax.sgd(self.alpha_rate)}

    def build(
        self, setting: Setting, temperature: Array | None = None, **changes: Any
    ) -> Learner:
        """The learner at a temperature; the last one by default."""
        value = self.temperature if temperature is None else temperature
        network = at_temperature(setting.network, value)
        return super().build(setting._replace(network=network), **changes)

    def build_phase(
        self, setting: Setting, **changes: Any
    ) -> Learner | LearnerSchedule:
        """At one temperature, or at one that falls, if asked for.

        Raises:
          InputError: for an option that would have no effect.
        """
        if self.annealing and self.temperature == 1.0:
            raise InputError(
                "--inner.annealing needs an --inner.temperature other than 1, to which "
                "it changes; give one, or leave it out"
            )
        if self.warm_up and not self.annealing:
            raise InputError(
                "--inner.warm-up needs --inner.annealing, the meta-steps after it in "
                "which the temperature changes; give it, or leave both out"
            )
        if not self.annealing:
            return self.build(setting, **changes)
        falling = optax.linear_schedule(
            1.0, self.temperature, self.annealing, self.warm_up
        )
        return learners.annealed(
            lambda value: self.build(setting, value, **changes), falling
        )


@dataclass(frozen=True)
class Fomaml(InnerLoop):
    """First-order MAML."""

    name = "fomaml"
    factory = staticmethod(learners.fomaml)


@dataclass(frozen=True)
class Anil(Exact, InnerLoop):
    """ANIL: the inner loop adapts only the head."""

    name = "anil"
    factory = staticmethod(learners.anil)


@dataclass(frozen=True)
class Boil(Exact, InnerLoop):
    """BOIL: the inner loop adapts only the body."""

    name = "boil"
    factory = staticmethod(learners.boil)


@dataclass(frozen=True)
class Reptile(InnerLoop):
    """Reptile: the meta-parameters move towards the adapted ones."""

    name = "reptile"
    factory = staticmethod(learners.reptile)


@dataclass(frozen=True)
class ProtoMaml(Exact, InnerLoop):
    """Proto-MAML: MAML whose head starts from the class prototypes."""

    name = "proto-maml"
    takes = ("classes",)
    any_ways = True
    makes_head = True
    factory = staticmethod(learners.proto_maml)


@dataclass(frozen=True)
class FoProtoMaml(InnerLoop):
    """First-order Proto-MAML, as in Meta-Dataset."""

    name = "fo-proto-maml"
    takes = ("classes",)
    any_ways = True
    makes_head = True
    factory = staticmethod(partial(learners.proto_maml, grad=first_order))


@dataclass(frozen=True)
class Imaml(InnerLoop):
    """Implicit MAML."""

    name = "imaml"
    strength: Positive = 2.0
    """iMAML: strength λ of the proximal regularisation."""
    damping: NotNegative = 0.0
    """iMAML: damping added to the Hessian in the conjugate-gradient solve."""
    factory = staticmethod(learners.imaml)

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With those of the proximal problem."""
        own = {"strength": self.strength, "damping": self.damping}
        return super().arguments(setting) | own


@dataclass(frozen=True)
class Cavia(Exact, InnerLoop):
    """CAVIA: the inner loop adapts context parameters appended to the inputs."""

    name = "cavia"
    context: Count = 5  # pyright: ignore (a class's constant elsewhere)
    """CAVIA: number of context parameters; the paper uses 5 for sine waves."""
    factory = staticmethod(learners.cavia)

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the number of context parameters."""
        return super().arguments(setting) | {"context": self.context}


@dataclass(frozen=True)
class Mtl(OnBackbone, Exact, InnerLoop):
    """Meta-transfer learning: scales and shifts of a pre-trained body are learnt."""

    name = "mtl"
    takes = "classes", "values"  # what a body can be pre-trained on
    beside_support = True
    pretrained = True
    factory = staticmethod(learners.mtl)

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner, on the body of its file."""
        body = {"backbone": self.read(setting.network)}
        return super().build(setting, **body | changes)


@dataclass(frozen=True)
class MetaSgd(Exact, LearntSteps):
    """Meta-SGD: a learnt rate for each parameter."""

    name = "meta-sgd"

    def rule(self) -> InnerOptimizer:
        """A rate a parameter."""
        return parameter_rates(self.rate)


@dataclass(frozen=True)
class MetaCurvature(Exact, LearntSteps):
    """Meta-Curvature: learnt matrices precondition each gradient."""

    name = "meta-curvature"

    def rule(self) -> InnerOptimizer:
        """Matrices of each parameter's axes."""
        return curvature(self.rate)


@dataclass(frozen=True)
class MetaLstm(LearntSteps):
    """Meta-LSTM: an LSTM computes the updates, differentiated to first order."""

    name = "meta-lstm"
    factory = staticmethod(partial(learners.learned_maml, grad=first_order))

    def rule(self) -> InnerOptimizer:
        """An LSTM shared by all coordinates."""
        return learners.meta_lstm(self.rate)


@dataclass(frozen=True)
class LearnedOptimizer(LearntSteps):
    """A learned recurrent optimizer, differentiated to first order."""

    name = "learned-optimizer"
    factory = staticmethod(partial(learners.learned_maml, grad=first_order))

    def rule(self) -> InnerOptimizer:
        """A recurrent network shared by all coordinates."""
        return learners.learned_optimizer(scale=self.rate)


@dataclass(frozen=True)
class MamlPlusPlus(Exact, LearntSteps):
    """MAML++: a learnt rate for each layer and step, and multi-step losses."""

    name = "maml++"
    multi_step: CountOrZero = 0
    """MAML++: number of initial meta-steps whose loss also counts the query loss after
    each earlier inner step, with falling weights."""
    factory = staticmethod(learners.maml_plus_plus)

    def rule(self) -> InnerOptimizer:
        """A rate a layer and step."""
        return step_rates(self.rate, max(1, self.steps))

    def build_phase(
        self, setting: Setting, **changes: Any
    ) -> Learner | LearnerSchedule:
        """First the loss after every step, if asked for, then that after the last."""
        after = self.build(setting, **changes)
        if not self.multi_step:
            return after

        def weighted(done: Array) -> Learner:
            weights = learners.multi_step_weights(done, self.steps, self.multi_step)
            return self.build(setting, step_weights=weights, **changes)

        return learners.switch(self.multi_step, weighted, after)
