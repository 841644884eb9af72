"""What the inner loop stores of each step, for the backward pass.

It is part of how the inner loop is differentiated, so it belongs to `grad`. By default
each step's parameters and optimizer state are stored, and the step is recomputed from
them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from metajax.errors import InputError
from metajax.types import Array, GradTransform, Params

Step = Callable[[Any, Array], Any]
HOST = "pinned_host"
CARRIED = "metajax_carried"


class Stored(NamedTuple):
    """A `grad` that also decides what the inner loop stores of each step.

    Attributes:
      grad: how the inner gradient is differentiated.
      remat: `remat(step) -> step`, such as `jax.checkpoint` with a `policy`, for a step
        `(carried, k) -> (carried, result)` of the inner loop.

    >>> from functools import partial
    >>> import optax, metajax as mj
    >>> products = jax.checkpoint_policies.dots_saveable
    >>> grad = Stored(mj.reverse, partial(jax.checkpoint, policy=products))
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=5, grad=grad)
    """

    grad: GradTransform
    remat: Callable[[Step], Step]

    def __call__(self, fun: Callable[..., Array], /) -> Callable[..., Params]:
        """Returns `grad(fun)`."""
        return self.grad(fun)


def recomputed(grad: GradTransform) -> Stored:
    """Stores the start of each step and recomputes the rest, which is the default."""
    # A scan already keeps XLA from merging the recomputed step with the original.
    return Stored(grad, lambda step: jax.checkpoint(step, prevent_cse=False))


def kept(grad: GradTransform) -> Stored:
    """Stores all that the derivative of each step needs, and recomputes nothing.

    It saves memory for networks whose parameters outweigh their activations, because
    the weights of each step are not stored. Use it with `metajax.reverse`: `mixed`, and
    so `exact`, has no activations to store.

    Args:
      grad: how the inner gradient is differentiated.

    Returns:
      A `grad` for `inner_loop` and for learners.

    >>> import optax, metajax as mj
    >>> grad = kept(mj.reverse)
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=5, grad=grad)
    """
    return Stored(grad, lambda step: step)


def offloaded(grad: GradTransform) -> Stored:
    """Stores the start of each step in the host's memory, and recomputes the rest.

    Device memory then does not grow with the number of steps. It changes nothing on a
    CPU, where both memories are the same. JAX cannot differentiate the outer gradient
    once more.

    Args:
      grad: how the inner gradient is differentiated.

    Returns:
      A `grad` for `inner_loop` and for learners.

    Raises:
      InputError: if the default backend has no host memory that it can use.

    >>> import optax, metajax as mj
    >>> grad = offloaded(mj.exact)
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=5, grad=grad)
    """
    _check_host_memory()
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[CARRIED],
        offload_src="device",
        offload_dst=HOST,
    )

    def remat(step: Step) -> Step:
        # Named inside, so that what a step closes over is not copied to the host.
        def named(carried: Any, k: Array) -> Any:
            return step(checkpoint_name(carried, CARRIED), k)

        return jax.checkpoint(named, prevent_cse=False, policy=policy)

    return Stored(grad, remat)


def _check_host_memory() -> None:
    device = jax.devices()[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise InputError(
            f'offloaded needs a backend with memory of kind "{HOST}", got '
            f"{device.platform} with {', '.join(kinds)}; leave it out, or use "
            "metajax.kept"
        )
