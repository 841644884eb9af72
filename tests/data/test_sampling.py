"""A sampler of one's own: what it fetches on the host, and who forwards that."""

import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data import (
    StagedSampler,
    augmented,
    keyed,
    sampling,
    shuffle_labels,
    varied,
)
from metajax.data.checking import check_tasks
from metajax.data.sampling import Fetching, fetch_on_host
from metajax.data.staging import staged
from metajax.training.checkpoints import Checkpoints
from metajax.types import Batch, Episode
from tests.helpers import KEY, relative

SETTINGS = dict(steps=12, tasks=4, steps_per_call=5, checkpoint_every=4)
WAYS, SHOTS, QUERIES = 3, 2, 1


def simulate(seeds):
    """Trajectories of a pendulum, of NumPy alone: `float32[tasks, ways, n, 6]`."""
    seen = []
    for seed in np.asarray(seeds).reshape(-1):
        random = np.random.default_rng(int(seed))
        angle, speed = random.normal(size=(2, SHOTS + QUERIES))
        path = []
        for _ in range(6):
            speed = speed - 0.3 * np.sin(angle)
            angle = angle + 0.3 * speed
            path.append(angle)
        seen.append(np.stack(path, 1))
    return np.stack(seen).reshape(*np.shape(seeds), SHOTS + QUERIES, 6)


def as_episode(paths):
    def batch(paths):
        labels = jnp.repeat(jnp.arange(WAYS, dtype=jnp.int32), paths.shape[1])
        return Batch(paths.reshape(-1, 6), labels)

    return Episode(batch(paths[:, :SHOTS]), batch(paths[:, SHOTS:]))


class Pendulums(StagedSampler):
    """Episodes of simulated classes; it is no pytree."""

    def __init__(self, fetching=None):
        self.calls, self._fetching = [], fetching or Fetching()

    def draw(self, key, tasks):
        return jax.random.randint(key, (tasks, WAYS), 0, 2**30)

    def fetch(self, drawn):
        assert type(drawn) is np.ndarray
        self.calls.append(len(drawn))
        return simulate(drawn)  # float64: it becomes JAX's default

    def make_task(self, paths):
        return as_episode(paths)

    @property
    def fetching(self):
        return self._fetching


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Arranged(StagedSampler):
    """One with arrays of its own, and a declared form: it can run inside a jit."""

    scale: jax.Array
    name: str = field(default="", metadata={"static": True})

    def draw(self, key, tasks):
        return jax.random.randint(key, (tasks, WAYS), 0, 2**30)

    def fetch(self, drawn):
        return simulate(drawn)

    def make(self, fetched):
        return jax.vmap(as_episode)(fetched * self.scale)

    def fetched_like(self, tasks):
        shape = tasks, WAYS, SHOTS + QUERIES, 6
        return jax.ShapeDtypeStruct(shape, jnp.float32)


def by_callback(key, tasks):
    """The same, as a function."""
    seeds = jax.random.randint(key, (tasks, WAYS), 0, 2**30)
    like = jax.ShapeDtypeStruct((tasks, WAYS, SHOTS + QUERIES, 6), jnp.float32)

    def fetch(x):
        return simulate(x).astype(np.float32)

    paths = jax.pure_callback(fetch, like, seeds, vmap_method="sequential")
    return jax.vmap(as_episode)(paths)


def linear():
    def apply(params, x):
        return mj.types.unpadded(x)[0] @ params

    return mj.Model(lambda key: 0.1 * jax.random.normal(key, (6, WAYS)), apply)


LEARNER = mj.maml(linear(), mj.cross_entropy, optax.sgd(0.1), 1)
WRAPS = {
    "alone": lambda episodes: episodes,
    "wrapped": lambda episodes: keyed(
        varied(augmented(episodes, shuffle_labels(WAYS)), (2, 3), (1, 2))
    ),
    "augmented-last": lambda episodes: keyed(
        augmented(varied(episodes, (3, 3), (1, 2)), lambda key, episode: episode)
    ),
}


def same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    a, b = ([jax.random.key_data(x) if is_key(x) else x for x in y] for y in (a, b))
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def fit(episodes, **settings):
    return mj.fit(LEARNER, optax.sgd(0.1), episodes, **{**SETTINGS, **settings})


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_fetched_is_the_same_everywhere(wrap):
    made, function = (WRAPS[wrap](x) for x in (Pendulums(), by_callback))
    assert same(made(KEY, 3), function(KEY, 3))
    assert same(jax.jit(made, static_argnums=1)(KEY, 3), made(KEY, 3))
    keys = jax.random.split(KEY, 2)
    assert same(
        jax.vmap(lambda key: made(key, 2))(keys),
        jax.vmap(lambda key: function(key, 2))(keys),
    )


