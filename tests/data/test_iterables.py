"""Iterables of meta-batches in the place of a sampler, and where they can go on."""

import itertools
import threading

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data import augmented, from_step, keyed, sinusoid, varied
from metajax.data.opening import opened
from metajax.data.staging import staged
from metajax.training.checkpoints import Checkpoints
from metajax.types import Batch, Episode
from tests.helpers import KEY, relative

pytestmark = pytest.mark.usefixtures("kept_programs")

LEARNER = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 1)
SETTINGS = dict(steps=12, tasks=4, steps_per_call=5, checkpoint_every=4)


def sine(index, tasks=4, dtype=np.float32):
    """The meta-batch of a number."""
    random = np.random.default_rng(index)
    x = random.uniform(-5, 5, (tasks, 10, 1)).astype(dtype)
    y = (random.uniform(1, 5, (tasks, 1, 1)) * np.sin(x)).astype(dtype)
    return Episode(Batch(x[:, :5], y[:, :5]), Batch(x[:, 5:], y[:, 5:]))


def fit(episodes, checkpoints=None, **changes):
    settings = SETTINGS | changes
    return mj.fit(
        LEARNER, optax.sgd(0.1), episodes, checkpoints=checkpoints, **settings
    )


def same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def stopping(calls):
    asked = itertools.count()
    return lambda: next(asked) == calls


class Tensor:
    """A tensor on the host, or one that only its own library can read."""

    def __init__(self, values, error=None):
        self.values, self.error = values, error

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return self.values


class Loader:
    """What a torch DataLoader of a data set of Episodes is: stacked tensors, epochs."""

    def __init__(self, batches, order=lambda batches: batches):
        self.batches, self.order, self.epochs = batches, order, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.epochs += 1
        for batch in self.order(self.batches):
            yield jax.tree.map(lambda x: Tensor(x.astype(np.float64)), batch)


def grain_dataset():
    """Shuffled, of two epochs and a bit."""
    source = grain.MapDataset.source(range(5)).shuffle(3).repeat(4).map(sine)
    return source.to_iter_dataset(grain.ReadOptions(num_threads=2))


class Sines(grain.transforms.Map):
    def map(self, index):
        return sine(index)


def grain_loader():
    sampler = grain.samplers.IndexSampler(
        5, shuffle=True, seed=3, num_epochs=4, shard_options=grain.sharding.NoSharding()
    )
    return grain.DataLoader(
        data_source=range(5), sampler=sampler, operations=[Sines()], worker_count=0
    )


def test_the_meta_batches_of_a_list_are_trained_on_in_turn():
    batches = [sine(i) for i in range(5)]
    step = jax.jit(mj.train_step(LEARNER, optax.sgd(0.1)))
    state = mj.init_state(
        LEARNER, optax.sgd(0.1), jax.random.split(jax.random.key(0))[0]
    )
    for i in range(12):
        state, _ = step(state, jax.tree.map(jnp.asarray, batches[i % 5]))
    assert relative(fit(batches).meta, state.meta) < 1e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda batches: iter(batches * 3),
        lambda batches: (x for x in batches * 3),
        lambda batches: itertools.cycle(batches),
        lambda batches: Loader(batches),
        lambda batches: [jax.tree.map(jnp.asarray, x) for x in batches],
        lambda batches: from_step(lambda done: (batches * 3)[done:]),
    ],
    ids=["iterator", "generator", "cycle", "loader", "device arrays", "from_step"],
)
def test_any_iterable_is_read(make):
    batches = [sine(i) for i in range(5)]
    assert same(fit(make(batches)), fit(batches))
    assert not [t for t in threading.enumerate() if t.name.startswith("metajax-feed")]


def test_a_loader_is_asked_for_each_epoch():
    loader = Loader([sine(i) for i in range(5)])
    fit(loader)
    assert loader.epochs == 3


def test_one_meta_batch_on_purpose():
    batch = sine(0)
    assert same(fit(itertools.repeat(batch)), fit([batch]))


def reusing(batches):
    """An iterator that fills the same memory again and again."""
    kept = jax.tree.map(np.empty_like, batches[0])
    for batch in batches:
        jax.tree.map(np.copyto, kept, batch)
        yield kept


