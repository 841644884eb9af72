"""The inner loop: optimization on one batch, differentiable in all its inputs.

`_scan` runs the steps. The public functions differ in what they return: the last
parameters, the parameters of every step, or the state that the next segment needs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._autodiff.finite import opaque
from metajax._autodiff.optimizers import Offers, served
from metajax._pytrees.constant import completed, learnt, unlearnt
from metajax._pytrees.keyed import at_step
from metajax._pytrees.packing import Packed, packing
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.gradients import exact
from metajax.ops.forms import JOINED_FROM, traced_for
from metajax.storing import Stored, recomputed
from metajax.types import Array, Batch, GradTransform, Padded, Params, unpadded

LossFn = Callable[[Params, Batch], Array]
Adapt = Callable[[Params, Batch], Params]
View = Callable[[Any, Array], Any]


def whole(batch: Batch, step: Array) -> Batch:
    """A `view` for `inner_loop`: every step sees the whole batch."""
    return batch


def inner_loop(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
) -> Adapt:
    """Builds `adapt(params, batch) -> params`: `steps` optimizer steps on one batch.

    With the optimizer's update u and state s,

      θ_{k+1}, s_{k+1} = θ_k + u(∇L(θ_k, batch), s_k, θ_k),    k = 0, ..., steps - 1

    The result can be differentiated with respect to the parameters, the batch, and
    whatever `loss_fn` and `optimizer` close over (a learned learning rate). Only θ_k
    and s_k are stored of each step, which the backward pass recomputes; `kept` and
    `offloaded` change that.

    Args:
      loss_fn: `loss_fn(params, batch) -> scalar`, any pure function of two pytrees.
      optimizer: any optax optimizer that can be differentiated. Its update receives
        whichever it accepts of `value` and `grad`, this step's loss and gradient;
        `value_fn` and `grad_fn`, both as functions of the parameters; and `obj_fn`, the
        loss for optimizers that differentiate it themselves. Where the derivative of an
        operation in the update is infinite (many updates take a square root, which is 0
        at a gradient of zero), it counts as 0.
      steps: the number of steps, at least 0.
      grad: how the inner gradient is differentiated: `exact`, `reverse`, `mixed` or
        `first_order`, in `kept` or `offloaded` to change what is stored of each step.
      view: `view(batch, k) -> batch`, the part of the batch that step k sees, such as
        `mini_batches`; the whole batch by default.

    Returns:
      A pure function of one task: `vmap` it over tasks.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `optimizer` needs other arguments (per-example gradients) or changes the
        structure of its state; from its derivative, if `optimizer` has none (a line
        search, a singular value decomposition).

    >>> def loss(w, batch):
    ...     return jnp.mean((w * batch.inputs - batch.targets) ** 2)
    >>> batch = Batch(jnp.array([1.0, 2.0]), jnp.array([3.0, 6.0]))
    >>> adapt = inner_loop(loss, optax.sgd(0.1), steps=2)
    >>> print(f"{adapt(0.0, batch):.2f}, {jax.grad(adapt)(0.0, batch):.2f}")
    2.25, 0.25

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 2.2.
    """
    run = _scan(loss_fn, optimizer, steps, grad, view, every=lambda params: None)

    def adapt(params: Params, batch: Batch) -> Params:
        rest, numbers = unlearnt(params), jnp.arange(steps)
        (last, _), _ = run(_start(optimizer, params), numbers, rest, batch)
        return completed(last, rest)

    return adapt


def inner_trajectory(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
) -> Adapt:
    """`inner_loop` that returns all of θ_0, θ_1, ..., θ_steps.

    Args:
      loss_fn: see `inner_loop`.
      optimizer: see `inner_loop`.
      steps: see `inner_loop`.
      grad: see `inner_loop`.
      view: see `inner_loop`.

    Returns:
      `trajectory(params, batch) -> params` with a leading axis of `steps + 1` on every
      leaf.

    Raises:
      InputError: if `steps` is not a whole number of at least 0.

    >>> def loss(w, batch):
    ...     return jnp.mean((w * batch.inputs - batch.targets) ** 2)
    >>> batch = Batch(jnp.array([1.0, 2.0]), jnp.array([3.0, 6.0]))
    >>> inner_trajectory(loss, optax.sgd(0.1), steps=2)(0.0, batch).tolist()
    [0.0, 1.5, 2.25]
    """
    run = _scan(loss_fn, optimizer, steps, grad, view, every=lambda params: params)

    def trajectory(params: Params, batch: Batch) -> Params:
        rest = unlearnt(params)
        numbers = jnp.arange(steps)
        (last, _), before = run(_start(optimizer, params), numbers, rest, batch)
        each = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), before, last)
        return completed(
            each, jax.tree.map(lambda x: jnp.stack([x] * (steps + 1)), rest)
        )

    return trajectory


class InnerState(NamedTuple):
    """Everything that an inner loop carries from one step to the next.

    Attributes:
      params: the parameters θ_k.
      opt_state: the inner optimizer's state s_k.
      step: k, the number of steps taken, `int32[]`.
    """

    params: Params
    opt_state: optax.OptState
    step: Array


class InnerSegment(NamedTuple):
    """Some steps of an inner loop, which can continue another segment.

    Attributes:
      init: `init(params) -> InnerState`, before the first step.
      run: `run(state, batch) -> InnerState`, after `steps` more steps.
    """

    init: Callable[[Params], InnerState]
    run: Callable[[InnerState, Batch], InnerState]


def inner_segment(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
) -> InnerSegment:
    """`inner_loop` that keeps the optimizer's state: one segment of a longer loop.

    Successive segments, on one batch or on a new batch each, make one inner loop. With
    `jax.lax.stop_gradient(state)` between them, differentiation is truncated
    backpropagation, and costs as much as for one segment.

    Args:
      loss_fn: see `inner_loop`.
      optimizer: see `inner_loop`.
      steps: the number of steps of one segment.
      grad: see `inner_loop`.
      view: see `inner_loop`; k counts on from segment to segment.

    Returns:
      An `InnerSegment`.

    Raises:
      InputError: see `inner_loop`.

    >>> def loss(w, batch):
    ...     return jnp.mean((w * batch.inputs - batch.targets) ** 2)
    >>> batch = Batch(jnp.array([1.0, 2.0]), jnp.array([3.0, 6.0]))
    >>> segment = inner_segment(loss, optax.sgd(0.1, momentum=0.9), steps=1)
    >>> state = segment.init(0.0)
    >>> for _ in range(2):
    ...     state = segment.run(jax.lax.stop_gradient(state), batch)
    >>> print(f"{state.params:.2f} after {state.step} steps")
    3.60 after 2 steps

    Source: Metz et al., "Understanding and Correcting Pathologies in the Training of
    Learned Optimizers", ICML 2019, on the bias of truncation.
    """
    run = _scan(loss_fn, optimizer, steps, grad, view, every=lambda params: None)

    def init(params: Params) -> InnerState:
        first, state = _start(optimizer, params)
        rest = unlearnt(params)
        return InnerState(completed(first, rest), state, jnp.zeros((), jnp.int32))

    def advance(state: InnerState, batch: Batch) -> InnerState:
        rest, carried = unlearnt(state.params), (learnt(state.params), state.opt_state)
        numbers = state.step + jnp.arange(steps, dtype=state.step.dtype)
        (last, opt_state), _ = run(carried, numbers, rest, batch)
        return InnerState(completed(last, rest), opt_state, state.step + steps)

    return InnerSegment(init, advance)


def mini_batches(size: int) -> View:
    """Step k sees `size` examples, evenly spaced over the batch from example k on.

    Since episodes are grouped by class, each mini-batch is as balanced as possible, and
    successive ones cover the whole batch.

    Args:
      size: examples per step; a smaller batch is used whole.

    Returns:
      A `view` for `inner_loop`.

    Raises:
      InputError: if `size` is not a whole number of at least 1.

    >>> view = mini_batches(2)
    >>> batch = Batch(jnp.arange(6.0), jnp.arange(6))
    >>> [view(batch, k).targets.tolist() for k in range(3)]
    [[0, 3], [1, 4], [2, 5]]

    Source: Nichol et al., "On First-Order Meta-Learning Algorithms", 2018, section 6.
    """
    check_count("size", size, least=1)

    def view(batch: Batch, step: Array) -> Batch:
        examples = jax.tree.leaves(batch)[0].shape[0]
        order, count = jnp.arange(examples), examples
        if (present := unpadded(batch.targets)[1]) is not None:
            # Steps use only the examples that are present, so those come first.
            order, count = jnp.argsort(~present), jnp.sum(present)
        places = jnp.arange(min(size, examples))
        rows = order[(step + count // jnp.minimum(size, count) * places) % count]
        return _only(jax.tree.map(lambda x: x[rows], batch), places < count)

    return view


def _only(batch: Batch, rows: Array) -> Batch:
    """Marks only those rows of a padded batch as present."""

    def only(side: Any) -> Any:
        return side._replace(present=side.present & rows) if _is_padded(side) else side

    return jax.tree.map(only, batch, is_leaf=_is_padded)


def _is_padded(node: Any) -> bool:
    return isinstance(node, Padded)


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    *,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam with a bounded derivative: `optax.adam` with `eps_root > 0`.

      u = -α m̂ / (√(v̂ + eps_root) + eps)

    If a gradient has always been zero (a dead ReLU), the derivative of u with respect
    to it is -α / (√eps_root + eps): -10⁴ α here, -10⁸ α in `optax.adam`.

    Args:
      learning_rate: α.
      b1: decay of the first moment m.
      b2: decay of the second moment v.
      eps: constant added outside the root.
      eps_root: constant added inside the root.

    Returns:
      An optax optimizer.

    Source: Kingma & Ba, "Adam", ICLR 2015; `optax.adam` describes `eps_root`.
    """
    return optax.adam(learning_rate, b1, b2, eps=eps, eps_root=eps_root)


