"""Emoji of several foundries: made pictures and features, and nothing installed."""

import io
import json
import pickle
import sys
import types
import zlib
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import metajax as mj
from benchmarks.command import run_command
from benchmarks.emoji import __main__ as emoji
from benchmarks.emoji import (
    fine_tuning,
    foundries,
    methods,
    pickled,
    pictures,
    prepare,
    tasks,
    trial,
    weights,
)
from benchmarks.emoji.pictures import Drawings
from benchmarks.emoji.settings import FineTune, Trial
from benchmarks.emoji.tasks import Shape
from metajax._files.safetensors import read_safetensors, write_safetensors
from metajax.errors import InputError
from metajax.models import Backbone, Preprocessing

pytestmark = pytest.mark.usefixtures("relaxed")

FOUNDRIES, NAMES, FEATURES = 8, 6, 4


def made():
    """Features of names, the same ones of every foundry."""
    values = np.abs(np.random.default_rng(0).normal(size=(NAMES, 1, FEATURES)))
    return np.repeat(values, FOUNDRIES, 1).astype(np.float32)


@pytest.mark.parametrize("other_maker", [False, True])
def test_no_foundry_of_the_queries_is_in_the_support_set(other_maker):
    drawings = Drawings(made(), pictures.makers())
    batch = tasks.draw_tasks(
        drawings, Shape(2, 4, 3), tasks=50, seed=1, other_maker=other_maker
    )
    kinds = drawings.makers if other_maker else np.arange(FOUNDRIES)
    assert not np.any(kinds[batch.support] == kinds[batch.query][:, None])
    every = np.concatenate([batch.names, batch.unseen], 1)
    assert all(len(set(row)) == 5 for row in every.tolist())
    assert all(len(set(row)) == 4 for row in batch.support.tolist())
    assert len(set(batch.query.tolist())) == FOUNDRIES


def test_scores_are_of_the_queries_in_order():
    outputs = np.array([[[0.9, 0.1], [0.8, 0.2], [0.7, 0.0], [0.1, 0.2]]])
    assert trial.accuracies(outputs[:, :2], Shape(2, 1)).tolist() == [0.5]
    assert trial.novelty_areas(outputs, Shape(2, 1, 2)).tolist() == [1.0]


def test_centring_takes_a_foundrys_style_away():
    style = np.zeros((1, FOUNDRIES, FEATURES), np.float32)
    style[..., 0] = 30.0 * np.arange(FOUNDRIES)
    drawings = Drawings(made() + style, pictures.makers())
    batch = tasks.draw_tasks(drawings, Shape(4, 1), tasks=20, seed=0, other_maker=False)
    right = {}
    for method in methods.on_features(drawings.values, drawings.values):
        outputs = method.outputs(batch)
        assert outputs.shape == (20, 4, 4)
        right[method.name] = trial.accuracies(outputs, Shape(4, 1)).mean()
    assert right["cosine, transductive"] == 1.0 > right["cosine"]


def test_whitening_undoes_how_pictures_of_one_name_differ():
    """A direction in which foundries scatter a name says little of the name."""
    random = np.random.default_rng(0)
    scatter = random.normal(size=(NAMES, FOUNDRIES, 32)) * 0.01
    scatter[..., 0] *= 200.0
    names = random.normal(size=(NAMES, 1, 32)) * 0.1
    drawings = Drawings(np.float32(5 + names + scatter), pictures.makers())
    batch = tasks.draw_tasks(drawings, Shape(4, 1), tasks=40, seed=0, other_maker=False)
    learner = mj.meta_baseline(methods.IDENTITY, 4)
    meta = learner.init(jax.random.key(0))
    right = []
    centres = (
        tasks.centre_by_others(drawings.values),
        tasks.whiten_by_others(drawings),
    )
    for centre in centres:
        outputs = tasks.predict_tasks(learner, meta, drawings, batch, centre)
        right.append(trial.accuracies(outputs, Shape(4, 1)).mean())
    assert right[1] > right[0] + 0.2


