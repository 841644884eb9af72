"""Times the forms of a program's operations on the device that will run it.

No table can tell everything: on a GPU, it depends on the chip whether the library's
grouped convolutions or products over patches are faster.
"""

import contextlib
import os
import re
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.ops.estimate import equations
from metajax.ops.forms import Backend, candidates, choose
from metajax.ops.tuned import BY_TABLE, SITES, Site, Tuned
from metajax.types import Array, PyTree

FOLDER = "metajax_forms"
TIE = 1.05  # another form must be faster than the table's by more than this
TURNS, TURN = 5, 0.02  # how often a form is timed, and the seconds of each turn


class Trial(NamedTuple):
    """A form of an operation to time.

    Attributes:
      site: the operation.
      form: the form's name, or "table" for the table's.
      run: `run(*arrays) -> array`, the operation in that form.
      arrays: its abstract arguments.
    """

    site: Site
    form: str
    run: Callable[..., Array]
    arrays: list[jax.ShapeDtypeStruct]


Timer = Callable[[Trial], float]


def seconds(trial: Trial) -> float:
    """Times a form on the default device, as the median of a few turns.

    Args:
      trial: the form.

    Returns:
      Seconds per run, in a loop on the device.
    """
    result = jax.eval_shape(trial.run, *trial.arrays)

    def run_many(count: Array, *arrays: Array) -> Array:
        def once(_: Any, carry: Any) -> Any:
            # Without the barrier, XLA would compute the result only once.
            arrays, _ = jax.lax.optimization_barrier(carry)
            return arrays, trial.run(*arrays)

        start = arrays, jnp.zeros(result.shape, result.dtype)
        return jax.lax.fori_loop(0, count, once, start)[1]

    count = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = jax.jit(run_many).lower(count, *trial.arrays).compile()
    arrays = [_normal(x) for x in trial.arrays]

    def elapsed(count: int) -> float:
        times = jnp.asarray(count, jnp.int32)
        start = time.perf_counter()
        jax.block_until_ready(compiled(times, *arrays))
        return (time.perf_counter() - start) / count

    elapsed(1)  # the first run also loads the program
    count = max(1, round(TURN / elapsed(1)))
    count = max(1, round(TURN / elapsed(count)))  # a single run is mostly overhead
    return statistics.median(elapsed(count) for _ in range(TURNS))


def tune(
    function: Callable,
    *args: PyTree,
    folder: Path | None = None,
    timer: Timer = seconds,
) -> Tuned:
    """Times the forms of every operation in a function, and chooses the fastest.

    Forms that do not compile or do not fit in memory are left out.

    Args:
      function: a function of arrays, which is traced but not run.
      *args: its arguments, arrays or abstract ones.
      folder: a folder that stores earlier choices by chip and version of JAX; None to
        time all forms.
      timer: the function that times a form.

    Returns:
      The forms, for `metajax.ops.taking`.

    >>> import metajax as mj
    >>> tuned = tune(mj.ops.max_pool, jnp.ones((1, 4, 4, 1)), timer=lambda trial: 1.0)
    >>> tuned.forms
    (('max_pool, ((1, 4, 4, 1),), float32', 'table'),)
    """
    stored = _Stored(folder)
    forms: dict[str, str] = {}
    for key, trials in trials_of(function, *args).items():
        names = {trial.form for trial in trials}
        if (form := stored.forms.get(key)) not in names:
            form = _fastest(trials, timer)
            stored.add(key, form)
        forms[key] = form
    return Tuned.from_forms(forms)


def trials_of(function: Callable, *args: PyTree) -> dict[str, list[Trial]]:
    """The forms of each operation in a function that has several.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.

    Returns:
      The trials by the key of their site, the table's form first.
    """
    trials: dict[str, list[Trial]] = {}
    for equation, _ in equations(function, *args):
        if equation.primitive not in SITES:
            continue
        arrays = [x.aval for x in equation.invars]
        site = SITES[equation.primitive](*arrays, **equation.params)
        if site.key not in trials:
            trials[site.key] = _trials(equation, site)
    return {key: several for key, several in trials.items() if len(several) > 1}


def user_folder() -> Path:
    """The default folder of stored choices, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / FOLDER


class _Stored:
    """Stored choices of forms for this chip and this version of JAX.

    Args:
      folder: the folder of all choices; None to store none.
    """

    def __init__(self, folder: Path | None):
        self._path = None if folder is None else folder / _file_name()
        self.forms: dict[str, str] = {}
        if self._path is not None:
            # A damaged file counts as missing, and is written anew.
            with contextlib.suppress(OSError, InputError):
                self.forms = dict(Tuned.from_text(self._path.read_bytes()).forms)

    def add(self, key: str, form: str) -> None:
        """Stores a choice; if the disk is full, only for this run."""
        self.forms[key] = form
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, Tuned.from_forms(self.forms).as_text())


def _trials(equation: Any, site: Site) -> list[Trial]:
    names = candidates(site.operation, site.sizes, site.dtype)
    if not names:
        return []
    table = choose(site.operation, _backend(), site.sizes, site.dtype)
    others = [name for name in names if name != table]

    def run_as(form: str) -> Callable[..., Array]:
        params = equation.params | {"tuned": Tuned.from_forms({site.key: form})}
        return lambda *arrays: equation.primitive.bind(*arrays, **params)

    arrays = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in equation.invars]
    return [Trial(site, form, run_as(form), arrays) for form in (BY_TABLE, *others)]


def _fastest(trials: list[Trial], timer: Timer) -> str:
    times: dict[str, float] = {}
    for trial in trials:
        # Compilers refuse a form with many kinds of errors; another form is taken.
        with contextlib.suppress(Exception):
            times[trial.form] = timer(trial)
    best = min(times, key=times.__getitem__, default=BY_TABLE)
    tie = BY_TABLE in times and times[BY_TABLE] <= TIE * times[best]
    return BY_TABLE if tie else best


def _backend() -> Backend:
    """The backend whose forms the default device takes."""
    name = jax.default_backend()
    return name if name in ("cpu", "tpu") else "gpu"  # pyright: ignore


def _normal(like: jax.ShapeDtypeStruct) -> Array:
    """Normal numbers, of which a few are repeated, since the host makes them."""
    few = np.random.default_rng(0).standard_normal(2**16, np.float32)
    return jnp.asarray(np.resize(few, like.shape), like.dtype)


def _file_name() -> str:
    device = re.sub(r"\W+", "-", jax.devices()[0].device_kind)
    return f"{device}-jax{jax.__version__}-jaxlib{version('jaxlib')}.json"
