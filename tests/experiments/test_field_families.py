"""Runs on fields, from the presets through the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.evaluation import task_outputs
from metajax.experiments import field_figures, run
from metajax.experiments.build import build_learner, build_task, build_training_learner
from metajax.experiments.config import Config, with_learner
from metajax.experiments.domains import domain_of
from metajax.experiments.families import FolderFieldsData, GlyphClassesData
from metajax.experiments.families.fields import FieldData
from metajax.experiments.families.labelled_fields import take_first, take_split
from metajax.experiments.learners.fields import Mwt
from metajax.experiments.networks import FourierMLPModel, SirenModel
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from metajax.metrics import Z95
from metajax.training import dispatching
from metajax.types import Batch
from tests.helpers import FILES, write_image

pytestmark = pytest.mark.usefixtures("relaxed")

OF_FIELDS = [n for n, c in PRESETS.items() if isinstance(c.data, FieldData)]
SMALL = {"maml", "meta-sgd", "reptile", "cavia"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    monkeypatch.setattr(dispatching, "CPU_BYTES", 1.0)  # a meta-step a dispatch


def small(name, **changes):
    """A preset on tiny images, with a tiny network."""
    config = PRESETS[name]
    data = replace(config.data, size=8, shots=16, queries=8)
    config = replace(config, data=data, model=SirenModel((4, 4)))
    return replace(config, **changes)


def losses(config):
    """The shapes of a learner's loss, and the metrics of training."""
    task = build_task(config, Places())
    learner, episodes = build_training_learner(config, task), task.episodes("train", 8)

    def value(key):
        one = jax.tree.map(lambda x: x[0], episodes(key, 1))
        return learner.loss(learner.init(key), one)

    return jax.eval_shape(value, jax.random.key(0))


@pytest.mark.parametrize("learner", sorted(SMALL))
@pytest.mark.parametrize("model", [SirenModel((4,)), FourierMLPModel((4,), 3)])
def test_learners_with_an_inner_loop_take_fields(learner, model):
    value, metrics = losses(with_learner(small("fields-glyphs", model=model), learner))
    assert value.shape == () and metrics.keys() == {"loss", "psnr"}


@pytest.mark.parametrize("features", ["weights", "detached-weights", "values"])
def test_classifiers_of_weights_and_of_pixels(features):
    config = small("fields-glyphs-classes")
    config = replace(config, inner=replace(config.inner, features=features))
    if features == "values":
        with pytest.raises(InputError, match="values needs all pixels of each image"):
            losses(config)
        config = replace(config, data=replace(config.data, shots=None))
    value, metrics = losses(config)
    assert value.shape == () and metrics.keys() == {"loss", "signal_accuracy"}


def test_distances_are_judged_in_sides_of_the_image():
    config = small("fields-distances")
    assert losses(config)[1].keys() == {"loss", "rmse"}
    assert build_task(config, Places()).metric.unit == "sides"


@pytest.mark.parametrize("model", [SirenModel((4,)), FourierMLPModel((4,), 3)])
@pytest.mark.parametrize("name", ["fields-glyphs", "fields-glyphs-classes"])
def test_a_precision_that_rounds_phases_is_refused(name, model):
    config = small(name, model=model, precision="bfloat16")
    with pytest.raises(InputError, match="bfloat16 is too low for --model"):
        losses(config)


@pytest.mark.parametrize("on", ["fields-glyphs-classes", "fields-omniglot-classes"])
def test_labels_are_of_the_runs_own_classes(on):
    with pytest.raises(InputError, match="labelled fields of glyphs is evaluated on"):
        domain_of(PRESETS["fields-glyphs-classes"], Places(), on=on)


def test_three_splits_need_four_drawings():
    config = PRESETS["fields-glyphs-classes"]
    few = replace(config, data=replace(config.data, drawings=3))
    with pytest.raises(InputError, match="--data.drawings .* at least 4, got 3"):
        few.check()


def flags(folder, preset):
    values = {
        "data.size": 8,
        "data.shots": 16,
        "data.queries": 8,
        "model.hidden": 4,
        "outer.steps": 2,
        "outer.tasks": 2,
        "evaluation.tasks": 2,
        "evaluation.queries": 48,
        "evaluation.inductive-queries": 48,
        "run-dir": folder,
    }
    pairs = [(f"--{name}", str(value)) for name, value in values.items()]
    return ["train", preset, *(word for pair in pairs for word in pair)]


def test_a_run_of_fields(tmp_path, capsys):
    assert main(flags(tmp_path / "run", "fields-glyphs")) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(result["transductive"]["mean"]) == 9
    np.testing.assert_allclose(
        result["transductive"]["mean"], result["inductive"]["mean"], rtol=1e-4
    )
    assert "dB" in (tmp_path / "run" / "evaluation.txt").read_text()
    assert main(["label", str(tmp_path / "run"), "--images", str(tmp_path)]) == 1
    capsys.readouterr()
    assert main([*flags(tmp_path / "more", "fields-glyphs"), "--data.shots", "60"]) == 1
    assert (
        "--data.shots + --data.queries must be at most the 64" in capsys.readouterr()[1]
    )


