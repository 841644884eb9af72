"""What fuzzing found, shrunk; and the bombs, pipes and pickles it cannot be left to."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_datasets")

import metajax as mj
from metajax.checks import check_count, check_episodes
from metajax.data import image_folder
from metajax.data.images import ImageStore, image_episodes
from metajax.data.pictures import decoding
from metajax.data.sets import omniglot_builder
from metajax.experiments import restoring, run
from metajax.experiments.backbone import read_body
from metajax.experiments.figures import learning_curve
from metajax.experiments.presets import PRESETS
from metajax.reporting import JsonLines, read_rows
from metajax.training.checkpoints import Checkpoints
from metajax.types import Batch, Episode
from tests.fuzz import runs, sources
from tests.helpers import small_parts, write_image

PLAIN = json.loads(json.dumps(PRESETS["glyphs"].as_dict()))


def refused(call, *, match):
    with pytest.raises(mj.InputError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, match",
    [
        (dict(data=[]), "data must be an object of names and values"),
        (dict(data={"kind": ["x"]}), "the kind of data must be SinusoidData or"),
        (dict(inner={"rate": True}), "rate of inner must be float, got True"),
        (dict(inner={"rate": 10**400}), "rate of inner must be float"),
        (dict(inner={"batch": 1.0}), r"batch of inner must be int \| None, got 1.0"),
        (dict(outer={"clip": "1"}), "clip of outer must be float"),
        (dict(outer={"x": 1}), "outer has an unknown 'x'"),
        (dict(learner="x"), "learner must be one of maml, fomaml"),
        (dict(model={"kind": "MLPModel", "hidden": [1, None]}), "hidden of model must"),
        (dict(data={"kind": "OmniglotData", "rotations": True}), "must be Literal"),
        (dict(seed=2**32), "--seed must be at most 4294967295"),
        (dict(outer={"steps": 10**30}), "--outer.steps must be at most 2147483647"),
    ],
)
def test_a_configuration_of_other_types(tmp_path, changes, match):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN | changes))
    refused(lambda: restoring.recorded_config(tmp_path), match=match)


def test_a_configuration_that_is_too_deep(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    refused(lambda: restoring.recorded_config(tmp_path), match="maximum recursion d")


@pytest.mark.parametrize("name", ["\udcff", "\0", "\ud800"])
def test_a_run_directory_that_has_no_name_in_text(tmp_path, name):
    claim = lambda: run.claim(tmp_path / name, PRESETS["sinusoid"])  # noqa: E731
    refused(claim, match="its name is not UTF-8 text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_are_those_that_are_told_apart(seed):
    for changes in (
        dict(seed=seed),
        dict(evaluation=replace(PRESETS["glyphs"].evaluation, seed=seed)),
    ):
        config = replace(PRESETS["glyphs"], **changes)
        refused(config.check, match="seed must be")
    fit = lambda: mj.fit(None, None, None, steps=1, tasks=1, seed=seed)  # noqa: E731
    refused(fit, match="seed must be")
    learner = mj.Learner(*[None] * 5)
    evaluate = lambda: mj.evaluate(learner, None, None, seed=seed)  # noqa: E731
    refused(evaluate, match="seed must be")


def test_a_count_of_the_wrong_kind():
    for value in (np.array([1, 2]), np.array(2.5), np.bool_(True), "1", None, 2.0):
        refused(lambda: check_count("n", value, least=1), match="n must be a whole")
    refused(lambda: check_count("n", 2**31, least=1), match="n must be at most")
    assert check_count("n", np.array(3), least=1) == 3


@pytest.mark.parametrize(
    "line, match",
    [
        (b"{}", "'step'"),
        (b"[1]", "not a row of metrics"),
        (b"", "not a row of metrics"),
        (b"\x80", "not a row of metrics"),
        (b'{"step": true}', "its step must be a whole number"),
        (b"[" * 100_000, "maximum recursion depth"),
    ],
)
def test_a_line_that_is_no_row(tmp_path, line, match):
    path, content = tmp_path / "metrics.jsonl", b'{"step": 1}\n' + line + b"\n"
    path.write_bytes(content)
    state = runs._state(5)
    refused(lambda: JsonLines(path).start(state), match=f"line 2 of .*{match}")
    assert path.read_bytes() == content
    path.write_bytes(b'{"step": 1}\n\x80')  # cut short
    assert read_rows(path) == [{"step": 1}]


def test_rows_of_anything_are_drawn(tmp_path):
    odd = {"step": 1, "split": "train", "mse": "x", "mse_interval": None}
    good = odd | {"mse": 1.0, "mse_interval": 0.1}
    learning_curve(
        [{"step": 1}, odd, good, good | {"step": 2}], mj.metrics.mse, tmp_path
    )
    assert (tmp_path / "learning_curve.png").exists()


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of three steps, and their folder."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in runs.STEPS:
        checkpoints.save(runs._state(step))
    return checkpoints, tmp_path / "checkpoints"


def test_a_manifest_that_names_other_arrays_is_damaged(saved):
    checkpoints, folder = saved
    manifest = folder / "3" / "manifest" / "metadata"
    manifest.write_text(manifest.read_text().replace("float32", "gloat32"))
    with pytest.warns(UserWarning, match="checkpoint 3 in .* is damaged"):
        assert int(checkpoints.restore(runs._state(0)).step) == 2
    for step in (1, 2):
        os.rename(folder / str(step), folder / f"away-{step}")
    refused(lambda: checkpoints.restore(runs._state(0)), match="not what was written")


def test_folders_with_numbers_that_are_no_steps(saved):
    checkpoints, folder = saved
    for name in ("²", "٣", "007"):
        (folder / name).mkdir()
    assert checkpoints.steps() == [1, 2, 3]


def test_a_checkpoint_under_another_number(saved):
    checkpoints, folder = saved
    (folder / "1").rename(folder / "9")
    with pytest.warns(UserWarning, match="checkpoint 9 in .* is damaged"):
        assert int(checkpoints.restore(runs._state(0)).step) == 3


def peak(call):
    """Bytes of memory that Python had at most in a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ZEROS = bytes(2**26)