def test_nothing_of_the_queries_maker_is_in_the_whitening():
    values, makers = np.float32(made() + 1), pictures.makers()
    query = next(i for i in range(FOUNDRIES) if np.sum(makers == makers[i]) > 1)
    others = values.copy()
    others[:, makers == makers[query]] = 7.0
    task = tasks.Tasks(*map(jnp.asarray, ([0, 1], [], [0], query)))
    batches = jnp.asarray(values[:2, 0]), jnp.asarray(values[:2, query])
    whitenings = (tasks.whiten_by_others(Drawings(x, makers)) for x in (values, others))
    once, again = (centre(task, *batches) for centre in whitenings)
    np.testing.assert_allclose(once[0], again[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(once[1], again[1], rtol=1e-4, atol=1e-4)


def write_pth(path, arrays, monkeypatch, extra=()):
    """A file of PyTorch's older format, without PyTorch."""
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    def rebuild(*arguments):
        raise AssertionError("the writer calls nothing")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    sys.modules["torch._utils"].__dict__["_rebuild_tensor_v2"] = rebuild
    kind = type("FloatStorage", (), {"__module__": "torch"})
    sys.modules["torch"].__dict__["FloatStorage"] = kind

    class Stored:
        def __init__(self, key, count):
            self.pid = ("storage", kind, key, "cpu", count, None)

    class Tensor:
        def __init__(self, key, array):
            steps = tuple(step // array.itemsize for step in array.strides)
            stored = Stored(key, array.size)
            self.parts = stored, 0, array.shape, steps, False, OrderedDict()

        def __reduce__(self):
            return rebuild, self.parts

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return getattr(obj, "pid", None)

    keys = {name: str(i) for i, name in enumerate(arrays)}
    state = OrderedDict((name, Tensor(keys[name], a)) for name, a in arrays.items())
    state.update(extra)
    file = io.BytesIO()
    for value in (pickled.MAGIC, 1001, {}, state, list(keys.values())):
        Pickler(file, 2).dump(value)
    for array in arrays.values():
        file.write(array.size.to_bytes(8, "little") + array.ravel("K").tobytes())
    path.write_bytes(file.getvalue())


def test_tensors_are_read_from_a_pth_of_any_strides(tmp_path, monkeypatch):
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"a": plain, "b": plain.transpose(2, 0, 1), "c": np.float32([[5.0]])}
    write_pth(tmp_path / "net.pth", arrays, monkeypatch)
    read = pickled.read_pth(tmp_path / "net.pth")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    path = tmp_path / "net.safetensors"
    write_safetensors(path, read, {})
    for name, array in read_safetensors(path).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_pth_that_names_anything_else_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    arrays = {"a": np.zeros(3, np.float32)}
    write_pth(path, arrays, monkeypatch, extra={"b": print}.items())
    with pytest.raises(InputError, match=r"it names (builtins|__builtin__)\.print"):
        pickled.read_pth(path)
    write_pth(path, arrays, monkeypatch)
    whole = path.read_bytes()
    for content in (whole[:-4], whole[:40], b"", b"PK\x03\x04", b"hello"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="older format"):
            pickled.read_pth(path)
    with pytest.raises(InputError, match="cannot be read"):
        pickled.read_pth(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["fc.weight", "_blocks.16._bn1.bias", "_fc"])
def test_a_tensor_of_another_network_is_refused(name):
    with pytest.raises(InputError, match="no tensor of EfficientNet-Lite0"):
        weights.timm_name(name)


@pytest.fixture
def icons(tmp_path, monkeypatch):
    """A folder with packages of icons, as npm would leave it."""
    names = [f"name-{i}" for i in range(NAMES + 3)]
    for foundry in foundries.FOUNDRIES:
        place = tmp_path / "packages" / "node_modules" / foundries.SCOPE
        place = place / foundry.package
        place.mkdir(parents=True)
        ids = {name: f"{foundry.package}-{name}" for name in names}
        bodies = {name: {"body": f"<g id='{ids[name]}'/>"} for name in names}
        sheet = {"icons": bodies | {"old": {"body": "", "hidden": True}}}
        (place / "icons.json").write_text(json.dumps(sheet | SIZE))
        (place / "info.json").write_text(json.dumps(INFO))
    monkeypatch.setattr(prepare, "install", lambda folder: None)
    held = {"test": NAMES, "validation": 1}
    monkeypatch.setattr(prepare, "HELD", held)
    monkeypatch.setattr(pictures, "HELD", held)
    return tmp_path


SIZE = {"width": 8, "height": 8}
INFO = {
    "name": "Set",
    "author": {"name": "Somebody", "url": "site"},
    "license": {"spdx": "MIT", "url": "text"},
}


def draw(text):
    """A picture whose pixels are of the text."""
    random = np.random.default_rng(zlib.crc32(text.encode()))
    pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_icons_become_pictures_once(icons, monkeypatch):
    monkeypatch.setattr(prepare, "renderer", lambda: draw)
    prepare.prepare(icons)
    files = list((icons / "pictures").rglob("*.png"))
    assert len(files) == (NAMES + 3) * FOUNDRIES
    assert len(list((icons / "pictures" / "test").iterdir())) == NAMES
    assert "MIT" in (icons / "LICENCES").read_text().splitlines()[-1]
    files[0].unlink()
    texts = []
    monkeypatch.setattr(prepare, "renderer", lambda: record(texts))
    prepare.prepare(icons)
    assert len(texts) == 1 and 'viewBox="0 0 8 8"' in texts[0]


def record(texts):
    def draw_and_record(text):
        texts.append(text)
        return draw(text)

    return draw_and_record


@pytest.fixture
def folder(icons, monkeypatch):
    """Pictures, and a small network for them."""
    monkeypatch.setattr(prepare, "renderer", lambda: draw)
    prepare.prepare(icons)
    (icons / "net").write_bytes(b"weights")
    body = mj.Model(
        lambda key: {"w": jnp.ones((FEATURES, 192))},
        lambda params, x: jnp.abs(x.reshape(len(x), -1) @ params["w"].T),
    )
    pixels = Preprocessing((0.0,) * 3, (1.0,) * 3, (8, 8), 1.0, "bicubic")
    backbone = Backbone(body, {"w": jnp.ones((FEATURES, 192))}, pixels, FEATURES)
    for module in (pictures, fine_tuning):
        monkeypatch.setattr(module, "load_backbone", lambda path: backbone)
    return icons


def test_a_trial_is_printed_and_recorded(folder, monkeypatch, capsys):
    monkeypatch.setattr(trial, "SHAPES", (Shape(2, 1),))
    monkeypatch.setattr(trial, "UNSEEN", (Shape(2, 1, 2),))
    settings = Trial(folder, folder / "net", tasks=3, to=folder / "record.json")
    emoji.main(settings)
    assert (
        "| accuracy %, another foundry, test names | 2w1s |" in capsys.readouterr().out
    )
    record = json.loads((folder / "record.json").read_text())["results"]
    accuracy, area = record.values()
    assert set(area) < set(accuracy) and "cosine, transductive" in area
    assert {row["2w1s"]["tasks"] for row in accuracy.values()} == {3}
    # Kept by content: features are not computed again, and the record's tables stay.
    monkeypatch.setattr(pictures, "compute", None)
    (folder / "again.json").write_text(json.dumps({"results": {"other": {}}}))
    other = Trial(folder, folder / "net", tasks=3, to=folder / "again.json")
    emoji.main(other)
    again = json.loads((folder / "again.json").read_text())["results"]
    assert again == {"other": {}} | record


def test_of_all_names_none_is_left_to_centre_by(folder):
    settings = Trial(folder, folder / "net", names="all")
    measured = {method.name: method for method in trial.list_methods(settings)}
    assert "cosine of roots, about other names" not in measured
    assert measured["cosine"].drawings.values.shape == (NAMES + 3, FOUNDRIES, FEATURES)


def test_fine_tuning_begins_at_the_cosines(folder):
    settings = FineTune(
        folder, folder / "net", side=8, shots=(1,), tasks=2, steps=1, rate=0.1
    )
    ((_, rows),) = fine_tuning.run_fine_tuning(settings).items()
    assert list(rows) == ["P>M>F, 8 pixels, 0 steps", "P>M>F, 8 pixels, 1 steps"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "x"], "resvg-py is not installed"),
        (["trial", ".", "--weights", "none"], "there is no file none"),
        (
            ["trial", ".", "--weights", "setup.cfg", "--names", "all", "--runs", "."],
            "runs have seen the names",
        ),
    ],
)
def test_bad_input_is_an_error_in_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    status = run_command(
        emoji.main, emoji.Settings, "benchmarks.emoji", None, arguments
    )
    assert status != 0 and message in capsys.readouterr().err
