"""Whatever of each inner step is stored, the gradient is one and the same."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import metajax as mj
from metajax._autodiff.jaxprs import scan_parts
from metajax.ops.estimate import equations
from tests.helpers import INNER, KEY, relative, sine_episode

STORED = {
    "kept": lambda: mj.kept(mj.reverse),
    "offloaded": lambda: mj.offloaded(mj.exact),
}
STEPS, WIDE, HIDDEN = 3, 11, 7


def test_the_gradient_is_exact(float64):
    """Through an optimizer with a state, of tasks that two devices share."""
    model = mj.mlp(hidden=(8,), activation=jnp.tanh, dtype=jnp.float64)
    keys = jax.random.split(KEY, 2)
    episodes = jax.vmap(partial(sine_episode, dtype=jnp.float64))(keys)
    mesh = Mesh(jax.devices(), "task")
    episodes = jax.device_put(episodes, NamedSharding(mesh, PartitionSpec("task")))

    def gradient(grad):
        def value(params, rate, episode):
            learner = mj.maml(model, mj.mse, INNER["adam"](rate), STEPS, grad=grad)
            return learner.loss(params, episode)[0]

        return jax.vmap(jax.grad(value, argnums=(0, 1, 2)), (None, None, 0))

    @jax.jit
    def oracle_and_others(*args):
        others = {name: gradient(build())(*args) for name, build in STORED.items()}
        return gradient(mj.reverse)(*args), others

    oracle, others = oracle_and_others(model.init(KEY), 0.05, episodes)
    for name, found in others.items():
        assert relative(found, oracle) < 1e-12, name


def stacked(**settings):
    """What the steps store of a net of a wide first layer, as JAX writes types."""
    model = mj.mlp(WIDE, (HIDDEN,), 1)
    learner = mj.maml(model, mj.mse, optax.sgd(0.1), STEPS, **settings)
    x = jnp.ones((2, WIDE))
    episode = mj.Episode(mj.Batch(x, x[:, :1]), mj.Batch(x, x[:, :1]))
    gradient = jax.grad(lambda m: learner.loss(m, episode)[0])
    every = [each for each, _ in equations(gradient, model.init(KEY))]
    scans = [each for each in every if each.primitive.name == "scan"]
    return {str(v.aval) for e in scans for v in e.outvars[scan_parts(e)[1] :]}


def test_what_is_stored():
    first = f"[{STEPS},{WIDE},{HIDDEN}]"
    assert f"float32{first}" in stacked()
    kept = stacked(grad=mj.kept(mj.reverse))
    assert [kind for kind in kept if kind.endswith(f",2,{HIDDEN}]")]  # activations
    assert not [kind for kind in kept if first in kind]
    everything = jax.checkpoint_policies.everything_saveable
    remat = partial(jax.checkpoint, policy=everything, prevent_cse=False)
    assert stacked(grad=mj.Stored(mj.reverse, remat)) == kept
    on_the_host = stacked(grad=mj.offloaded(mj.exact))
    assert f"float32<host>{first}" in on_the_host
    assert all("<host>" in kind for kind in on_the_host if kind.startswith("float"))


def test_what_does_not_adapt_is_not_stored():
    found = stacked(adapts=lambda path: "head" in path)
    assert f"float32[{STEPS},{HIDDEN},1]" in found
    assert not [kind for kind in found if f"{WIDE},{HIDDEN}]" in kind]


def test_a_backend_without_host_memory_is_told(monkeypatch):
    memories = [SimpleNamespace(kind="device")]
    toy = SimpleNamespace(platform="toy", addressable_memories=lambda: memories)
    monkeypatch.setattr(jax, "devices", lambda: [toy])
    with pytest.raises(mj.InputError, match='"pinned_host", got toy with device'):
        mj.offloaded(mj.exact)