def test_what_an_iterator_fills_again_was_copied():
    batches = [sine(i) for i in range(12)]
    assert same(fit(reusing(batches)), fit(batches))
    meta = LEARNER.init(KEY)
    scores = [
        mj.evaluate(LEARNER, meta, x, mj.mse, tasks=46, tasks_per_call=7)
        for x in (reusing(batches), batches)
    ]
    assert same(*(x.transductive for x in scores))


def test_doubles_stay_doubles(float64):
    batches = [sine(i, dtype=np.float64) for i in range(5)]
    learner = mj.maml(
        mj.mlp(hidden=(8,), dtype=jnp.float64), mj.mse, optax.sgd(0.01), 1
    )
    state = mj.fit(learner, optax.sgd(0.1), batches, **SETTINGS)
    assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(state.meta))


@pytest.mark.parametrize("make", [grain_dataset, grain_loader])
@pytest.mark.parametrize("begun", [lambda x: x, iter], ids=["iterable", "iterator"])
def test_a_grain_pipeline_resumes_bit_for_bit(make, begun, tmp_path):
    whole = fit(begun(make()))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    # Those of the next dispatch are read by then, and grain reads ahead of that.
    with pytest.raises(mj.StoppedError, match="after 5 of 12"):
        fit(begun(make()), checkpoints, stop=stopping(2))
    assert same(fit(begun(make()), checkpoints), whole)
    assert not same(fit(begun(make()), seed=1), whole)


def test_a_run_that_was_killed_resumes_from_its_checkpoint(tmp_path):
    whole = fit(grain_dataset())
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    class Killed:
        def start(self, state): ...

        def record(self, state, metrics):
            if int(state.step) > 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(grain_dataset(), checkpoints, observers=[Killed()])
    assert checkpoints.steps() == [4, 8]
    assert same(fit(grain_dataset(), checkpoints), whole)


def test_a_step_that_is_not_finite_keeps_the_place_of_the_data(tmp_path):
    def spoilt(at):
        def batch(index):
            made = sine(index % 5)
            bad = np.float32(np.inf if index == at else 1)
            return replaced(made, made.query.targets * bad)

        return grain.MapDataset.source(range(20)).map(batch).to_iter_dataset()

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(mj.NonFiniteError, match="meta-step 7"):
        fit(spoilt(6), checkpoints)
    assert checkpoints.steps() == [4, 6]
    assert same(fit(spoilt(99), checkpoints), fit(spoilt(99)))


def from_number(done):
    for step in itertools.count(done):
        yield sine(step)


def test_from_step_resumes_bit_for_bit(tmp_path):
    whole, checkpoints = fit(from_step(from_number)), Checkpoints(tmp_path / "c")
    with pytest.raises(mj.StoppedError):
        fit(from_step(from_number), checkpoints, stop=stopping(2))
    assert same(fit(from_step(from_number), checkpoints), whole)


def test_a_list_in_one_order_resumes_in_any_epoch(tmp_path):
    """As `from_step` says: twelve meta-steps are two epochs and a half of five."""
    batches = [*map(sine, range(5))]

    def begin(done):
        return itertools.islice(batches, done % len(batches), None)

    whole, checkpoints = fit(from_step(begin)), Checkpoints(tmp_path / "c")
    assert same(whole, fit(batches))
    with pytest.raises(mj.StoppedError):
        fit(from_step(begin), checkpoints, stop=stopping(3))
    assert checkpoints.steps()[-1] > len(batches)
    assert same(fit(from_step(begin), checkpoints), whole)


