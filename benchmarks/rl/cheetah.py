"""A half-cheetah on MuJoCo MJX: an environment of one's own, to copy."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax import rl
from metajax.checks import check_count, check_known
from metajax.errors import InputError
from metajax.types import Array

MODEL = Path(__file__).with_name("cheetah.xml")
CONTROL_COST = 0.05  # of the sum of squared actions
NOISE = 0.01, 0.1  # of the first positions and velocities, normal
FASTEST = 2.0  # of the target velocities
SUBSTEPS = 5  # of the physics for an action


class Motion(NamedTuple):
    """The state of an episode: all that the physics needs of the last step.

    Attributes:
      position: of the joints.
      velocity: of the joints.
      warm_start: accelerations, where the solver of the contacts starts.
    """

    position: Array
    velocity: Array
    warm_start: Array


class Physics(NamedTuple):
    """MJX, the model of a body in the x-z plane, and the data of its rest.

    Attributes:
      mjx: the module.
      model: as MJX has it.
      data: the body at rest.
    """

    mjx: Any
    model: Any
    data: Any

    def begin(self, key: Array) -> Motion:
        """At rest, but for noise."""
        own, other = jax.random.split(key)
        away, fast = NOISE
        rest = self.data.qpos, self.data.qvel
        return Motion(
            rest[0] + away * jax.random.normal(own, rest[0].shape, rest[0].dtype),
            rest[1] + fast * jax.random.normal(other, rest[1].shape, rest[1].dtype),
            jnp.zeros_like(rest[1]),
        )

    def advance(self, motion: Motion, controls: Array) -> Motion:
        """The motion after the substeps of an action."""
        data = self.data.replace(
            qpos=motion.position,
            qvel=motion.velocity,
            qacc_warmstart=motion.warm_start,
            ctrl=controls.astype(self.data.ctrl.dtype),
        )
        data = jax.lax.fori_loop(
            0, SUBSTEPS, lambda _, data: self.mjx.step(self.model, data), data
        )
        return Motion(data.qpos, data.qvel, data.qacc_warmstart)

    def centre(self, motion: Motion) -> tuple[Array, Array]:
        """The centre of mass of the body and its velocity, each `float[3]`."""

        def place(position: Array) -> Array:
            data = self.mjx.kinematics(self.model, self.data.replace(qpos=position))
            return self.mjx.com_pos(self.model, data).subtree_com[0]

        # Slides and hinges alone: velocities are the derivatives of the positions.
        return jax.jvp(place, (motion.position,), (motion.velocity,))


def half_cheetah(
    task: Literal["direction", "velocity"] = "direction", horizon: int = 200
) -> rl.Environment:
    """A cheetah in the plane that must run in a direction, or at a velocity.

      r = d · v - c ‖a‖²   or   r = -|v - v*| - c ‖a‖²,   c = 0.05
      d ~ U{-1, 1},   v* ~ U[0, 2]

    v is the forward velocity of the centre of mass after the action a, which is clipped
    to [-1, 1]. An episode begins at rest, with noise of 0.01 in positions and 0.1 in
    velocities, and never ends early. An observation is all positions but x, the
    velocities, and the centre of mass.

    Rewards, noise and observations are those of the code of MAML's authors, and the
    target velocities the paper's. The body is not: `cheetah.xml` is our own, with 5
    substeps of 0.01 s an action as in Gym's cheetah; how many MAML's had, we do not
    know. So returns do not compare with the published ones.

    Args:
      task: what a task is, the direction d or the velocity v*.
      horizon: the steps of an episode.

    Returns:
      An `Environment` whose task is d or v*, `float32[]`.

    Raises:
      InputError: for another task, a horizon below 1, or if MJX is not installed.

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.3.2.
    """
    sample, gain = TASKS[check_known("task", task, TASKS)]
    check_count("horizon", horizon, least=1)
    physics = load(MODEL)

    def reset(task: Array, key: Array) -> tuple[Motion, Array]:
        motion = physics.begin(key)
        return motion, _seen(motion, physics.centre(motion)[0])

    def step(task: Array, state: Motion, action: Array, key: Array) -> rl.Transition:
        controls = jnp.clip(action, -1, 1)
        motion = physics.advance(state, controls)
        centre, velocity = physics.centre(motion)
        reward = gain(task, velocity[0]) - CONTROL_COST * jnp.sum(controls**2)
        return rl.Transition(motion, _seen(motion, centre), reward, jnp.array(False))

    actions = physics.data.ctrl.shape
    return rl.Environment(sample, reset, step, horizon, actions)


def load(file: Path) -> Physics:
    """The physics of an MJCF model.

    Raises:
      InputError: if MJX is not installed.
    """
    try:
        mujoco, mjx = map(importlib.import_module, ("mujoco", "mujoco.mjx"))
    except ModuleNotFoundError as error:
        raise InputError(
            'MuJoCo MJX is not installed; pip install "metajax[mjx]"'
        ) from error
    model = mjx.put_model(mujoco.MjModel.from_xml_string(file.read_text()))
    return Physics(mjx, model, mjx.make_data(model))


def _direction(key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


def _target(key: Array) -> Array:
    return jax.random.uniform(key, maxval=FASTEST)


def _progress(direction: Array, velocity: Array) -> Array:
    return direction * velocity


def _closeness(target: Array, velocity: Array) -> Array:
    return -jnp.abs(velocity - target)


# How a task is drawn, and the reward of a velocity in it.
TASKS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "direction": (_direction, _progress),
    "velocity": (_target, _closeness),
}


def _seen(motion: Motion, centre: Array) -> Array:
    return jnp.concatenate([motion.position[1:], motion.velocity, centre])
