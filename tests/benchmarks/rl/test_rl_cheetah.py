"""The half-cheetah on MuJoCo MJX: an environment like any other."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from benchmarks.command import run_command
from benchmarks.rl import __main__ as command
from benchmarks.rl import cheetah
from metajax import rl
from metajax.errors import InputError

pytestmark = pytest.mark.usefixtures("relaxed")


def call(*arguments):
    return run_command(
        command.main, command.Settings, "benchmarks.rl", command.__doc__, arguments
    )


def test_an_episode_is_mujocos():
    mujoco = pytest.importorskip("mujoco")
    pytest.importorskip("mujoco.mjx")
    environment = cheetah.half_cheetah("velocity", horizon=3)
    rl.check_environment(environment)
    assert rl.head_for(environment).actions == environment.actions == (6,)
    task, key = jnp.float32(1.5), jax.random.key(0)
    state, seen = environment.reset(task, key)
    assert seen.shape == (environment.observation_size,) == (8 + 9 + 3,)
    model = mujoco.MjModel.from_xml_path(str(cheetah.MODEL))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = state.position, state.velocity
    step = jax.jit(environment.step)
    for action in jax.random.normal(key, (20, 6)):
        moved = step(task, state, action, key)
        state = moved.state
        data.ctrl[:] = controls = np.clip(np.array(action), -1, 1)
        mujoco.mj_step(model, data, cheetah.SUBSTEPS)
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        np.testing.assert_allclose(state.position, data.qpos, atol=1e-4)
        np.testing.assert_allclose(moved.observation[-3:], data.subtree_com[0], 0, 1e-4)
        cost = abs(data.subtree_linvel[0, 0] - 1.5) + 0.05 * np.sum(controls**2)
        np.testing.assert_allclose(moved.reward, -cost, atol=1e-3)


def test_opposite_directions_have_opposite_rewards(monkeypatch):
    pytest.importorskip("mujoco.mjx")
    monkeypatch.setattr(cheetah, "CONTROL_COST", 0.0)
    environment = cheetah.half_cheetah("direction")
    tasks = jax.vmap(environment.sample)(jax.random.split(jax.random.key(0), 20))
    assert set(tasks.tolist()) == {-1.0, 1.0}

    @jax.jit
    def reward(task):
        state, _ = environment.reset(task, jax.random.key(1))
        return environment.step(task, state, jnp.ones(6), jax.random.key(2)).reward

    forward, backward = reward(jnp.float32(1)), reward(jnp.float32(-1))
    assert forward == -backward != 0


def test_maml_has_a_gradient():
    pytest.importorskip("mujoco.mjx")
    environment = cheetah.half_cheetah("direction", horizon=2)
    policy = rl.feedforward(mj.mlp(20, (4,), 6), rl.head_for(environment))
    sampling = rl.sampling(environment, policy, trajectories=2)
    learner = mj.maml_rl(sampling, optax.sgd(0.1), steps=1)
    trial = rl.Trial(jnp.float32(-1), jax.random.key(0))
    meta = policy.init(jax.random.key(1))
    gradient, _ = jax.jit(jax.grad(learner.loss, has_aux=True))(meta, trial)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(x).all() for x in leaves) and any(x.any() for x in leaves)


def test_returns_are_printed_and_kept(tmp_path, capsys, monkeypatch):
    def point(task, horizon):
        assert task == "velocity"
        return rl.navigation(horizon)  # which needs no MJX

    monkeypatch.setattr(cheetah, "half_cheetah", point)
    record = tmp_path / "record.json"
    sizes = "--task velocity --steps 2 --tasks 2 --trajectories 2 --horizon 3 --width 4"
    assert call("cheetah", *sizes.split(), "--to", str(record)) == 0
    out = capsys.readouterr().out
    (title, rows), *_ = json.loads(record.read_text())["results"].items()
    assert title == "Half-cheetah, velocity: mean return" and title in out
    assert [row["step"] for row in rows] == [1, 2]
    assert f"| 2 | {rows[1]['before']:.2f} | {rows[1]['after']:.2f} |" in out


def test_without_mjx(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    assert call("cheetah") == 1
    out, err = capsys.readouterr()
    message = 'error: MuJoCo MJX is not installed; pip install "metajax[mjx]"'
    assert err == message + "\n" and not out


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "goal"}, "no task 'goal'; there are direction, velocity"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_input_is_an_error(options, message):
    with pytest.raises(InputError, match=message):
        cheetah.half_cheetah(**options)