@pytest.mark.parametrize("wrap", WRAPS)
def test_fit_fetches_ahead_and_resumes(wrap, tmp_path):
    sampler = Pendulums()
    whole = fit(WRAPS[wrap](sampler))
    # Whole meta-batches for the dispatches, single tasks to look at.
    assert sampler.calls.count(4) >= 12 and set(sampler.calls) <= {1, 4}
    assert same(whole, fit(WRAPS[wrap](by_callback)))
    checkpoints, asked = Checkpoints(tmp_path), iter([False, False, True])
    with pytest.raises(mj.StoppedError):
        fit(
            WRAPS[wrap](Pendulums()),
            checkpoints=checkpoints,
            stop=lambda: next(asked),
        )
    assert same(fit(WRAPS[wrap](Pendulums()), checkpoints=checkpoints), whole)


@pytest.mark.parametrize("wrap", WRAPS)
def test_evaluation_fetches_each_task_once(wrap):
    sampler, meta = Pendulums(), LEARNER.init(KEY)
    scores = [
        mj.evaluate(
            LEARNER, meta, WRAPS[wrap](x), mj.accuracy, tasks=13, tasks_per_call=5
        )
        for x in (sampler, by_callback)
    ]
    assert same(scores[0].transductive, scores[1].transductive)
    assert sampler.calls[-3:] == [5, 5, 3]


@pytest.mark.parametrize("fetching", [Fetching(3), Fetching(2, workers=1)])
def test_threads_and_processes_fetch_the_same(fetching):
    wrapped = WRAPS["wrapped"](Pendulums(fetching))
    assert same(fit(wrapped), fit(WRAPS["wrapped"](by_callback)))


def test_two_devices_and_arrays_of_its_own(monkeypatch):
    monkeypatch.setattr("metajax.training.cutting.WORTH_BYTES", 1)
    sampler = keyed(augmented(Arranged(jnp.float32(2.0)), shuffle_labels(WAYS)))
    two, one = fit(sampler), fit(sampler, devices=1)
    assert len(two.step.devices()) == 2
    np.testing.assert_allclose(two.meta, one.meta, rtol=1e-5, atol=1e-6)
    # In a jit of the user's own, with the sampler as an argument.
    run = jax.jit(lambda sampler, key: sampler(key, 3))
    assert same(run(sampler, KEY), sampler(KEY, 3))


class Bare(StagedSampler):
    """Fetches whatever it is told to."""

    def __init__(self, fetch):
        self._fetch = fetch

    def draw(self, key, tasks):
        return jax.random.randint(key, (tasks, WAYS), 0, 2**30)

    def fetch(self, drawn):
        return self._fetch(drawn)

    def make_task(self, paths):
        return as_episode(paths)


def growing(drawn):
    n = SHOTS + QUERIES + (len(drawn) > 1)
    return np.zeros((len(drawn), WAYS, n, 6), np.float32)


def failing(drawn):
    if len(drawn) > 1:
        raise ValueError("the simulator\nended")
    return simulate(drawn)


