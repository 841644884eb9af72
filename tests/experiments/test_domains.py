"""A run is evaluated on the data of another family."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.data import ImageStore
from metajax.data.sets import omniglot_builder
from metajax.errors import InputError
from metajax.experiments import run
from metajax.experiments.config import with_learner
from metajax.experiments.domains import domain_of, own_domain
from metajax.experiments.families import OmniglotData
from metajax.experiments.owned import run_of
from metajax.experiments.presets import PRESETS
from metajax.experiments.results import Measured, name_of
from metajax.experiments.tasks import Places
from metajax.experiments.tent import Tent
from tests.helpers import SMALL, small_parts, write_archives, write_image

pytestmark = pytest.mark.usefixtures("relaxed")

GLYPHS, OMNIGLOT = PRESETS["glyphs"], PRESETS["omniglot-5w1s-small"]
FLAGS = [
    *("--data.ways", "2", "--data.queries", "2", "--model.filters", "2"),
    *("--learner", "prototypical", "--outer.steps", "2", "--outer.tasks", "2"),
    *("--evaluation.tasks", "2", "--evaluation.queries", "2"),
]


@pytest.fixture
def glyphs(tmp_path):
    """A run of glyphs that is not trained yet."""
    run.claim(tmp_path / "run", GLYPHS)
    return tmp_path / "run"


def pictures(folder):
    """Two classes a split, of four images: a dark grey each."""
    for split in ("train", "val", "test"):
        for name, ink in {"a": 0, "b": 9}.items():
            for k in range(4):
                path = folder / split / name / f"{k}.png"
                write_image(path, 20 * k + ink, size=(9, 9))
    return folder


def test_a_folder_of_images_for_a_run_of_glyphs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    directory, images = tmp_path / "run", pictures(tmp_path / "birds")
    assert main(["train", "glyphs", *FLAGS, "--run-dir", str(directory)]) == 0
    before = (directory / "evaluation.json").read_bytes()
    argv = ["evaluate", str(directory), "--images", str(images), "--tent.steps", "2"]
    assert main([*argv, "--data-dir", str(tmp_path / "data")]) == 0
    name = "evaluation-on-inverted-test-0steps-2tasks-*-tent2x0.001-step2-birds-*.json"
    (path,) = directory.glob(name)
    assert run_of(path) == directory.resolve()
    protocol = json.loads(path.read_text())["protocol"]
    assert protocol["kind"] == "FolderData" and protocol["size"] == 28
    assert (protocol["ways"], protocol["tasks"], protocol["inverted"]) == (2, 2, True)
    assert (protocol["tent_steps"], protocol["tent_rate"]) == (2, 0.001)
    assert protocol["trained_on"].startswith("kind GlyphsData ways 2 shots 1")
    assert protocol["data_folder"] == str(images)
    assert path.stem.endswith(protocol["data_digest"][:8])
    assert "is not the data of" not in capsys.readouterr().err
    assert (directory / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--on", "glyph"], "no preset 'glyph'; did you mean glyphs?"),
        (["--on", "sinusoid"], "a run of classes is evaluated on tasks of classes, an"),
        (
            ["--on", "rl2-bandit-5a10"],
            "rl2-bandit-5a10 are of trials; choose another",
        ),
        (["--on", "glyph-boxes"], "those of glyph-boxes are of boxes"),
        (["--on", "miniimagenet-5w1s"], "expected --images DIR, the folder"),
        (["--on", "glyphs", "--images", "x"], "--images is not for glyphs"),
        (["--alphabets", "Greek"], "--alphabets is not for tasks of glyphs"),
        (["--on", "omniglot-5w1s", "--ways", "7"], "--ways must be 5, as the run was"),
        (["--alphabets", "A", "--split", "train"], "--alphabets are of test characte"),
        (["--tent.steps", "-1"], "--tent.steps must be a whole number of at least 0"),
        (["--tent.steps", "1", "--tent.rate", "0"], "--tent.rate must be a positive"),
        (["--inverted", "True"], "has no checkpoint yet"),
    ],
)
def test_bad_input(glyphs, capsys, flags, message):
    assert main(["evaluate", str(glyphs), *flags]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1


@pytest.mark.parametrize(
    "source, target, message",
    [
        ("rl2-bandit-5a10", "glyphs", "a run of trials is evaluated on its own"),
        ("sinusoid", "glyphs", "a run of values is evaluated on tasks of values"),
        ("fields-omniglot", None, "folder of images by class are .* --on PRESET too"),
    ],
)
def test_runs_of_other_kinds(source, target, message):
    with pytest.raises(InputError, match=message):
        domain_of(PRESETS[source], Places(images=Path("x")), on=target)


def test_what_labels_no_classes_is_not_inverted():
    domain = domain_of(PRESETS["sinusoid"], Places(), inverted=True)
    with pytest.raises(InputError, match="only images of classes are inverted"):
        domain.build(PRESETS["sinusoid"], Places())
    boxes = PRESETS["glyph-boxes"]
    other = replace(boxes, data=replace(boxes.data, size=32))
    task = boxes.data.build(Places())
    with pytest.raises(InputError, match=r"takes inputs of shape \(32, 32, 3\), and"):
        boxes.data.presented(task, other.data.image_shape)


def test_the_other_family_follows_the_run():
    config = replace(GLYPHS, data=replace(GLYPHS.data, ways=7, shots=2))
    domain = domain_of(config, Places(), on="omniglot-20w1s-prototypical")
    assert (domain.data.ways, domain.data.shots) == (7, 2)
    assert domain.data.train_ways is None
    assert domain.changes(domain.data) == "-7ways-2shots"
    folder = domain_of(config, Places(), on="miniimagenet-5w1s").data
    assert folder.image_shape == (28, 28, 3)
    boxes = PRESETS["boxes-folder-3w1s"]
    scenes = domain_of(boxes, Places(), on="glyph-boxes").data
    assert scenes.image_shape == boxes.data.image_shape


def test_fields_follow_the_size_of_the_images():
    config = PRESETS["fields-omniglot"]
    small = replace(PRESETS["fields-folder"].data, size=20)
    for name in ("fields-glyphs", "fields-distances"):
        domain = domain_of(config, Places(), on=name)
        assert domain.data.size == 28 and domain.data.shots == config.data.shots
        task = domain.build(replace(config, data=domain.data), Places())
        assert task.input_shape == (2,)
    other = domain_of(replace(config, data=small), Places(), on="fields-glyphs")
    assert other.data.size == 20


@pytest.mark.parametrize(
    "on, inverted, flips",
    [
        ("cifar-fs-5w1s", None, True),
        ("cifar-fs-5w1s", True, True),
        ("cifar-fs-5w1s", False, False),
        ("omniglot-5w1s", None, False),
        ("omniglot-5w1s", True, True),
        (None, None, False),
        (None, True, True),
    ],
)
def test_a_name_says_that_inputs_are_inverted_where_the_protocol_does(
    on, inverted, flips
):
    domain = domain_of(GLYPHS, Places(), on=on, inverted=inverted)
    assert domain.flips == flips == domain.facts.get("inverted", False)
    assert domain.name == (f"-on-{on}" if on else "") + "-inverted" * flips


def test_images_of_a_run_of_ink_are_grey():
    coloured = domain_of(GLYPHS, Places(), on="cifar-fs-5w1s")
    shape = coloured.build(replace(GLYPHS, data=coloured.data), Places()).input_shape
    assert shape == (28, 28, 1)


def test_tasks_of_more_outputs_than_the_network_has():
    domain = domain_of(GLYPHS, Places(), on="omniglot-5w1s")
    more = replace(GLYPHS, data=replace(domain.data, ways=7))
    with pytest.raises(InputError, match="has 5 outputs, and tasks of Omniglot need 7"):
        domain.build(more, Places())
    anyway = with_learner(more, "prototypical")
    own = domain._replace(run=with_learner(GLYPHS, "prototypical"))
    assert own.build(anyway, Places()).outputs == 7


def test_tent_needs_logits():
    config = with_learner(GLYPHS, "relation")
    task = config.data.build(Places())
    with pytest.raises(InputError, match="needs logits of classes or masks, and those"):
        Tent(1).wrap(None, config, task)  # pyright: ignore (it is not looked at)


def test_a_name_says_what_is_different():
    where, step = Path("run"), GLYPHS.outer.steps
    task = GLYPHS.data.build(Places())

    def name(domain, data, **more):
        config = replace(GLYPHS, data=data)
        run = Measured(where, config, domain, task, None, None, step, **more)  # pyright: ignore
        settings = GLYPHS.evaluation
        return name_of(run, settings, "test", domain.examples(where, task, "test"))

    own, on = own_domain(GLYPHS), domain_of(GLYPHS, Places(), on="omniglot-5w1s")
    assert name(own, own.data) == "evaluation"
    assert name(on, on.data) == "evaluation-on-omniglot-5w1s"
    chosen = replace(on.data, alphabets=("Greek",))
    assert name(on, chosen).startswith("evaluation-on-omniglot-5w1s-test-")
    assert name(on, chosen).endswith(f"-Greek-1alphabets-step{step}")
    many = replace(on.data, alphabets=("Greek", "Latin"))
    assert name(on, many) != name(on, replace(many, alphabets=("Greek", "Tifinagh")))
    assert "-tent3x0.1-step" in name(own, own.data, tent=Tent(3, 0.1))


@pytest.fixture
def omniglot(tmp_path, monkeypatch):
    """The places of a small Omniglot: Gurmukhi and Kannada are the test's."""
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(SMALL))
    archives = write_archives(tmp_path / "archives")
    return Places(archives=archives, data_dir=tmp_path / "data")


