"""Trains in this process, or as one of two, and saves what came of it.

python -m tests.across FOLDER [HOST:PORT PROCESS]
"""

import sys
from pathlib import Path

import jax
import numpy as np
import optax

import metajax as mj
from metajax.data.sampling import StagedSampler
from metajax.training import cutting as _cutting
from metajax.training.checkpoints import Checkpoints
from metajax.training.processes import any_says, in_turn, is_first, on_host

TASKS, STEPS, DEVICES = 12, 50, 8
LEARNER = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 2)
OUTER = optax.sgd(0.01)


class Waves(StagedSampler):
    """Sine waves of float64, which each device makes for itself."""

    def make_task(self, key):
        one = jax.tree.map(lambda x: x[0], mj.data.sinusoid(5, 5)(key, 1))
        return jax.tree.map(lambda x: x.astype(float), one)


def result(devices, folder=None, before=None):
    """The gradient, the parameters after training, and a task's adapted ones.

    With a folder, training is stopped on the way, on `before` devices if given, and
    goes on from its checkpoint: of a state on each device, and of one over all.
    """
    key = jax.random.key(0)
    meta = jax.tree.map(lambda x: np.asarray(x, float), LEARNER.init(key))
    learner = LEARNER._replace(init=lambda key: meta)
    settings = dict(steps=STEPS, tasks=TASKS, devices=devices, steps_per_call=10)
    episodes = Waves()
    batch = jax.jit(episodes, static_argnums=1)(key, TASKS)
    gradient = jax.jit(mj.meta_gradient(learner, devices=devices))(meta, batch)
    trained = {}
    for name, shard in (("trained", None), ("sharded", "state")):
        own = settings | {"shard": shard}
        if folder is not None:
            place = folder.with_name(f"{folder.name}-{name}")
            _stop_and_save(learner, episodes, own, before or devices, place)
            own["checkpoints"] = Checkpoints(place)
        trained[name] = on_host(mj.fit(learner, OUTER, episodes, **own)).meta
    support = jax.tree.map(lambda x: x[0], batch.support)
    adapted = jax.jit(learner.adapt)(trained["trained"], support)
    return {"gradient": gradient, "adapted": adapted, **trained}


def _stop_and_save(learner, episodes, settings, devices, folder):
    """Training that the last process is told to stop after two dispatches."""
    asked = []

    def stop():
        asked.append(None)
        return jax.process_index() == jax.process_count() - 1 and len(asked) > 2

    try:
        mj.fit(
            learner,
            OUTER,
            episodes,
            checkpoints=Checkpoints(folder),
            stop=stop,
            **settings | {"devices": devices},
        )
    except mj.StoppedError as error:
        assert int(error.state.step) == 20
    else:
        raise AssertionError("it did not stop")


def leaves(tree):
    """By path."""
    flat = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in flat}


def main(folder, address=None, process="0"):
    jax.config.update("jax_enable_x64", True)
    _cutting.WORTH_BYTES = 1  # work enough for every device
    if address is None:
        jax.config.update("jax_num_cpu_devices", DEVICES)
        for devices in (1, 2, 4, 8):
            resumed = (folder / "resumed", 2) if devices == 4 else ()
            found = result(devices, *resumed)
            np.savez(folder / f"{devices}.npz", **leaves(found))
        return
    jax.config.update("jax_num_cpu_devices", DEVICES // 2)
    jax.distributed.initialize(address, 2, int(process))
    assert jax.device_count() == DEVICES
    order = folder / "order"
    in_turn(lambda: order.open("a").write(process))
    assert any_says(not is_first()) and not any_says(False)
    found = result(DEVICES, folder / "checkpoints")
    np.savez(folder / f"process-{process}.npz", **leaves(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