def _loss_of_learnt(loss_fn: LossFn) -> LossFn:
    """The loss as a function of the learnt parameters and (the rest, batch)."""

    def loss(part: Params, seen: tuple[Params, Batch]) -> Array:
        rest, batch = seen
        return loss_fn(completed(part, rest), batch)

    return loss


def _view_with_rest(view: View) -> View:
    """The view as a function of (the rest, batch), with random keys for each step."""

    def seen(both: tuple[Params, Batch], step: Array) -> tuple[Params, Batch]:
        rest, batch = both
        return rest, at_step(view(batch, step), step)

    return seen


def _start(optimizer: optax.GradientTransformation, params: Params) -> tuple:
    """The learnt parameters and the optimizer's first state."""
    part = jax.tree.map(jnp.asarray, learnt(params))
    return part, optimizer.init(part)


def _scan(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    steps: int,
    grad: GradTransform,
    view: View,
    *,
    every: Callable[[Params], Params | None],
) -> Callable[[tuple, Array, Params, Batch], tuple[tuple, Params]]:
    """Builds `run((params, state), numbers, rest, batch)`, a step for each number.

    It returns the last parameters and state, and `every(params)` stacked over steps.
    """
    check_count("steps", steps, least=0)
    if not hasattr(optimizer, "update"):
        raise InputError(
            f"optimizer must be an optax optimizer, got {type(optimizer).__name__}; "
            "use metajax.learned_maml for one that is meta-learned"
        )
    stored = grad if isinstance(grad, Stored) else recomputed(grad)
    # Constants among the parameters are not carried, so no optimizer moves them and no
    # step stores them.
    loss_fn, view = _loss_of_learnt(loss_fn), _view_with_rest(view)
    gradient, offer = grad(loss_fn), _offered(loss_fn, grad)
    update = served(optimizer)

    def run(carried: tuple, numbers: Array, rest: Params, batch: Batch):
        pack, unpack = packing(carried, JOINED_FROM[traced_for()])

        def step(carry: Packed, k: Array) -> tuple[Packed, Params | None]:
            params, state = unpack(carry)
            # The view is inside the step, so that it is recomputed and not stored.
            seen = view((rest, batch), k)
            grads = gradient(params, seen)
            offers = offer(gradient, params, seen)
            updates, state = update(grads, state, params, offers)
            return pack((optax.apply_updates(params, updates), state)), every(params)

        # A scan compiles one step, however many run.
        last, each = jax.lax.scan(stored.remat(step), pack(carried), numbers)
        return unpack(last), each

    return run


def _offered(
    loss_fn: LossFn, grad: GradTransform
) -> Callable[[Callable[..., Params], Params, Batch], Offers]:
    """Builds `offer(gradient, ...)`, the further arguments that an update can take."""
    # Since L(θ, batch) = d/ds sL(θ, batch), `grad` gives the value too, so that it is
    # differentiated in the same way as the gradient (exact, first order, ...).
    scaled = grad(lambda scale, params, seen: scale * loss_fn(params, seen))

    def offer(gradient: Callable[..., Params], params: Params, seen: Batch) -> Offers:
        loss = jax.eval_shape(loss_fn, params, seen)

        def value(params: Params) -> Array:
            return scaled(jnp.ones((), loss.dtype), params, seen)

        functions = {
            "value_fn": value,
            "grad_fn": lambda params, *step: gradient(params, seen),
            # Without `grad`: the optimizer differentiates it itself, for the Hessian.
            "obj_fn": lambda params: loss_fn(params, seen),
        }
        # `finite` must look for poles in the optimizer only, not in the loss.
        functions = {name: opaque(function) for name, function in functions.items()}
        return Offers(loss, lambda: value(params), functions)

    return offer