def test_alphabets_of_the_test_and_of_training(omniglot):
    family = OmniglotData(ways=2, rotations=1)
    whole = family.build(omniglot)
    for stream in (False, True):
        places = replace(omniglot, stream=stream)
        one = replace(family, alphabets=("Kannada",), training_alphabets=("Greek",))
        task = one.build(places)
        names = {s: task.store(s).names for s in ("train", "validation", "test")}
        assert names["train"] == ("Greek/character01", "Greek/character02")
        assert names["validation"] == whole.store("validation").names
        assert names["test"] == ("Kannada/character01",)
        drawn = task.episodes("train", 1)(jax.random.key(0), 2).support.inputs
        assert np.asarray(drawn).any()
        with pytest.raises(InputError, match="number of classes, 1 in store, got 2"):
            task.episodes("test", 1)
    assert task.source.contents("test") == whole.source.contents("test")
    trained = task.source.contents("train")
    assert trained.keys() == {"Greek/character01", "Greek/character02"}
    assert trained.items() <= whole.source.contents("train").items()
    missing = replace(family, alphabets=("Greek",)).build(omniglot)
    with pytest.raises(InputError, match="no alphabet Greek; they have Gurmukhi, "):
        missing.store("test")


def test_some_classes_of_a_store():
    images = np.arange(3 * 2, dtype=np.uint8).reshape(3, 2, 1, 1, 1)
    store = ImageStore(images, np.array([2, 1, 2]), ("a", "b", "c"))
    some = store.take(np.array([2, 1]))
    assert some.names == ("c", "b") and some.counts.tolist() == [2, 1]
    assert some.images.ravel().tolist() == [4, 5, 2, 3]
