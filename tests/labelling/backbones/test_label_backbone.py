"""`metajax label --backbone`: a network of a file, and no run."""

import csv
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from metajax.cli import label as command
from metajax.cli.main import main
from metajax.data.pictures.decoding import decode
from metajax.data.pictures.fitting import Fit, resize
from metajax.errors import InputError
from metajax.experiments.label_outputs import LabelFiles
from metajax.labelling import (
    HEADS,
    FeatureCache,
    FolderLabels,
    ImageLearner,
    LabelledImages,
    backbone_learner,
    read_backbone,
    read_labelled,
    reading,
    teach_backbone,
)
from metajax.labelling.backbones.backbone import _context
from metajax.labelling.backbones.file import picture_format
from metajax.labelling.backbones.heads import balanced_ridge
from metajax.learners.support import SupportFeatures
from metajax.models import load_backbone
from metajax.ops.precision import matmul_precision
from tests.models.backbones.seeded import seeded_tensors, write_backbone

pytestmark = pytest.mark.usefixtures("relaxed")
GOLDENS = Path(__file__).parents[2] / "models" / "backbones" / "goldens"
COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 60), "red": (220, 30, 40)}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The file of a narrow vision transformer for pictures of 32 pixels."""
    golden = json.loads((GOLDENS / "vit.json").read_text())
    config = golden["config"]
    config["pretrained_cfg"] |= {"input_size": [3, 32, 32], "crop_pct": 0.9}
    folder = tmp_path_factory.mktemp("network")
    return write_backbone(folder, seeded_tensors(golden["tensors"]), config)


def save_picture(path, colour, seed):
    """A noisy picture of one colour, of 40 to 60 pixels a side."""
    random = np.random.default_rng(seed)
    shape = (*random.integers(40, 60, 2), 3)
    pixels = np.asarray(COLOURS[colour]) + random.normal(0, 30, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Labelled pictures, and others that are not; one is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for k, colour in enumerate(COLOURS):
        for i in range(3):
            save_picture(folder / "support" / colour / f"{i}.png", colour, 10 * k + i)
        for i in range(3, 10):
            save_picture(folder / "images" / f"{colour}{i}.png", colour, 10 * k + i)
    (folder / "images" / "blue4.png").write_text("no picture")
    return folder


def label(folder, network, out, *more):
    paths = "--support", folder / "support", "--images", folder / "images"
    flags = "--backbone", network, *paths, "--out", out, "--data-dir", out.parent
    return main(["label", *map(str, (*flags, *more))])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def counted(monkeypatch):
    """The numbers of pictures of which features were computed."""
    counts, embed = [], reading.embed_images

    def count(learner, images):
        counts.append(len(images))
        return embed(learner, images)

    monkeypatch.setattr(reading, "embed_images", count)
    return counts


def test_no_run_is_needed_and_features_are_computed_once(
    network, folder, tmp_path, capsys, counted, monkeypatch
):
    out, page = tmp_path / "a.csv", tmp_path / "a.html"
    assert label(folder, network, out, "--html", page) == 0
    said = capsys.readouterr().out
    assert "9 labelled pictures of 3 classes, 3 of each" in said
    assert "leave-one-out accuracy on 9 labelled pictures" in said
    assert "was chosen by leave-one-out accuracy: prototypes" in said
    assert "as the best of 3 on the same pictures, it may be less accurate" in said
    assert "these labelled pictures alone say" in said
    rows = rows_of(out)
    assert "as they are 100.0 %; of the nearest class mean on pixels" in said
    assert len(rows) == 20 and sum(counted) == 29
    assert all(row["file"].startswith(row["label"]) for row in rows)
    assert "cannot be read" in (tmp_path / "a.unreadable.csv").read_text()

    # Again, with one more example, which was among the others: nothing is computed.
    (folder / "support" / "red" / "more.png").write_bytes(
        (folder / "images" / "red7.png").read_bytes()
    )
    monkeypatch.setattr(ImageLearner, "inputs", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(reading, "decode_file", lambda *_: 1 / 0)  # unreadable, then
    again = tmp_path / "b.csv"
    assert label(folder, network, again) == 0
    (folder / "support" / "red" / "more.png").unlink()
    assert [r["label"] for r in rows_of(again)] == [r["label"] for r in rows]


def test_a_page_of_kept_features_decodes_what_it_shows(
    network, folder, tmp_path, monkeypatch
):
    files = ["red5.png", "green5.png"]
    cache = tmp_path / "features.sqlite"
    pages = []
    for _ in range(2):
        labeller = teach_backbone(
            read_backbone(network), folder / "support", head="prototypes", cache=cache
        )
        labels = FolderLabels(labeller, folder / "images", files, shown=2)
        assert [x.label for x in labels] == ["red", "green"]
        pages.append(labels.page())
    assert pages[0] == pages[1] and pages[0].count('loading="lazy"') == 2

    gone = tmp_path / "gone.png"
    monkeypatch.setattr(reading, "decode", lambda _, *pixels: decode(gone, *pixels))
    assert [x.label for x in labels] == ["red", "green"]
    assert labels.page().count("data:image/") == 0


def test_without_a_cache_nothing_is_kept(network, folder, tmp_path):
    assert label(folder, network, tmp_path / "a.csv", "--no-cache") == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.csv",
        "a.unreadable.csv",
    }


def test_features_are_those_of_the_network(network, folder):
    file = read_backbone(network)
    learner = backbone_learner(file)
    names = ["red5.png", "green6.png"]
    (batch,) = reading.read_inputs(learner, folder / "images", names, refuse=print)
    assert batch.files == tuple(names) and batch.inputs.shape == (64, file[0].features)
    backbone = load_backbone(network)
    with Image.open(folder / "images" / names[1]) as image:
        pixels = resize(image, (32, 32), Fit(0.9, "bicubic"))
    expected = backbone.model.apply(backbone.params, jnp.float32(pixels[None]) / 255)
    np.testing.assert_allclose(batch.inputs[1], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(batch.images[1](), pixels)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_tells_colours_apart(network, folder, head, monkeypatch):
    monkeypatch.setattr("metajax.labelling.backbones.heads.STEPS", 1)
    labeller = teach_backbone(read_backbone(network), folder / "support", head=head)
    labels = list(FolderLabels(labeller, folder / "images", ["red5.png", "blue5.png"]))
    assert [x.label for x in labels] == ["red", "blue"]
    assert not any("chosen" in line for line in labeller.expected)


def test_one_picture_a_class_is_taught_by_prototypes(network, folder):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[1] = 255
    support = LabelledImages(("a", "b"), images, np.array([0, 1]))
    labeller = teach_backbone(read_backbone(network), support)
    assert labeller.source.facts["head"] == "prototypes"
    assert "head prototypes: with one picture a class" in labeller.expected[-2]


def test_it_is_saved_by_name_and_refused_if_it_changed(
    network, folder, tmp_path, capsys
):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("model.safetensors", "config.json"):
        (own / name).write_bytes((network.parent / name).read_bytes())
    saved, first = tmp_path / "taught.npz", tmp_path / "a.csv"
    assert label(folder, own, first, "--save", saved, "--head", "ridge") == 0
    assert saved.stat().st_size < network.stat().st_size
    again = ["label", "--from", str(saved), "--images", str(folder / "images")]
    again += ["--out", str(tmp_path / "b.csv"), "--data-dir", str(tmp_path)]
    assert main(again) == 0
    assert (tmp_path / "b.csv").read_bytes() == first.read_bytes()
    own.rename(tmp_path / "moved")
    assert main(again) == 1
    assert main([*again, "--backbone", str(tmp_path / "moved")]) == 0
    config = tmp_path / "moved" / "config.json"
    config.write_text(config.read_text().replace("0.9", "0.8"))
    assert main([*again, "--backbone", str(tmp_path / "moved")]) == 1
    assert "is another backbone than the labeller" in capsys.readouterr().err


def test_other_classes_whiten(network, folder, tmp_path, capsys):
    others = tmp_path / "others"
    for name, colour in {"crimson": "red", "navy": "blue"}.items():
        for i in range(2):
            save_picture(others / name / f"{i}.png", colour, 50 + i)
    out, saved = tmp_path / "a.csv", tmp_path / "taught.npz"
    assert label(folder, network, out, "--others", others, "--save", saved) == 0
    assert "whitened by 4 pictures of 2 other classes" in capsys.readouterr().out
    assert all(row["file"].startswith(row["label"]) for row in rows_of(out))
    again = ["label", "--from", str(saved), "--images", str(folder / "images")]
    again += ["--out", str(tmp_path / "b.csv"), "--data-dir", str(tmp_path)]
    assert main(again) == 0
    assert (tmp_path / "b.csv").read_bytes() == out.read_bytes()

    file, support = read_backbone(network), folder / "support"
    plain = teach_backbone(file, support, head="cosine")
    labeller = teach_backbone(file, support, head="cosine", others=others)
    pictures = np.asarray(read_labelled(support, labeller.source).images[:3])
    features = plain.source.inputs(pictures)
    whitening = labeller.source.whitening
    np.testing.assert_allclose(
        labeller.source.inputs(pictures), whitening(features), rtol=1e-4, atol=1e-4
    )
    assert not np.allclose(
        plain.probabilities(pictures), labeller.probabilities(pictures)
    )

    with pytest.raises(InputError, match="blue, green, red is labelled and among"):
        teach_backbone(file, support, others=support)
    with pytest.raises(InputError, match="for heads on features; choose the head"):
        teach_backbone(file, support, head="pmf", others=others)


def test_an_exported_program_has_the_network_in_it(network, folder, tmp_path):
    pytest.importorskip("flatbuffers")
    program = tmp_path / "program"
    assert label(folder, network, tmp_path / "a.csv", "--export", program) == 0
    exported = jax.export.deserialize(bytearray(program.read_bytes()))
    learner = backbone_learner(read_backbone(network))
    names = ["red5.png", "blue5.png"]
    (batch,) = reading.read_inputs(learner, folder / "images", names, refuse=print)
    shares = exported.call(np.stack([image() for image in batch.images]))
    classes = json.loads((tmp_path / "program.json").read_text())["classes"]
    assert [classes[i] for i in np.argmax(shares, 1)] == ["red", "blue"]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--head", "ridge"], "expected a run's directory or --backbone FILE"),
        (["run", "--head", "ridge"], "--head and --others are for --backbone"),
        (["run", "--others", "{}"], "--head and --others are for --backbone"),
        (["run", "--backbone", "{}"], "expected a run's directory or --backbone"),
        (["--backbone", "{}/none"], "--backbone: {}/none cannot be read"),
        (["--backbone", "{}", "--archives", "a"], "--archives, --run-images and"),
        (["--backbone", "{}", "--masks", "{}/m"], "--backbone is not for --masks"),
    ],
)
def test_mistakes(folder, tmp_path, capsys, flags, said):
    paths = ["--support", folder / "support", "--images", folder / "images"]
    own = [flag.format(tmp_path) for flag in flags]
    out = [] if "--masks" in flags else ["--out", tmp_path / "a.csv"]
    assert main(["label", *own, *map(str, [*paths, *out])]) == 1
    assert said.format(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "network.bin", "config.json"])
@pytest.mark.parametrize("flag", ["out", "html", "save", "export"])
def test_a_backbone_is_not_written_over(network, folder, tmp_path, name, flag):
    """Whichever flag names it, or a saved labeller, or a run that is built on it."""
    (tmp_path / "config.json").write_bytes(
        (network.parent / "config.json").read_bytes()
    )
    for copy in ("model.safetensors", "network.bin"):
        (tmp_path / copy).write_bytes(network.read_bytes())
    files = {"images": folder / "images", "out": tmp_path / "a.csv"}
    said = "a file of parameters|kept for a file of the run"
    with pytest.raises(InputError, match=f"--{flag} would be written over .*({said})"):
        LabelFiles(**{**files, flag: tmp_path / name}).check()


def test_the_commands_heads_are_those_of_the_table():
    assert get_args(command.Heads) == ("auto", *HEADS)


def test_unknown_filters_are_refused(network, tmp_path, capsys, folder):
    config = json.loads((network.parent / "config.json").read_text())
    config["pretrained_cfg"]["interpolation"] = "random"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(network.read_bytes())
    assert label(folder, tmp_path, tmp_path / "a.csv") == 1
    assert "interpolation 'random'" in capsys.readouterr().err


def test_ridge_does_not_favour_the_larger_class():
    x = jnp.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    members = jnp.eye(2)[jnp.array([0] * 9 + [1])]
    examples = SupportFeatures(x, members, jnp.ones(10))
    kernel = balanced_ridge(2).solve({}, examples)["kernel"]
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
    np.testing.assert_allclose(kernel[0, 0], kernel[1, 1], rtol=1e-5)


def test_a_cache_is_shared_bounded_and_checked(tmp_path):
    path = tmp_path / "deep" / "features.sqlite"
    first, second = FeatureCache(path, "a"), FeatureCache(path, "a")
    feature = np.arange(3, dtype=np.float32)
    first.add([("x", feature)])
    second.add([("y", feature + 1)])
    np.testing.assert_array_equal(second.find("x"), feature)
    np.testing.assert_array_equal(first.find("y"), feature + 1)
    assert FeatureCache(path, "other").find("x") is None
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE features SET value = zeroblob(12)")
    assert first.find("x") is None
    first.add([(f"{i}", np.zeros(1000)) for i in range(100)])
    assert FeatureCache(path, "b", most=50_000).find("0") is None
    with closing(sqlite3.connect(path)) as database, database:
        left = database.execute("SELECT count(*) FROM features").fetchone()[0]
    assert 0 < left < 100


def test_features_are_computed_with_the_settings_of_the_caller(network, monkeypatch):
    learner, seen = backbone_learner(read_backbone(network)), []

    def features(self, images):
        device, precision = jax.config.jax_default_device, matmul_precision()
        seen.append((device, precision, threading.current_thread().name))
        return jnp.zeros((len(images), *self.input_shape))

    monkeypatch.setattr(ImageLearner, "features", features)
    device = jax.devices()[0]
    with jax.default_device(device), jax.default_matmul_precision("tensorfloat32"):
        reading.embed_images(learner, np.zeros((20, 32, 32, 3), np.uint8))
    assert [each[:2] for each in seen] == [(device, "tensorfloat32")] * 2
    assert threading.current_thread().name not in {each[2] for each in seen}


def test_features_of_another_learner_are_not_trusted(network, folder):
    file = read_backbone(network)
    support = read_labelled(folder / "support", backbone_learner(file))
    own = teach_backbone(file, support, head="cosine")
    wrong = support._replace(features=np.zeros((9, file.backbone.features), np.float32))
    again = teach_backbone(file, wrong, head="cosine")
    ours, theirs = (each.probabilities(support.images[:2]) for each in (own, again))
    np.testing.assert_array_equal(ours, theirs)


def test_features_are_kept_by_what_computes_them(network, monkeypatch):
    file = read_backbone(network)
    form = picture_format(file.backbone.preprocessing)
    contexts = [_context(file, form)]
    with jax.default_matmul_precision("bfloat16"):
        contexts.append(_context(file, form))
    for name in ("metajax.labelling.backbones.backbone.FEATURES", "PIL.__version__"):
        monkeypatch.setattr(name, "another")
        contexts.append(_context(file, form))
    assert len(set(contexts)) == 4


def test_a_damaged_cache_is_said_once_and_left(tmp_path):
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"no database at all" * 100)
    cache = FeatureCache(path, "a")
    with pytest.warns(UserWarning, match=r"features are not kept in .*; delete it"):
        assert cache.find("x") is None
    cache.add([("x", np.zeros(2))])
    assert cache.find("x") is None