BAD = {
    "one row": (lambda drawn: simulate(drawn)[:1][0], "leading axis of the 1 tasks"),
    "nothing": (lambda drawn: None, "leading axis"),
    "words": (lambda drawn: ["cat"], "arrays of numbers"),
    "another form": (growing, r"Bare must give meta-batches of one form.*\[4, 3, 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fetch_of_another_form_is_refused(name):
    fetch, match = BAD[name]
    with pytest.raises(mj.InputError, match=match) as caught:
        fit(Bare(fetch))
    assert "\n" not in str(caught.value)


def test_a_fetch_that_fails_is_named():
    with pytest.raises(OSError, match="meta-step 1 .ValueError: the simulator"):
        fit(Bare(failing))


def test_shapes_are_asked_for_where_they_cannot_be_learnt():
    @jax.tree_util.register_dataclass
    @dataclass(frozen=True, eq=False)
    class Unknown(StagedSampler):
        most: Any

        def draw(self, key, tasks):
            return jax.random.randint(key, (tasks, WAYS), 0, self.most)

        def fetch(self, drawn):
            return simulate(drawn)

        def make_task(self, paths):
            return as_episode(paths)

    sampler = Unknown(jnp.int32(1000))
    assert sampler(KEY, 2).query.inputs.shape == (2, 3, 6)
    with pytest.raises(mj.InputError, match=r"give it fetched_like\(tasks\)"):
        jax.jit(lambda sampler, key: sampler(key, 2))(sampler, KEY)


def test_keys_that_are_fetched_with_stay_keys():
    class Keys(StagedSampler):
        def fetch(self, drawn):
            assert is_key(drawn)
            return {"key": drawn, "bits": np.asarray(jax.random.key_data(drawn))}

        def make_task(self, fetched):
            x = jax.random.normal(fetched["key"], (4, 1))
            y = x + fetched["bits"].astype(jnp.float32).sum() / 2.0**32
            return Episode(Batch(x, y), Batch(x, y))

    fetched = fetch_on_host(Keys(), jax.random.split(KEY, 2))
    assert is_key(fetched["key"])
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    state = mj.fit(learner, optax.sgd(0.1), Keys(), **SETTINGS)
    assert int(state.step) == 12


def mean_learner():
    """Learns the mean of an array: its task is no `Episode`."""

    def loss(meta, task):
        error = jnp.mean((meta[None] - task["values"]) ** 2)
        return error, {"error": error}

    def adapt(meta, support):
        return meta

    def trajectory(meta, support):
        return meta[None]

    return mj.Learner(lambda key: jnp.zeros(3), adapt, adapt, loss, trajectory)


def values(key, tasks):
    noise = jax.random.normal(key, (tasks, 5, 3))
    return {"values": noise + jnp.arange(3.0)[None, None], "id": jnp.arange(tasks)}


class Values(StagedSampler):
    def draw(self, key, tasks):
        return jax.random.randint(key, (tasks,), 0, 2**30)

    def fetch(self, drawn):
        rows = [np.random.default_rng(int(x)).normal(size=(5, 3)) for x in drawn]
        return np.stack(rows)

    def make_task(self, fetched):
        return {
            "values": fetched + jnp.arange(3.0)[None],
            "id": jnp.zeros((), jnp.int32),
        }


def listed():
    rows = np.random.default_rng(0).normal(size=(5, 32, 5, 3)) + np.arange(3.0)
    return [{"values": x.astype(np.float32), "id": np.arange(32)} for x in rows]


@pytest.mark.parametrize("episodes", [values, Values(), listed()])
def test_tasks_of_any_kind_train(episodes, tmp_path):
    settings = dict(steps=40, tasks=32, steps_per_call=15)
    state = mj.fit(mean_learner(), optax.sgd(0.3), episodes, **settings)
    np.testing.assert_allclose(state.meta, [0.0, 1.0, 2.0], atol=0.2)
    if not isinstance(episodes, list):
        short = settings | dict(steps=20, checkpoints=Checkpoints(tmp_path))
        mj.fit(mean_learner(), optax.sgd(0.3), episodes, **short)
        short = short | dict(steps=40)
        resumed = mj.fit(mean_learner(), optax.sgd(0.3), episodes, **short)
        assert same(resumed, state)


def test_a_fit_keeps_no_learner_alive():
    learner = mean_learner()
    mj.fit(learner, optax.sgd(0.3), values, steps=2, tasks=4)
    loss = weakref.ref(learner.loss)
    del learner
    gc.collect()
    assert loss() is None


class Counted(StagedSampler):
    """No pytree, and nothing is fetched."""

    def make_task(self, key):
        noise = jax.random.normal(key, (5, 3))
        return {"values": noise, "id": jnp.zeros((), jnp.int32)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaled(StagedSampler):
    """A pytree whose number is an argument, and no array, of a program."""

    number: Any

    def make_task(self, key):
        return jax.random.normal(key) * float(self.number)


@jax.tree_util.register_static
class Unmoved(StagedSampler):
    """A static pytree."""

    def make_task(self, key):
        return jax.random.normal(key)


@jax.tree_util.register_static
class Static(Counted):
    """The same, as a static pytree."""


def test_tasks_are_made_in_a_program():
    size = sampling._make_in_a_program._cache_size()
    episodes = [mj.data.sinusoid(shots=3, queries=4) for _ in range(2)]
    made = [sampler(KEY, 2) for sampler in episodes]
    assert sampling._make_in_a_program._cache_size() == size + 1
    one_by_one = jax.vmap(episodes[0].make_task)(episodes[0].draw(KEY, 2))
    for tasks in made:
        assert relative(tasks, one_by_one) < 1e-6


@pytest.mark.parametrize("number", [2, 2.0, "2"])
def test_what_is_no_array_is_no_argument(number):
    whole = Scaled(number)(KEY, 3)
    assert whole.shape == (3,) and np.all(whole == 2 * Unmoved()(KEY, 3))


def test_a_static_sampler_is_not_kept():
    sampler = Unmoved()
    sampler(KEY, 2)
    gone = weakref.ref(sampler)
    del sampler
    gc.collect()
    assert gone() is None


def test_a_check_keeps_no_sampler_alive():
    def function(key, tasks):
        return values(key, tasks)

    gone = []
    for episodes in (Counted(), function, Static()):
        judge = mean_learner().loss
        check_tasks(judge, jnp.zeros(3), staged(episodes), 1)
        gone.append(weakref.ref(episodes))
    del episodes, function  # a function's name is a reference too
    gc.collect()
    assert [x() for x in gone] == [None, None, None]
