import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState
from tests.helpers import KEY, cut, flip, relative

LEARNER = mj.maml(mj.mlp(hidden=(8,)), mj.mse, optax.sgd(0.01), 1)


def state_at(step, scale=1.0):
    state = mj.init_state(LEARNER, optax.adam(1e-3), KEY)
    meta = jax.tree.map(lambda x: x * scale, state.meta)
    return TrainState(meta, state.opt_state, jnp.int32(step))


def test_round_trip_is_exact(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.restore(state_at(0)) is None
    state = state_at(7, 1.1)
    checkpoints.save(state)
    restored = checkpoints.restore(state_at(0))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_restoring_leaves_no_object_behind(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state := state_at(1))

    def objects(restored):
        for _ in range(restored):
            checkpoints.restore(state)
        gc.collect()
        return len(gc.get_objects())

    objects(restored=2)  # warm up
    before = objects(restored=0)
    assert objects(restored=5) < before + 10


def test_keeps_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3, 10):
        checkpoints.save(state_at(step))
    assert checkpoints.steps() == [3, 10]
    assert int(checkpoints.restore(state_at(0)).step) == 10


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", [cut, flip, lambda path: path.unlink()])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, harm):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1, 1.0))
    checkpoints.save(state_at(2, 2.0))
    largest = max(files(tmp_path / "checkpoints" / "2"), key=lambda p: p.stat().st_size)
    harm(largest)
    with pytest.warns(UserWarning, match="checkpoint 2 in .* is damaged"):
        restored = checkpoints.restore(state_at(0))
    assert int(restored.step) == 1
    assert relative(restored.meta, state_at(1).meta) == 0
    assert checkpoints.steps() == [1, 2], "reading changes nothing"
    checkpoints.save(state_at(2, 3.0))
    assert list((tmp_path / "checkpoints-damaged").glob("2-*/2"))
    assert checkpoints.steps() == [1, 2]
    assert relative(checkpoints.restore(state_at(0)).meta, state_at(2, 3.0).meta) == 0


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, emptied, lambda path: path.unlink()])
def test_any_damaged_file_gives_one_warning(tmp_path, harm, capfd):
    """No file is handed to orbax that is not as it was written."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1, 1.0))
    checkpoints.save(state_at(2, 2.0))
    names = [p.relative_to(tmp_path) for p in files(tmp_path / "checkpoints" / "2")]
    for i, name in enumerate(names):
        if not (tmp_path / name).stat().st_size:
            continue  # of orbax's own, and empty
        copy = shutil.copytree(tmp_path / "checkpoints", tmp_path / f"copy{i}")
        harm(copy / name.relative_to("checkpoints"))
        with pytest.warns(UserWarning, match="checkpoint 2 in .* is damaged") as caught:
            assert int(Checkpoints(copy).restore(state_at(0)).step) == 1
        assert len(caught) == 1
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    (tmp_path / "checkpoints" / "2").mkdir()
    with pytest.warns(UserWarning, match="damaged"):
        assert int(checkpoints.restore(state_at(0)).step) == 1
    assert capfd.readouterr().err == ""


def test_a_damaged_checkpoint_is_written_again_under_its_step(tmp_path):
    """Also if nothing has restored it: as the best one is kept."""
    checkpoints = Checkpoints(tmp_path / "best", keep=1)
    checkpoints.save(state_at(2))
    cut(tmp_path / "best" / "2" / "files.json")
    Checkpoints(tmp_path / "best", keep=1).save(state_at(2))
    assert int(checkpoints.restore(state_at(0)).step) == 2
    assert list((tmp_path / "best-damaged").glob("2-*/2"))


def test_another_state_at_the_same_step_replaces_the_one_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    checkpoints.save(state_at(5, 0.0))
    checkpoints.save(state_at(5, 1.0))
    assert relative(checkpoints.restore(state_at(0)).meta, state_at(5).meta) == 0
    assert checkpoints.steps() == [5]
    aside = Checkpoints(next((tmp_path / "c-replaced").glob("5-*")))
    left = jax.tree.leaves(aside.restore(state_at(0)).meta)
    assert not any(map(np.any, left))


def test_another_position_at_the_same_step_replaces_the_one_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for position in (None, "1", "2", None):
        checkpoints.save(state_at(5), position)
        assert checkpoints.position(5) == (position or checkpoints.position(5))
    assert checkpoints.position(5) == "2"
    assert len(list((tmp_path / "c-replaced").iterdir())) == 2


def test_the_same_state_at_the_same_step_is_not_written_again(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(state_at(5))
    before = (tmp_path / "c" / "5").stat()
    checkpoints.save(state_at(5))
    after = (tmp_path / "c" / "5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (tmp_path / "c-replaced").exists()


def test_what_cannot_be_written_replaces_nothing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    checkpoints.save(state_at(5))

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as context:
        context.setattr("metajax.training.checkpoints.write_whole", full)
        with pytest.raises(OSError, match="earlier checkpoints are untouched"):
            checkpoints.save(state_at(5, 3.0))
    assert relative(checkpoints.restore(state_at(0)).meta, state_at(5).meta) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_of_an_earlier_version(tmp_path):
    """It has no record of its files."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1, 3.0))
    folder = tmp_path / "checkpoints" / "1"
    (folder / "files.json").unlink()
    with pytest.raises(mj.InputError, match="can be read"):
        checkpoints.restore(state_at(0))  # a later version's has one
    manifest = json.loads((folder / "manifest" / "metadata").read_text())
    told = json.dumps(manifest | {"schema": 1})
    (folder / "manifest" / "metadata").write_text(told)
    restored = checkpoints.restore(state_at(0))
    assert relative(restored.meta, state_at(1, 3.0).meta) == 0