def understated(content: bytes) -> bytes:
    """The same archive, whose members say that they have 100 bytes."""
    content = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + at : start + at + 4] = (100).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize(
    "method, harm",
    [
        (zipfile.ZIP_DEFLATED, bytes),
        (zipfile.ZIP_DEFLATED, understated),
        (zipfile.ZIP_BZIP2, understated),
    ],
)
def test_members_that_unpack_to_more_than_memory(tmp_path, method, harm):
    name, _ = sources.DRAWINGS[0]
    drawings = [(name, ZEROS), *sources.DRAWINGS[1:]]
    path = tmp_path / "images_background.zip"
    path.write_bytes(harm(sources._zip(drawings, method)))
    body = tmp_path / "backbone.npz"
    body.write_bytes(harm(sources._zip([("[0]['bias'].npy", ZEROS)], method)))
    assert body.stat().st_size < 2**19

    def both():
        with mock.patch.object(omniglot_builder, "PARTS", small_parts(sources.ONE)):
            read = lambda: omniglot_builder.read_archive(path, "background")  # noqa: E731
            refused(read, match="is truncated or damaged")
        refused(lambda: read_body(body, runs.BODY), match="is not a backbone")

    jax.eval_shape(runs.BODY.init, jax.random.key(0))
    assert peak(both) < 2**24


def test_an_archive_whose_members_point_outside(tmp_path):
    path = tmp_path / "images_background.zip"
    for name in (
        "/images_background/Greek/1.png",
        "../Greek/character01/1.png",
        "images_background/../character01/1.png",
    ):
        path.write_bytes(sources._zip([(name, sources.PNG), *sources.DRAWINGS[1:]]))
        with mock.patch.object(omniglot_builder, "PARTS", small_parts(sources.ONE)):
            read = lambda: omniglot_builder.read_archive(path, "background")  # noqa: E731
            refused(read, match="expected 20 drawings of Greek/character01, found 19")


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_pickle_is_loaded(tmp_path):
    touched = tmp_path / "touched"
    pickled = np.empty(3, object)
    pickled[:] = Touch(touched)
    np.savez(tmp_path / "backbone.npz", **{"[0]['bias']": pickled})
    refused(lambda: read_body(tmp_path, runs.BODY), match="Object arrays cannot")
    (tmp_path / "backbone.npz").write_bytes(pickle.dumps(Touch(touched)))
    refused(lambda: read_body(tmp_path, runs.BODY), match="is not a backbone")

    write_image(tmp_path / "set" / "a" / "1.png", 9)
    first = image_folder(tmp_path / "set", (2, 2), cache=tmp_path / "cache").images
    (kept,) = (tmp_path / "cache").glob("*.npy")
    pickled = pickled.reshape(1, 1, 1, 1, 3)
    for write in (lambda: np.save(kept, pickled), lambda: pickled.dump(kept)):
        write()
        again = image_folder(tmp_path / "set", (2, 2), cache=tmp_path / "cache").images
        np.testing.assert_array_equal(again, first)
    assert not touched.exists()
    pickle.loads(pickle.dumps(Touch(touched))).close()
    assert touched.exists(), "it would have been"


