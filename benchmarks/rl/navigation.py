"""A meta-step of `metajax.maml_rl` on 2D navigation, and what a rival needs of it."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metajax as mj
from benchmarks.rl.settings import Navigation
from metajax import rl
from metajax.learners.maml_rl import Gathered
from metajax.training import meta_gradient
from metajax.types import Array, Learner, Params

DISCOUNT, OUTER_RATE = 0.99, 1e-3


class Work(NamedTuple):
    """The learner of a meta-step, its first parameters and its sampler of tasks."""

    learner: Learner
    policy: rl.Policy
    meta: Params
    trials: Any


def make_work(settings: Navigation, dtype: Any = jnp.float32) -> Work:
    """The work: a Gaussian policy on a ReLU MLP, LVC, one inner step."""
    navigation, hidden = rl.navigation(settings.horizon), [settings.width] * 2
    network = mj.mlp(2, hidden, 2, dtype=dtype)
    policy = rl.feedforward(network, rl.gaussian(2, dtype=dtype))
    sampling = rl.sampling(
        navigation, policy, trajectories=settings.trajectories, discount=DISCOUNT
    )
    learner = mj.maml_rl(sampling, optax.sgd(settings.inner_rate), steps=1)
    meta = policy.init(jax.random.key(settings.seed))
    return Work(learner, policy, meta, rl.trials(navigation))


def flat(params: Params) -> list[np.ndarray]:
    """Kernel and bias of each layer, and log σ, as arrays."""
    model = params["model"]
    layers = [*model["body"], model["head"]]
    parts = [layer[name] for layer in layers for name in ("kernel", "bias")]
    return [np.array(x) for x in (*parts, params["head"]["log_std"])]


def gradient_and_noise(work: Work, key: Array, tasks: int):
    """A meta-gradient, and the goals and the noise that it was computed with.

    Returns:
      The gradient as `flat` gives it; goals, `float[tasks, 2]`; and the noise of the
      actions before the inner step and after, `float[2, horizon, tasks, n, 2]`.
    """
    trials = work.trials(key, tasks)

    @jax.jit
    def compute(meta: Params, trials: rl.Trial):
        held = jax.vmap(work.learner.collect, (None, 0))(meta, trials)
        adapted = jax.vmap(work.learner.adapt, (None, 0))(meta, trials).params
        _, gradient = meta_gradient(work.learner)(meta, trials)
        noise = jax.vmap(partial(_noise_of, work.policy), (None, 0, 0))
        return gradient, noise(meta, adapted, held)

    gradient, noise = compute(work.meta, trials)
    by_time = noise.transpose(1, 3, 0, 2, 4)
    return flat(gradient), np.array(trials.task), np.array(by_time)


def _noise_of(
    policy: rl.Policy, meta: Params, adapted: Params, held: Gathered
) -> Array:
    """The noise of a task's actions, (a - x)/σ, `float[2, n, horizon, 2]`."""
    inner = jax.tree.map(lambda x: x[0], held.inner)

    def noise(params: Params, steps: rl.Steps) -> Array:
        unroll = jax.vmap(policy.unroll, (None, None, 0, 0))
        normal = unroll(params, (), steps.seen, steps.alive).action
        return (steps.action - normal.mean) * jnp.exp(-normal.log_std)

    return jnp.stack([noise(meta, inner.steps), noise(adapted, held.outer.steps)])