def test_a_damaged_checkpoint_is_not_forgotten(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1))
    checkpoints.save(state_at(2))
    cut(max(files(tmp_path / "checkpoints" / "2"), key=lambda p: p.stat().st_size))
    with pytest.warns(UserWarning, match="damaged"):
        checkpoints.restore(state_at(0))
    with monkeypatch.context() as context:
        context.setattr(Checkpoints, "_set_aside", lambda *_: open("/nowhere/at/all"))
        with pytest.raises(OSError, match="could not write checkpoint 2"):
            checkpoints.save(state_at(2, 3.0))
    checkpoints.save(state_at(2, 3.0))
    assert relative(checkpoints.restore(state_at(0)).meta, state_at(2, 3.0).meta) == 0


def test_a_damaged_checkpoint_may_be_deleted(tmp_path):
    """By somebody who read the warning, while training goes on."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1))
    checkpoints.save(state_at(2))
    cut(tmp_path / "checkpoints" / "2" / "files.json")
    with pytest.warns(UserWarning, match="damaged"):
        checkpoints.restore(state_at(0))
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    checkpoints.save(state_at(2))
    checkpoints.save(state_at(3))
    assert checkpoints.steps() == [1, 2, 3]


def test_refuses_a_key_before_training(tmp_path):
    noisy = optax.add_noise(0.1, 0.5, jax.random.key(0))
    like = mj.init_state(LEARNER, noisy, KEY)
    with pytest.raises(mj.InputError, match="is a PRNG key"):
        Checkpoints(tmp_path / "checkpoints").restore(like)


def test_does_not_begin_anew_when_all_are_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1))
    for path in files(tmp_path / "checkpoints" / "1" / "state"):
        cut(path)
    with pytest.raises(mj.InputError, match="move the folder away to begin anew"):
        checkpoints.restore(state_at(0))
    assert checkpoints.steps() == [1]


def test_an_unfinished_write_is_not_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1))
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()
    assert checkpoints.steps() == [1]
    assert int(checkpoints.restore(state_at(0)).step) == 1


def test_refuses_another_model(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state_at(1))
    other = mj.maml(mj.mlp(hidden=(9,)), mj.mse, optax.sgd(0.01), 1)
    like = mj.init_state(other, optax.adam(1e-3), KEY)
    with pytest.raises(mj.InputError, match="another model or optimizer"):
        checkpoints.restore(like)
    assert checkpoints.steps() == [1]


def test_refuses_a_newest_of_another_model(tmp_path):
    """It is whole: the one before it is not taken in its place, and nothing moves."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    other = mj.maml(mj.mlp(hidden=(9,)), mj.mse, optax.sgd(0.01), 1)
    theirs = mj.init_state(other, optax.adam(1e-3), KEY)
    checkpoints.save(state_at(1))
    checkpoints.save(theirs._replace(step=jnp.asarray(2, theirs.step.dtype)))
    with pytest.raises(mj.InputError, match="2 is a checkpoint of another model"):
        checkpoints.restore(state_at(0))
    checkpoints.save(state_at(3))
    assert checkpoints.steps() == [1, 2, 3]
    assert not list(tmp_path.glob("*-damaged"))


# Orbax may leave a callback of a failed write to a loop that it has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_checkpoint_before(small_disk):
    checkpoints = Checkpoints(small_disk(256) / "checkpoints")
    small = TrainState(jnp.ones(10), (), jnp.int32(1))
    checkpoints.save(small)
    large = TrainState(jax.random.normal(KEY, (100_000,)), (), jnp.int32(2))
    with pytest.raises(OSError, match="could not write checkpoint 2") as caught:
        checkpoints.save(large)
    assert "\n" not in str(caught.value)
    assert checkpoints.steps() == [1]
    assert int(checkpoints.restore(small).step) == 1
