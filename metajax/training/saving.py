"""What of a run is saved: in the background, and before an error ends it."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager

import jax
import numpy as np

from metajax.data.opening import open_iterable
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError, NonFiniteError
from metajax.training.background import in_background
from metajax.training.processes import FirstWrites, on_host
from metajax.training.state import TrainState

Save = Callable[[TrainState], None]
Runs = Generator[tuple[TrainState, Mapping[str, np.ndarray]]]


def saved_on_error(runs: Runs, save: Save) -> Runs:
    """The dispatches; where data or numbers fail, the last good state is saved.

    A dispatch that fails half-way has taken the arrays of the state before it, and
    nothing is saved. The dispatches are closed in the end.
    """
    state = None
    with closing(runs):
        while True:
            try:
                state, metrics = next(runs)
            except StopIteration:
                return
            except NonFiniteError as error:
                save(error.state)
                raise
            except Exception:  # of the data, of whatever kind
                # Before the first dispatch there is nothing new.
                if state is not None and not _is_donated(state):
                    save(state)
                raise
            yield state, metrics


def _is_donated(state: TrainState) -> bool:
    return any(x.is_deleted() for x in jax.tree.leaves(state))


def resumed(
    checkpoints: FirstWrites | None, state: TrainState, steps: int
) -> tuple[TrainState, str | None]:
    """The state to begin from, and the position of its iterator, if it has one."""
    restored = None if checkpoints is None else checkpoints.restore(state)
    if checkpoints is None or not restored:
        return state, None
    if (done := int(restored.step)) > steps:
        raise InputError(
            f"the checkpoint is at step {done}, past the {steps} asked "
            "for; ask for more steps or use another folder"
        )
    return restored, checkpoints.position(done)


@contextmanager
def saving(checkpoints: FirstWrites | None, sampler: StagedSampler) -> Iterator[Save]:
    """A function that saves while the next dispatch runs; the last is waited for."""
    if checkpoints is None:
        yield lambda state: None
        return
    iterable = open_iterable(sampler)

    def write(saved: tuple[TrainState, str | None]) -> None:
        checkpoints.save(*saved)

    def position(state: TrainState) -> str | None:
        return None if iterable is None else iterable.position(int(state.step))

    with in_background(write) as save:
        # A copy: the next dispatch takes the arrays.
        yield lambda state: save((on_host(state), position(state)))