def test_a_run_of_labelled_fields(tmp_path):
    """An image that several tasks draw counts once in its result."""
    directory = tmp_path / "run"
    more = "--data.classes", "2", "--data.drawings", "10", "--inner.hidden", "4"
    argv = [*flags(directory, "fields-glyphs-classes"), *more]
    assert main([*argv, "--evaluation.tasks", "12"]) == 0
    result = json.loads((directory / "evaluation.json").read_text())
    assert (directory / "adaptation.png").exists()
    assert result["protocol"]["metric"] == "signal_accuracy"

    config = run.configured(directory)
    task = build_task(config, Places())
    learner = build_learner(config, task, steps=config.evaluation.steps)
    meta, _ = run.restored(directory, config, task)
    sampler = task.episodes("test", 48)
    outputs, targets = task_outputs(learner, meta, sampler, tasks=12).transductive
    right = outputs.labels[:, :, 0].argmax(-1) == targets.labels[:, :1]
    images = targets.signals[:, 0]
    assert 2 <= len(set(images)) <= 4, "of 2 classes, 2 drawings of each"
    each = np.array([right[images == image].mean(0) for image in set(images)])
    np.testing.assert_allclose(result["transductive"]["mean"], each.mean(0))
    half = Z95 * each.std(0, ddof=1) / np.sqrt(len(each))
    np.testing.assert_allclose(result["transductive"]["interval"], half)


def test_figures_start_anew_beside_the_learnt_start():
    config = small("fields-glyphs")
    task = build_task(config, Places())
    learner = build_learner(config, task, steps=3)
    meta = jax.tree.map(jnp.zeros_like, learner.init(jax.random.key(1)))
    panels = field_figures.fit_images(
        task, learner, meta, config.data.image_shape, metric=task.metric
    )
    assert panels.steps == [0, 1, 2, 3]
    assert panels.fields.shape == (3, 2, 4, 8, 8, 1)
    assert not np.isnan(panels.truth).any()
    assert (~np.isnan(panels.support)).sum((1, 2, 3)).tolist() == [16] * 3
    assert (panels.fields[:, 0, 0] == 0).all(), "the given start"
    standard = learner.init(jax.random.key(0))
    assert np.abs(panels.fields[:, 1, 0] - panels.fields[:1, 1, 0]).max() < 1e-6
    grid = field_figures.pixel_coordinates(8, 8)
    expected = learner.predict(standard, grid).reshape(8, 8, 1)
    np.testing.assert_allclose(panels.fields[0, 1, 0], expected, atol=1e-5)
    hidden = np.isnan(panels.support[0])
    error = (panels.truth[0][hidden] ** 2).mean()
    assert panels.scores[0, 0, 0] == pytest.approx(-10 * np.log10(error), rel=1e-4)


def test_pixels_are_put_back_where_they_were():
    points = field_figures.pixel_coordinates(3, 2)
    batch = Batch(points[None, 2:4], jnp.array([[[5.0], [6.0]]]))
    image = field_figures._scattered(batch, (3, 2, 1))[0, ..., 0]
    np.testing.assert_array_equal(image, [[np.nan] * 2, [5, 6], [np.nan] * 2])


@pytest.mark.parametrize("stream", [False, True])
def test_a_folder_of_pictures(tmp_path, stream):
    for split, red in (("train", 10), ("validation", 20), ("test", 30)):
        write_image(tmp_path / split / "one" / "a.png", (red, 0, 0), size=(9, 9))
    places = Places(images=tmp_path, data_dir=tmp_path / "data", stream=stream)
    task = FolderFieldsData(shots=4, size=4).build(places)
    query = task.episodes("test", 5)(jax.random.key(0), 2).query
    assert query.targets.shape == (2, 5, 3)
    np.testing.assert_allclose(255 * query.targets[..., 0], 30, rtol=1e-5)
    assert task.source.contents("test").keys() == {"one"}
    with pytest.raises(InputError, match="expected --images DIR"):
        FolderFieldsData().build(replace(places, images=None))


def test_splits_of_a_class_share_no_drawing():
    whole = GlyphClassesData(classes=3, drawings=10, size=8).whole(Places())()
    parts = [
        take_split(whole, split).images for split in ("train", "validation", "test")
    ]
    assert [x.shape[1] for x in parts] == [6, 2, 2]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole.images)
    assert take_first(whole, 2).names == whole.names[:2]
    with pytest.raises(InputError, match="at most the 3 classes .* got 4"):
        take_first(whole, 4)
    with pytest.raises(InputError, match="at least 4 images of each class, got 3"):
        take_split(whole._replace(counts=np.full(3, 3)), "validation")


@pytest.mark.parametrize("name", OF_FIELDS)
def test_presets_have_a_network_of_coordinates(name):
    config = PRESETS[name]
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert isinstance(config.model, SirenModel)
    assert isinstance(config.inner, Mwt) == name.endswith("-classes")
    pixels = config.data.image_shape[0] ** 2
    queries = config.evaluation.queries
    assert queries == (pixels if config.data.shots is None else pixels * 3 // 4)
