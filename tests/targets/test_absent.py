import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import targets
from metajax.data.staging import Drawn
from metajax.study.chips import compile_dispatch
from metajax.targets import CHIPS, absent, chips
from metajax.targets.cuda import MULTIPROCESSORS
from metajax.training import cutting as _cutting
from tests.helpers import KEY

STORE = mj.data.ImageStore(
    np.zeros((5, 2, 28, 28, 1), np.uint8), np.full(5, 2), tuple("abcde")
)
IMAGES = mj.data.image_episodes(STORE, 5, 1, 1)
needs_tpu = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="needs libtpu"
)


def test_unknown_chips_are_refused():
    with pytest.raises(mj.InputError, match="did you mean h200.*there are v4"):
        targets.devices("h20:2")


def test_a_missing_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("v5e:2x2", "h200"):
        with pytest.raises(mj.InputError, match=r"metajax\[targets\]"):
            targets.devices(name)


@pytest.mark.parametrize("count", ["0", "9", "2x2"])
def test_a_host_has_so_many_gpus(monkeypatch, count):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(mj.InputError, match="at most 8 GPUs.*h200:8"):
        targets.devices(f"h200:{count}")


def test_a_topology_that_the_compiler_refuses(monkeypatch):
    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: not divisible\nmore")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(absent.topologies, "get_topology_desc", refuse)
    with pytest.raises(mj.InputError, match="not divisible.*such as v5e:2x2"):
        targets.devices("v5e:3x3")


def test_a_compiler_that_jax_did_not_load(monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(absent.topologies, "get_topology_desc", refuse)
    with pytest.raises(mj.InputError, match="set JAX_PLATFORMS=cpu"):
        targets.devices("h200")


def test_every_chip_has_its_facts():
    assert len({chip.kind for chip in CHIPS.values()}) == len(CHIPS)
    for chip in CHIPS.values():
        assert chip.rates["float32"] <= max(chip.rates.values())
        assert 8 * 2**30 < chip.memory_bytes < 2**38
        assert 1e11 < chip.bandwidth < 1e13
        assert (chip.cuda is None) == bool(chip.grid)
        if chip.cuda is not None:
            assert chip.cuda.capability in MULTIPROCESSORS
            config = chip.cuda.config(chip.kind, chip.memory_bytes, chip.bandwidth)
            assert f"core_count: {chip.cuda.cores}\n" in config
            assert config.count("{") == config.count("}")


def test_memory_of_an_absent_chip_is_known():
    device = SimpleNamespace(device_kind="NVIDIA H200", platform="gpu")
    h200 = CHIPS["h200"]
    assert chips.chip_of(device) is h200
    assert chips.usable_bytes(device) == int(0.75 * h200.memory_bytes)
    assert _cutting._budget(device) == int(0.5 * 0.75 * h200.memory_bytes)
    other = SimpleNamespace(device_kind="another", platform="gpu")
    assert chips.usable_bytes(other) == chips.UNKNOWN_BYTES


def test_devices_may_be_given_themselves(monkeypatch):
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    batch = mj.data.sinusoid(3, 3)(jax.random.key(1), 4)
    meta = learner.init(jax.random.key(0))
    some = jax.devices()
    for devices in (some, some[::-1], some[:1], np.array(some)):
        gradient = mj.meta_gradient(learner, devices=devices)
        (loss, _), _ = jax.jit(gradient)(meta, batch)
        assert jnp.isfinite(loss)
        assert loss.devices() == set(devices)


@pytest.mark.parametrize("devices", [[], ["cpu"], "cpu", np.arange(2)])
def test_devices_must_be_devices(devices):
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    message = r"devices must be .* jax\.devices\(\)\[:2\], got"
    with pytest.raises(mj.InputError, match=message):
        mj.meta_gradient(learner, devices=devices)
    with pytest.raises(mj.InputError, match=message):
        mj.fit(
            *(learner, optax.sgd(0.1), mj.data.sinusoid(3, 3)),
            steps=1,
            tasks=2,
            devices=devices,
        )


def test_training_takes_an_array_of_devices():
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    state = mj.fit(
        *(learner, optax.sgd(0.1), mj.data.sinusoid(3, 3)),
        steps=1,
        tasks=2,
        devices=np.array(jax.devices()[:1]),
    )
    assert int(state.step) == 1


@pytest.mark.parametrize("which", [[1], [1, 0]])
def test_small_work_stays_on_the_given_devices(which):
    """Work too small to share runs on one of them, not on the default device."""
    devices = [jax.devices()[index] for index in which]
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    batch = mj.data.sinusoid(3, 3)(jax.random.key(1), 4)
    gradient = mj.meta_gradient(learner, devices=devices)
    (loss, _), _ = jax.jit(gradient)(learner.init(jax.random.key(0)), batch)
    assert loss.devices() == {jax.devices()[1]}


@needs_tpu
def test_a_program_is_compiled_for_a_tpu():
    def double(x):
        return x @ x

    found = targets.compile_for(targets.devices("v5e"), double, jnp.ones((8, 8)))
    assert found.operations == 2 * 8**3
    assert found.program.cycles > 0 and found.account_bytes


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_the_episodes_that_a_chunk_makes_count(backend):
    """Their memory comes on top of what a tiny function of them takes."""

    def total(shared, episodes, weights):
        return weights.sum() + episodes.support.inputs.sum() + shared

    batches = {
        "made": Drawn(jax.eval_shape(lambda: IMAGES.draw(KEY, 4)), IMAGES),
        "given": jax.eval_shape(lambda: IMAGES(KEY, 4)),
    }
    for batch in batches.values():
        work = _cutting.weighted_work(total, jnp.zeros(()), batch)
        assert _cutting.task_bytes(work, backend) >= 4 * 5 * 28 * 28


@needs_tpu
@pytest.mark.parametrize("name", ["v5e:4x4", "v5e:2x2"])
def test_absent_devices_meet_once(monkeypatch, name):
    """What `fit` would run on them: sampling, meta-gradient and update."""
    monkeypatch.setattr(_cutting, "WORTH_BYTES", 1)
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    devices, settings = targets.devices(name), dict(tasks=64, tasks_per_chunk="auto")
    work = learner, optax.adam(1e-3), mj.data.sinusoid(), devices
    with jax.numpy_dtype_promotion("standard"):  # for optax
        found, cut = compile_dispatch(*work, **settings)
    assert found.program.collectives == {"all-reduce": 1}
    assert cut.devices == len(devices) and cut.chunk == 64 // len(devices)