@pytest.mark.parametrize(
    "make", [lambda: from_number(0), lambda: [sine(0)], lambda: Loader([sine(0)])]
)
def test_what_cannot_go_on_is_not_begun_again(make, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(mj.StoppedError):
        fit(make(), checkpoints, stop=stopping(2))
    with pytest.raises(mj.InputError, match="resumes at meta-step 5.*from_step"):
        fit(make(), checkpoints)
    assert checkpoints.steps() == [4, 5]
    done = fit(make(), checkpoints, steps=5)  # nothing is left to read
    assert int(done.step) == 5


def test_a_state_of_other_data_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(mj.StoppedError):
        fit(grain_dataset(), checkpoints, stop=stopping(2))
    with pytest.raises(mj.InputError, match="does not take the state"):
        fit(grain_loader(), checkpoints)


def test_a_damaged_position_is_not_used(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    whole = fit(grain_dataset())
    with pytest.raises(mj.StoppedError):
        fit(grain_dataset(), checkpoints, stop=stopping(2))
    manifest = tmp_path / "checkpoints" / "5" / "manifest" / "metadata"
    text = manifest.read_text()
    assert "next_index" in text
    manifest.write_text(text.replace(": 5", ": 6"))
    with pytest.warns(UserWarning, match="checkpoint 5 .* damaged"):
        assert same(fit(grain_dataset(), checkpoints), whole)


class Plain:
    """A checkpointer that knows nothing of positions."""

    def __init__(self):
        self.state = None

    def save(self, state):
        self.state = state

    def restore(self, like):
        return self.state and jax.tree.map(jnp.asarray, self.state)


def test_checkpoints_without_a_position_do_not_begin_the_data_again():
    checkpoints = Plain()
    with pytest.raises(mj.StoppedError):
        fit(grain_dataset(), checkpoints, stop=stopping(2))
    with pytest.raises(mj.InputError, match="cannot go on"):
        fit(grain_dataset(), checkpoints)


def test_an_iterator_that_ends_is_told_and_what_was_learnt_is_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(mj.InputError, match="generator ended after 7 meta-steps"):
        fit((sine(i) for i in range(7)), checkpoints)
    assert checkpoints.steps() == [4, 7]
    assert same(fit(from_step(from_number), checkpoints), fit(from_step(from_number)))


def test_an_iterator_that_fails_is_told_and_what_was_learnt_is_saved(tmp_path):
    def failing():
        yield from map(sine, range(6))
        raise ValueError("a torn record")

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(OSError, match="meta-step 7 .ValueError: a torn record"):
        fit(failing(), checkpoints)
    assert checkpoints.steps() == [4, 6]


def replaced(batch, leaf):
    return batch._replace(query=batch.query._replace(targets=leaf))


BAD = {
    "a short last batch": (sine(0, tasks=3), r"float32\[3, .*drop_last"),
    "other numbers of tasks": (
        replaced(sine(0), sine(0, tasks=3).query.targets),
        "must have shape",
    ),
    "another dtype": (
        replaced(sine(0), np.ones((4, 5, 1), np.int32)),
        r"targets int32\[4, 5, 1\] for meta-step 7",
    ),
    "another structure": (
        replaced(sine(0), {"y": sine(0).query.targets}),
        "for meta-step 7",
    ),
    "a tuple": (tuple(sine(0)), "of one form.*for meta-step 7"),
    "a task alone": (jax.tree.map(lambda x: x[0], sine(0)), r"float32\[5, 1\]"),
    "words": (replaced(sine(0), np.full((4, 5, 1), "cat")), "arrays of numbers"),
    "objects": (replaced(sine(0), np.full((4, 5, 1), None)), "arrays of numbers"),
    "a tensor elsewhere": (
        replaced(sine(0), Tensor(None, TypeError("can't convert cuda:0"))),
        r"got Tensor \(can't convert cuda:0\)",
    ),
    "nothing": (None, "must be a meta-batch.*got NoneType"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_meta_batch_of_another_form_is_told(name, tmp_path):
    item, match = BAD[name]
    batches = [*map(sine, range(6)), item]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(mj.InputError, match=match) as caught:
        fit(batches, checkpoints)
    assert "\n" not in str(caught.value)
    assert checkpoints.steps() == [4, 6]


def generator_function(key, tasks):
    yield sine(0)


def test_keys_come_from_the_sampler_and_not_from_the_iterable():
    batch = sine(0)
    given = jax.random.split(KEY, (4, 5))
    support = batch.support._replace(inputs=mj.Keyed(batch.support.inputs, given))
    match = "got .*keys; wrap a list without keys in metajax.data.keyed"
    with pytest.raises(mj.InputError, match=match) as caught:
        fit([batch._replace(support=support)])
    assert "\n" not in str(caught.value)
    assert int(fit(keyed([batch])).step) == SETTINGS["steps"]


@pytest.mark.parametrize(
    "episodes, match",
    [
        (3, "sampler.*or an iterable of meta-batches, got int"),
        (generator_function, "generator function; call it"),
        (sine(0), "must return an Episode.*got Batch.*itertools.repeat"),
        ([], "list ended after 0 meta-steps"),
        ([sine(0, tasks=8)], "tasks=4 tasks, got 8"),
        ({"train": sine(0)}, "dict must give arrays of numbers.*got str"),
        ([replaced(sine(0), np.full((4, 5, 1), 2**40))], "int64 numbers that int32"),
    ],
)
def test_what_is_no_source_is_refused(episodes, match):
    with pytest.raises(mj.InputError, match=match) as caught:
        fit(episodes)
    assert "\n" not in str(caught.value)


def test_states_that_json_does_not_keep_are_refused(tmp_path):
    class Odd:
        def __init__(self, state):
            self.state = state

        def __iter__(self):
            return self

        def __next__(self):
            return sine(0)

        def get_state(self):
            return self.state

        def set_state(self, state): ...

    for state in ({1: 2}, (1, 2), np.zeros(2), "text"):
        with pytest.raises(mj.InputError, match="get_state of the Odd must return"):
            fit(Odd(state))
    fit(Odd({"a": [1, 2**70]}))


def test_a_sampler_of_an_iterable_changes_its_tasks_by_the_key():
    def noisy(key, episode):
        x = episode.query.targets
        noise = jax.random.normal(key, x.shape, x.dtype)
        return replaced(episode, x + noise)

    batches = [sine(i) for i in range(3)]
    one, again, other = (fit(augmented(batches, noisy), seed=s) for s in (0, 0, 1))
    assert same(one, again) and not same(one.meta, other.meta)
    assert not same(one.meta, fit(batches).meta)
    found = mj.evaluate(
        LEARNER, one.meta, augmented(batches, noisy), mj.mse, tasks=12, seed=5
    )
    assert found.protocol["seed"] == 5 and "episodes" in found.protocol


def test_an_iterable_is_no_sampler_elsewhere():
    with pytest.raises(mj.InputError, match="a list is no sampler"):
        varied([sine(0)], (2, 3), (1, 1))


def scored(episodes, **settings):
    meta = LEARNER.init(KEY)
    return mj.evaluate(LEARNER, meta, episodes, mj.mse, **settings)


def as_items(tasks, each):
    """The tasks that an evaluation samples, so many an item."""
    one = sinusoid(5, 5)
    made = [one(jax.random.fold_in(jax.random.key(0), i), 1) for i in range(tasks)]
    for start in range(0, tasks, each):
        part = made[start : start + each]
        yield jax.tree.map(lambda *x: np.concatenate(x), *part)


@pytest.mark.parametrize("each", [1, 4, 13])
def test_an_evaluation_of_an_iterable_is_that_of_its_tasks(each):
    expected = scored(sinusoid(5, 5), tasks=13, tasks_per_call=5)
    found = scored(as_items(13, each), tasks=13, tasks_per_call=5)
    for a, b in zip(found[0] + found[1], expected[0] + expected[1]):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert "seed" not in found.protocol and "in their order" in mj.report(found)
    with pytest.raises(mj.InputError, match="ended after 13 tasks; ask"):
        scored(as_items(13, each), tasks=14, tasks_per_call=5)
    with pytest.raises(mj.InputError, match="ended after 13 tasks; ask"):
        scored(list(as_items(13, each)), tasks=14, tasks_per_call=5)


def test_scores_of_an_iterable_are_not_kept_half_way(tmp_path):
    with pytest.raises(mj.InputError, match="unfinished needs a sampler"):
        scored(as_items(4, 2), tasks=4, unfinished=tmp_path / "scores.npz")


def test_several_processes_need_a_sampler(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(mj.InputError, match="feeds one process, got 2"):
        with opened(staged([sine(0)])):
            pass


def test_from_step_is_of_a_function():
    with pytest.raises(mj.InputError, match="function of the meta-steps.*got list"):
        from_step([sine(0)])
