"""A state that lies over the devices, where each would otherwise have all of it."""

from dataclasses import dataclass

import jax
import optax
from jax.sharding import NamedSharding

from metajax.training.cutting import Chunk, Devices, Sharded, everywhere
from metajax.training.parallel import layout, mesh_of
from metajax.training.state import TrainState, init_state
from metajax.training.step import MakeStep, Step, train_step
from metajax.types import Array, Learner, LearnerSchedule, Metrics, PyTree


def state_sharding(state: TrainState, devices: Devices) -> TrainState:
    """Where each array of a state lies, a part of it on each device.

    Args:
      state: the state, abstract or not.
      devices: see `metajax.meta_gradient`; all of them share.

    Returns:
      A `jax.sharding.NamedSharding` for each array.
    """
    used = everywhere(devices).devices
    mesh, specs = mesh_of(used), layout(state, len(used))
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def init_sharded(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    key: Array,
    devices: Devices,
) -> TrainState:
    """`metajax.init_state` that no device ever has whole.

    Args:
      learner: see there.
      optimizer: see there.
      key: see there.
      devices: see `state_sharding`.
    """

    def init(key: Array) -> TrainState:
        return init_state(learner, optimizer, key)

    places = state_sharding(jax.eval_shape(init, key), devices)
    return jax.jit(init, out_shardings=places)(key)


@dataclass(frozen=True)
class ShardedStep:
    """A `metajax.train_step` of which each device updates a part of the state.

    In each meta-step a device gathers the meta-parameters, takes its share of the
    tasks, and is given its part of the summed gradient, by which it updates its part of
    the meta-parameters and of the optimizer's state. Between meta-steps it has nothing
    else.

    Attributes:
      make_step: what makes the step.

    Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
    Parameter Models", SC 2020, of which it is the third stage.
    """

    make_step: MakeStep = train_step

    def __call__(
        self,
        learner: Learner | LearnerSchedule,
        optimizer: optax.GradientTransformation,
        *,
        tasks_per_chunk: Chunk = "auto",
        devices: Devices = 1,
    ) -> Step:
        """As `train_step`: builds `step(state, tasks) -> (state, metrics)`."""
        used = Sharded(everywhere(devices).devices)
        whole = self.make_step(
            learner, optimizer, tasks_per_chunk=tasks_per_chunk, devices=used
        )

        def step(state: TrainState, tasks: PyTree) -> tuple[TrainState, Metrics]:
            after, metrics = whole(state, tasks)
            places = state_sharding(state, devices)
            return jax.lax.with_sharding_constraint(after, places), metrics

        return step