def test_kept_images_of_another_shape_are_decoded_again(tmp_path):
    write_image(tmp_path / "set" / "a" / "1.png", 9)
    first = image_folder(tmp_path / "set", (2, 2), cache=tmp_path / "cache").images
    (kept,) = (tmp_path / "cache").glob("*.npy")
    for other in (np.zeros(3), np.zeros((1, 1, 2, 2, 3)), np.zeros((9,) * 5, "u1")):
        np.save(kept, other)
        again = image_folder(tmp_path / "set", (2, 2), cache=tmp_path / "cache").images
        np.testing.assert_array_equal(again, first)


def test_a_folder_of_a_long_name_is_kept(tmp_path):
    folder = tmp_path / ("é" * 127)
    write_image(folder / "a" / "1.png", 9)
    image_folder(folder, (2, 2), cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "1.png")
    refused(lambda: image_folder(tmp_path), match="it is not a file")


def test_links_between_classes_are_followed_once(tmp_path):
    names = "abcdefghij"
    for i, name in enumerate(names):
        write_image(tmp_path / name / "1.png", i)
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.warns(UserWarning, match="^100 links are passed over"):
        store = image_folder(tmp_path, (2, 2))
    assert store.names == tuple(names)  # not 10! of them


def test_folders_deeper_than_recursion_goes(tmp_path):
    deep = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("a", dir_fd=deep)
        deeper = os.open("a", os.O_DIRECTORY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)
    try:
        refused(lambda: image_folder(tmp_path), match="no folders of images")
    finally:  # pytest's own cleaning recurses
        subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)


@pytest.mark.parametrize("cached", [False, True])
def test_a_table_that_points_outside(tmp_path, cached):
    write_image(tmp_path / "secret.png", 9)
    (tmp_path / "set").mkdir()
    cache = tmp_path / "cache" if cached else None
    for file in ("../secret.png", tmp_path / "secret.png"):
        (tmp_path / "set" / "train.csv").write_text(f"filename,label\n{file},x\n")
        read = lambda: image_folder(tmp_path / "set", split="train", cache=cache)  # noqa: E731
        refused(read, match="line 2 of .*secret.png, which is not in")


def test_the_size_of_images():
    for size in (5, (1, 2, 3), ("a", 1)):
        refused(lambda: image_folder("nowhere", size), match="must be")
    refused(lambda: image_folder("x", (9460, 1)), match="height must be at most 9459")


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_an_image_of_ninety_million_pixels(tmp_path, form):
    path = tmp_path / "x.png"
    Image.new("1", (20_000, 4_500)).save(path, form)
    call = lambda: decoding.decode_classes([[path]], (4, 4), "RGB")  # noqa: E731
    refused(call, match="has too many pixels")


def test_an_archive_runs_no_program(tmp_path):
    """PostScript under the name of a drawing is not given to an interpreter."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 105 105\n%%EndComments\n"
    path = tmp_path / "images_background.zip"
    path.write_bytes(
        sources._zip([(sources.DRAWINGS[0][0], script), *sources.DRAWINGS[1:]])
    )
    with (
        mock.patch.object(omniglot_builder, "PARTS", small_parts(sources.ONE)),
        mock.patch("PIL.EpsImagePlugin.Ghostscript") as ghostscript,
    ):
        read = lambda: omniglot_builder.read_archive(path, "background")  # noqa: E731
        refused(read, match="cannot identify image file")
    assert not ghostscript.called


@pytest.mark.parametrize(
    "changes, match",
    [
        (dict(counts=np.array([2, 0])), "counts must be at most the 2 images"),
        (dict(counts=np.array([2, np.nan])), "counts must be at most the 2 images"),
        (dict(counts=None), "counts and names must have one entry for each"),
        (dict(images=None), "images must be uint8"),
        (dict(images=np.zeros((0, 2, 2, 2, 1), np.uint8)), "images must be uint8"),
    ],
)
def test_a_store_whose_parts_do_not_fit(changes, match):
    store = ImageStore(np.zeros((2, 2, 2, 2, 1), "u1"), np.array([2, 2]), ("a", "b"))
    refused(lambda: image_episodes(store._replace(**changes), 1, 1, 1), match=match)
    for rotations in (True, 1.0, [1]):
        call = lambda: image_episodes(store, 1, 1, 1, rotations=rotations)  # noqa: E731
        refused(call, match="rotations must be")


def test_ranges_of_something_else():
    episodes = mj.data.glyphs(2, 2, 1)
    for end in (None, "a", 2.0):
        call = lambda: mj.data.varied(episodes, (1, end), (1, 2))  # noqa: E731
        refused(call, match="the max of ways must be a whole number")


@pytest.mark.parametrize(
    "batch", [None, Batch(None, np.zeros((2, 3))), Batch("x", 1), np.zeros((2, 3))]
)
def test_episodes_of_something_else(batch):
    good = Batch(np.zeros((2, 3, 1)), np.zeros((2, 3)))
    check_episodes(Episode(good, good), 2)
    refused(lambda: check_episodes(Episode(good, batch), 2), match="Batch|batches")
