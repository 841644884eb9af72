"""Samplers that do not use their key are refused, and those that do are not."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import io_callback

import metajax as mj
from metajax.data import (
    augmented,
    glyphs,
    hide_labels,
    jitter,
    keyed,
    sinusoid,
    varied,
)
from metajax.data.purity import check_sampler
from metajax.data.staging import staged
from metajax.types import Batch, Episode
from tests.helpers import KEY

SINES = sinusoid(5, 5)
RANDOM = np.random.default_rng(0)


def of(x, y):
    return Episode(Batch(x, y), Batch(x, y))


def by_numpy(key, tasks):
    x = RANDOM.normal(size=(tasks, 5, 1)).astype(np.float32)
    return of(x, np.sin(x))


def of_device_arrays(key, tasks):
    return SINES(KEY, tasks)


def splits_in_vain(key, tasks):
    one, two = jax.random.split(key)
    jax.random.normal(jax.random.fold_in(one, 3), (tasks,))
    return SINES(KEY, tasks)


@functools.partial(jax.jit, static_argnums=1)
def jitted(key, tasks):
    used = jax.random.normal(key, (tasks,))
    return of(jnp.ones((tasks, 5, 1)), jnp.zeros((tasks, 5, 1))), used


def carries_in_vain(key, tasks):
    def body(carry, _):
        key, x = carry
        return (jax.random.split(key)[0], x + 1.0), x

    (_, x), _ = jax.lax.scan(body, (key, jnp.zeros((tasks, 5, 1))), None, length=3)
    return of(x, x)


@functools.lru_cache
def cached(tasks):
    return by_numpy(None, tasks)


def by_callback(key, tasks):
    shape = jax.ShapeDtypeStruct((tasks, 5, 1), jnp.float32)
    x = jax.pure_callback(lambda: np.ones(shape.shape, np.float32), shape)
    return of(x, x)


def by_ordered_callback(key, tasks):
    shape = jax.ShapeDtypeStruct((tasks, 5, 1), jnp.float32)

    def draw():
        return RANDOM.normal(size=shape.shape).astype(np.float32)

    x = io_callback(draw, shape, ordered=True)
    return of(x, x)


def of_shapes(key, tasks):
    x = jnp.zeros_like(jax.random.normal(key, (tasks, 5, 1)))
    return of(x, x)


def same_letters(key, tasks):
    return glyphs(3, 1, 1)(KEY, tasks)


class Tensor:
    """An array of another library."""

    shape = (4, 5, 1)

    def __array__(self, dtype=None, copy=None):
        return np.ones(self.shape, np.float32)


IGNORE = {
    "numpy": by_numpy,
    "device arrays": of_device_arrays,
    "a key split in vain": splits_in_vain,
    "jit": lambda key, tasks: jitted(key, tasks)[0],
    "scan": carries_in_vain,
    "a cache": lambda key, tasks: cached(tasks),
    "a callback without the key": by_callback,
    "an ordered callback": by_ordered_callback,
    "the key's shape alone": of_shapes,
    "tensors": lambda key, tasks: of(Tensor(), Tensor()),
    "augmented": augmented(same_letters, jitter(shift=0.1)),
    "varied": varied(same_letters, (2, 3), (1, 1)),
}


@pytest.mark.parametrize("episodes", IGNORE.values(), ids=list(IGNORE))
def test_a_sampler_that_ignores_its_key_is_refused(episodes):
    with pytest.raises(mj.InputError, match="got one that does not use it") as caught:
        check_sampler(staged(episodes), 4)
    assert "\n" not in str(caught.value) and "iterable" in str(caught.value)


def test_fit_and_evaluate_refuse_it():
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    with pytest.raises(mj.InputError, match="does not use it"):
        mj.fit(learner, optax.sgd(0.1), by_numpy, steps=3, tasks=4)
    with pytest.raises(mj.InputError, match="does not use it"):
        mj.evaluate(learner, learner.init(KEY), by_numpy, mj.mse, tasks=4)


def shuffled(key, tasks):
    x = RANDOM.normal(size=(tasks, 5, 1)).astype(np.float32)
    return of(x, jax.random.permutation(key, 5).reshape(1, 5, 1) + 0.0 * x)


def scaled(key, tasks):
    return of(
        jax.random.normal(key, (tasks, 5, 1)) * RANDOM.normal(), jnp.ones((tasks, 5, 1))
    )


def noise(key, tasks):
    return jax.random.normal(key, (tasks, 5, 1))


@functools.partial(jax.jit, static_argnums=1)
def jitted_and_scaled(key, tasks):
    return of(noise(key, tasks) * RANDOM.normal(), jnp.ones((tasks, 5, 1)))


@jax.jit
def drawn_without_a_key():
    return jnp.float32(RANDOM.normal())


def in_a_scan(key, tasks):
    def body(x, _):
        return x * jnp.float32(RANDOM.normal()), None

    x, _ = jax.lax.scan(body, noise(key, tasks), None, length=2)
    return of(x, x)


LINE = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 100, 1)


def sliced(key, tasks):
    start = np.random.randint(50)
    x = noise(key, tasks) + jnp.asarray(LINE)[:, start : start + 5]
    return of(x, x)


def indexed(key, tasks):
    x = noise(key, tasks) + jnp.asarray(LINE)[0, np.random.randint(100)]
    return of(x, x)


def rolled(key, tasks):
    x = jnp.roll(noise(key, tasks), np.random.randint(5), axis=1)
    return of(x, x)


def permuted(key, tasks):
    order = [0, *(1 + np.random.permutation(3))]
    x = jax.random.normal(key, (tasks, 5, 5, 5)).transpose(order)
    return of(x, x)


def of_a_random_function(key, tasks):
    x = noise(key, tasks)
    return of(x, random.choice([jnp.sin, jnp.cos])(x))


@functools.partial(jax.jit, static_argnums=1)
def of_a_random_branch(key, tasks):
    x = noise(key, tasks)
    return of(x, jnp.sin(x) if np.random.random() < 0.5 else jnp.cos(x))


def swaps_the_halves(key, tasks):
    x = noise(key, tasks)
    halves = [Batch(x, x), Batch(2.0 * x, x)]
    random.shuffle(halves)
    return Episode(*halves)


ELSEWHERE = {
    "constants": shuffled,
    "a literal": scaled,
    "jit": jitted_and_scaled,
    "jit within": lambda key, tasks: jitted_and_scaled(key, tasks),
    "jit without the key": lambda key, tasks: of(
        noise(key, tasks), noise(key, tasks) * drawn_without_a_key()
    ),
    "vmap of jit": lambda key, tasks: jax.tree.map(
        lambda x: x[:, 0],
        jax.vmap(jitted_and_scaled, (0, None))(jax.random.split(key, tasks), 1),
    ),
    "scan": in_a_scan,
    "a slice": sliced,
    "an index": indexed,
    "a roll": rolled,
    "a permutation": permuted,
    "a function": of_a_random_function,
    "a branch": of_a_random_branch,
    "halves": swaps_the_halves,
    "augmented": augmented(of_a_random_function, lambda key, episode: episode),
    "keyed": keyed(rolled),
}


@pytest.mark.parametrize("episodes", ELSEWHERE.values(), ids=list(ELSEWHERE))
def test_numbers_drawn_beside_the_key_are_refused(episodes, relaxed):
    sampler = staged(episodes)
    with pytest.raises(mj.InputError, match="numbers drawn elsewhere") as caught:
        check_sampler(sampler, 4)
    assert "\n" not in str(caught.value)


def test_they_are_refused_after_a_call_that_jit_keeps(relaxed):
    jitted_and_scaled(KEY, 3)
    jax.eval_shape(lambda key: jitted_and_scaled(key, 3), KEY)
    for _ in range(2):
        with pytest.raises(mj.InputError, match="numbers drawn elsewhere"):
            check_sampler(jitted_and_scaled, 3)


def seeded(key, tasks):
    random = np.random.default_rng(int(jax.random.key_data(key)[1]))
    x = random.normal(size=(tasks, 5, 1))
    return of(x, x)


def test_a_key_that_is_taken_for_a_number_is_told():
    with pytest.raises(mj.InputError, match="called inside jit.*iterable"):
        check_sampler(seeded, 4)


GRID = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
FEW = SINES(KEY, 7)


def of_a_grid(key, tasks):
    """Only the targets differ."""
    x = jnp.broadcast_to(GRID, (tasks, 5, 1))
    return of(x, x * jax.random.normal(key, (tasks, 1, 1)))


def query_alone(key, tasks):
    x = jax.random.normal(key, (tasks, 5, 1))
    return Episode(of_device_arrays(key, tasks).support, Batch(x, x))


def of_few(key, tasks):
    rows = jax.random.choice(key, 7, (tasks,))
    return jax.tree.map(lambda x: x[rows], FEW)


def asks_the_host(key, tasks):
    shape = jax.ShapeDtypeStruct((tasks, 5, 1), jnp.float32)

    def draw(bits):
        random = np.random.default_rng(np.asarray(bits))
        return random.normal(size=shape.shape).astype(np.float32)

    x = jax.pure_callback(draw, shape, jax.random.key_data(key))
    return of(x, x)


def loops(key, tasks):
    def body(i, x):
        return x + jax.random.normal(jax.random.fold_in(key, i), x.shape)

    x = jax.lax.fori_loop(0, 3, body, jnp.zeros((tasks, 5, 1)))
    return of(x, x)


@jax.custom_jvp
def squared(x):
    return x**2


squared.defjvp(lambda x, dx: (squared(*x), 2 * x[0] * dx[0]))


@functools.partial(jax.jit, static_argnums=1)
def of_fresh_functions(key, tasks):
    """Their addresses are others in each trace."""
    x = squared(noise(key, tasks))
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    y = jax.pure_callback(lambda x: np.asarray(x), shape, x)
    return of(x, jax.checkpoint(lambda y: 2.0 * y)(y))


def draws_to_no_effect(key, tasks):
    np.random.random()
    return SINES(key, tasks)


USE = {
    "sinusoid": SINES,
    "a function": lambda key, tasks: SINES(key, tasks),
    "a method": SINES.__call__,
    "augmented": augmented(glyphs(3, 1, 1), jitter(shift=0.1)),
    "hidden": augmented(glyphs(3, 2, 1), hide_labels(3, 1)),
    "varied": varied(glyphs(3, 1, 1), (2, 3), (1, 1)),
    "targets alone": of_a_grid,
    "query alone": query_alone,
    "some of a few tasks": of_few,
    "a callback by the key": asks_the_host,
    "a loop": loops,
    "keyed": keyed(SINES),
    "fresh functions": of_fresh_functions,
    "numbers that are not used": draws_to_no_effect,
}


@pytest.mark.parametrize("episodes", USE.values(), ids=list(USE))
def test_a_sampler_that_draws_by_its_key_passes(episodes):
    check_sampler(staged(episodes), 4)
