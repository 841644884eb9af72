import math
import re
from functools import cache, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.training import cutting as _cutting
from metajax.training import parallel
from metajax.training.parallel import map_over_tasks
from metajax.training.programs import many_steps
from tests.helpers import KEY, compilations, image_episode, relative, small_conv

LEARNER = mj.maml(
    small_conv(jnp.float64, "stride"), mj.cross_entropy, optax.sgd(0.1), 2
)


def episodes(tasks):
    keys = jax.random.split(KEY, tasks)
    return jax.vmap(lambda k: image_episode(k, dtype=jnp.float64))(keys)


@cache
def by_themselves():
    """Meta-parameters, five tasks, and the value and gradient of each by itself."""
    meta, batch = LEARNER.init(KEY), episodes(5)
    slopes = jax.jit(jax.value_and_grad(LEARNER.loss, has_aux=True))
    each = [slopes(meta, jax.tree.map(itemgetter(i), batch)) for i in range(5)]
    return meta, batch, each


@pytest.mark.parametrize(
    "tasks, settings",
    [
        (4, dict(devices=2)),
        (5, dict(devices=2)),
        (5, dict(devices=64)),  # more than there are
        (5, dict(tasks_per_chunk=2)),
        (5, dict(devices=2, tasks_per_chunk=1)),
    ],
    ids=str,
)
def test_the_gradient_is_the_same_however_tasks_run(
    float64, monkeypatch, settings, tasks
):
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)  # work enough for two devices
    meta, batch, each = by_themselves()
    batch = jax.tree.map(lambda x: x[:tasks], batch)
    ours = jax.jit(mj.meta_gradient(LEARNER, **settings))(meta, batch)
    mean = jax.tree.map(lambda *x: np.mean(x, 0), *each[:tasks])
    assert relative(ours, mean) < 1e-12
    devices = min(2, settings.get("devices", 1))
    assert len(jax.tree.leaves(ours)[0].devices()) == devices


def test_adapted_parameters_do_not_mix_over_devices(float64, monkeypatch):
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)
    meta, batch = LEARNER.init(KEY), episodes(5)

    def adapt(meta, episodes):
        return jax.vmap(LEARNER.adapt, (None, 0))(meta, episodes.support)

    ours = jax.jit(map_over_tasks(adapt, devices=2))(meta, batch)
    assert len(jax.tree.leaves(ours)[0].devices()) == 2
    assert relative(ours, adapt(meta, batch)) < 1e-12


@pytest.mark.parametrize("over_tasks", [parallel.mean_over_tasks, map_over_tasks])
def test_refuses_no_devices(over_tasks):
    with pytest.raises(mj.InputError, match="devices must be"):
        over_tasks(lambda *_: None, devices=0)


def test_complex_numbers_keep_their_imaginary_part():
    def total(shared, batch, weights):
        return shared * jnp.dot(weights, batch).astype(shared.dtype)

    run = parallel.mean_over_tasks(total, tasks_per_chunk=1)
    assert run(jnp.array(1j, jnp.complex64), jnp.ones(4)) == 1j


def test_small_work_stays_together():
    learner = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 1)
    batch = mj.data.sinusoid(5, 5)(KEY, 4)
    found = jax.jit(mj.meta_gradient(learner, devices=2))(learner.init(KEY), batch)
    assert len(jax.tree.leaves(found)[0].devices()) == 1


def test_chunks_of_half_precision_add_up_in_single():
    def total(_, batch, weights):
        return jnp.dot(weights.astype(batch.dtype), batch)

    run = parallel.mean_over_tasks(total, tasks_per_chunk=1)
    assert run(None, jnp.ones(1024, jnp.bfloat16)) == 1.0


STORE = mj.data.ImageStore(
    np.zeros((9, 5, 8, 8, 1), np.uint8), np.full(9, 5), tuple("abcdefghi")
)
IMAGES = mj.data.image_episodes(STORE, 5, 1, 2, rotations=4)
SCENES = mj.data.scenes(STORE, 3, 1, 1, page=mj.data.Page(size=8, side=8, channels=1))


def pixel_mse(outputs, masks):
    return mj.mse(outputs, masks.reshape(len(masks), -1).astype(outputs.dtype))


SAMPLERS = {
    "waves": (mj.data.sinusoid(), mj.mse, 1),
    "images": (IMAGES, mj.cross_entropy, 5),
    "turned": (mj.data.augmented(IMAGES, mj.data.turn_classes), mj.cross_entropy, 5),
    "scenes": (SCENES, pixel_mse, 64),
}


def test_pmap_takes_the_same_gradient(float64):
    """README's recipe."""
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    wide = partial(jax.tree.map, lambda x: jnp.asarray(x, float))
    meta, batch = wide(learner.init(KEY)), wide(mj.data.sinusoid(3, 3)(KEY, 6))
    gradient = mj.meta_gradient(learner)
    whole = jax.jit(gradient)(meta, batch)[1]

    def update(meta, episodes):
        return jax.lax.pmean(gradient(meta, episodes)[1], "task")

    shards = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), batch)
    found = jax.pmap(update, axis_name="task", in_axes=(None, 0))(meta, shards)
    for device in (0, 1):
        assert relative(jax.tree.map(itemgetter(device), found), whole) < 1e-12


@pytest.mark.parametrize("name", SAMPLERS)
def test_devices_meet_once_and_make_their_own_tasks(monkeypatch, name):
    """The whole dispatch: sampling, meta-gradient and update."""
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)
    (episodes, loss, outputs), tasks = SAMPLERS[name], 26
    inputs = jax.eval_shape(lambda: episodes(KEY, 1)).query.inputs.shape[2:]
    model = mj.mlp(math.prod(inputs), (4,), outputs)
    flat = mj.Model(model.init, lambda p, x: model.apply(p, x.reshape(x.shape[0], -1)))
    learner = mj.maml(flat, loss, optax.sgd(0.1), 1)
    step = mj.train_step(learner, optax.sgd(0.1), devices=2)
    state = mj.init_state(learner, optax.sgd(0.1), KEY)
    run = many_steps(step, tasks=tasks, most=2)
    text = run.lower(state, episodes, KEY, 2).compile().as_text()
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == 1
    for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert other not in text
    assert f"[{tasks // 2}," in text  # what a device makes
    assert not re.search(rf"f32\[{tasks},", text)  # and nobody makes all


def test_fit_on_two_devices_is_one_program(monkeypatch):
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)

    def fit(steps, devices):
        settings = dict(tasks=4, steps_per_call=1, devices=devices)
        return mj.fit(learner, optax.sgd(0.1), sample, steps=steps, **settings)

    def sample(key, tasks):
        return mj.data.sinusoid(3, 3)(key, tasks)

    one = fit(4, devices=1)
    fit(1, devices=2)
    with compilations() as count:
        two = fit(4, devices=2)
    # A state that comes back spread over devices is no reason to compile again. (The
    # tasks of a function are checked by a small program each time.)
    assert list(count).count("jit(run)") == 1
    assert len(two.step.devices()) == 2 and int(two.step) == 4
    assert relative(two.meta, one.meta) < 1e-4


def test_fit_takes_the_devices_themselves():
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)

    def fit(devices):
        settings = dict(tasks=2, steps=2, devices=devices)
        return mj.fit(learner, optax.sgd(0.1), mj.data.sinusoid(3, 3), **settings)

    *_, last = jax.devices()
    found = fit([last])
    assert {last} == set.union(*(x.devices() for x in jax.tree.leaves(found)))
    assert relative(found.meta, fit(1).meta) < 1e-6
