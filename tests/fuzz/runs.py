"""The edges of runs: configurations, the command, metrics, checkpoints, backbones."""

import contextlib
import functools
import io
import json
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import jax
import numpy as np
from hypothesis import strategies as st

import metajax as mj
from metajax._files.arrays import ABOUT, write_arrays
from metajax.checks import check_count
from metajax.cli.main import main
from metajax.evaluation.unfinished import Unfinished
from metajax.experiments import restoring, run
from metajax.experiments.backbone import read_body, write_body
from metajax.experiments.config import Config, changed
from metajax.experiments.labelled import image_learner
from metajax.experiments.labelled_backbone import load_labeller
from metajax.experiments.presets import PRESETS
from metajax.labelling import Labeller, save
from metajax.reporting import JsonLines, read_rows
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState
from metajax.types import Batch
from tests.fuzz import hostile
from tests.fuzz.edge import BOTH, REFUSED, TAKEN, Edge, attempt

UNWRITTEN = ".metajax-12.tmp"  # what a kill leaves
PLAIN = [json.loads(json.dumps(config.as_dict())) for config in PRESETS.values()]


def _dumped(plain) -> bytes:
    return json.dumps(plain, indent=1).encode()


DOCUMENTS = st.one_of(
    st.sampled_from(PLAIN).flatmap(hostile.changed).map(_dumped),
    st.sampled_from(PLAIN).flatmap(hostile.changed).map(_dumped),
    hostile.JSON.map(_dumped),
    st.builds(
        lambda plain, harm: harm(_dumped(plain)),
        st.sampled_from(PLAIN),
        hostile.harms(),
    ),
    st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"data": {}}', b""]),
)


def configuration(folder: Path, document: bytes) -> str:
    """A run's config.json is read whole and will do, or is refused."""
    path = folder / "config.json"
    path.write_bytes(document)
    found, config = attempt(lambda: restoring.recorded_config(folder))
    if found == TAKEN:
        config.check()
        plain = json.loads(json.dumps(config.as_dict()))
        assert Config.from_dict(plain) == config
    assert path.read_bytes() == document
    return found


def _a_run(path: Path, document: bytes):
    path.mkdir()
    (path / "config.json").write_bytes(document)


def _a_link(path: Path, document: bytes):
    path.symlink_to(path)


def _precious(path: Path, document: bytes):
    path.mkdir()
    (path / "thesis.tex").write_bytes(document)


def _begun(path: Path, document: bytes):
    path.mkdir()
    (path / UNWRITTEN).write_bytes(document)


PLACES = (
    lambda path, document: None,
    lambda path, document: path.mkdir(),
    lambda path, document: path.write_bytes(document),
    lambda path, document: (path / "config.json").mkdir(parents=True),
    _a_link,
    _precious,
    _begun,
    _a_run,
    _a_run,
)


def claiming(folder: Path, case) -> str:
    """A directory becomes a run's wholly; or it stays as it was."""
    name, place, document = case
    directory = folder / name
    with contextlib.suppress(OSError):  # a name too long
        place(directory, document)
    before = hostile.snapshot(folder)
    found, _ = attempt(lambda: run.claim(directory, PRESETS["sinusoid"]))
    after = hostile.snapshot(folder)
    if found == REFUSED:
        assert after == before
    else:
        assert before.items() <= after.items()
        assert {Path(path).name for path in after} - {UNWRITTEN} == {
            name,
            "config.json",
        }
        assert restoring.recorded_config(directory) == PRESETS["sinusoid"]
    return found


PLACES_FLAGS = ["--images", "--archives", "--data-dir"]
WORDS = st.one_of(
    hostile.NUMBERS.map(str),
    hostile.TEXTS.filter(lambda text: "\0" not in text),  # no process can be given one
    st.sampled_from(["none", "auto", "adam", "mtl", "thesis", "nowhere", "--", "-h"]),
)
# What ends before it trains: the directory is another's, and there is no network.
FIXED = ["--archives", "nowhere", "--data-dir", "data"]


def _flags(name: str) -> list[str]:
    names = run._flat(PRESETS[name].as_dict())
    own = ["--" + n.replace("_", "-") for n in names if not n.endswith(".kind")]
    return own + PLACES_FLAGS


def _pairs(flags: list[str]):
    """Words of flags and values; most numbers are such as a person would give."""
    values = st.one_of(st.integers(0, 9).map(str), st.integers(0, 9).map(str), WORDS)
    pair = st.tuples(st.sampled_from(flags), values)
    return st.lists(pair, max_size=4).map(lambda pairs: [w for p in pairs for w in p])


def _training(name: str):
    return st.tuples(
        st.sampled_from(["train", "train", "train", "pretrain"]),
        st.just(name),
        _pairs(_flags(name)),
        st.just([*FIXED, "--run-dir", "thesis"]),
    )


PRESET_LINES = st.sampled_from(sorted(PRESETS)).flatmap(_training)
EVALUATE = ["--tasks", "--steps", "--split", "--queries", "--seed", *PLACES_FLAGS]
COMMANDS = st.one_of(
    *[PRESET_LINES] * 10,
    *[
        st.tuples(
            st.just(name),
            st.one_of(WORDS, st.just("thesis")),
            _pairs(flags),
            st.just(FIXED),
        )
        for name, flags in (
            ("evaluate", EVALUATE),
            ("study", ["--tasks", "--seed", "--only", *PLACES_FLAGS]),
        )
    ],
    st.tuples(WORDS, WORDS, _pairs(["--outer.rate", "--x"]), st.just(FIXED)),
).map(lambda line: [line[0], line[1], *line[2], *line[3]])


def command(folder: Path, argv: list[str]) -> str:
    """The command ends with a status and a line, and changes nothing."""
    (folder / "thesis").mkdir()
    (folder / "thesis" / "thesis.tex").write_text("precious")
    before = hostile.snapshot(folder)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(argv)
        except SystemExit as stop:
            status = stop.code
    err.seek(0)
    said = err.read().splitlines()
    assert status in (0, 1, 2) and not any("Traceback" in line for line in said)
    if status == 1:
        assert len([line for line in said if line.startswith("error: ")]) == 1
    assert hostile.snapshot(folder) == before
    return REFUSED if status else TAKEN


ROWS = [
    {"step": 10 * i, "split": split, "loss": 1.5 / (i + 1), "loss_interval": None}
    for i in range(4)
    for split in ("train", "validation")
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
METRICS = st.one_of(
    hostile.harms().map(lambda harm: harm(LINES)),
    st.lists(
        st.one_of(hostile.JSON, st.sampled_from(ROWS).flatmap(hostile.changed)),
        max_size=3,
    ).map(lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()),
    st.binary(max_size=20),
    st.sampled_from([b"[" * 100_000 + b"\n", b"9" * 5000 + b"\n"]),
)


def metrics(folder: Path, content: bytes) -> str:
    """The rows that are read are rows; what cannot be read is left as it is."""
    path = folder / "metrics.jsonl"
    path.write_bytes(content)
    state = TrainState((), (), np.int32(20))
    found, _ = attempt(lambda: JsonLines(path).start(state))
    if found == REFUSED:
        assert path.read_bytes() == content
    else:
        rows = read_rows(path)
        assert all(0 <= row["step"] <= 20 for row in rows)
        assert len(rows) <= content.count(b"\n") == content.count(b"\n")
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    return found


def _state(step: int) -> TrainState:
    meta = {"w": np.full((3, 2), step, np.float32), "b": np.arange(4, dtype="i4")}
    return TrainState(meta, (np.full((), step, "f4"),), np.asarray(step, np.int32))


STEPS = (1, 2, 3)


@functools.cache
def _saved() -> Path:
    """A folder of checkpoints that is kept as it is."""
    folder = tempfile.TemporaryDirectory()
    _keep.append(folder)
    checkpoints = Checkpoints(Path(folder.name) / "checkpoints")
    for step in STEPS:
        checkpoints.save(_state(step))
    return Path(folder.name) / "checkpoints"


_keep: list[tempfile.TemporaryDirectory] = []


def _harmed(path: Path, harm, folder: Path):
    if path.is_file():
        path.write_bytes(harm(path.read_bytes()))


def _removed(path: Path, harm, folder: Path):
    path.unlink() if path.is_file() else shutil.rmtree(path)


def _emptied(path: Path, harm, folder: Path):
    if path.is_dir():
        shutil.rmtree(path)
        path.mkdir()
    else:
        path.write_bytes(b"")


def _foreign(path: Path, harm, folder: Path):
    (path if path.is_dir() else path.parent).joinpath("thesis.tex").write_bytes(b"x")


def _numbered(path: Path, harm, folder: Path):
    for name in ("²", "٣", "007", "4", "9" * 200):
        (folder / name).mkdir(exist_ok=True)


def _moved(path: Path, harm, folder: Path):
    path.rename(folder / "5")


def _linked(path: Path, harm, folder: Path):
    _removed(path, harm, folder)
    path.symlink_to(path)


ACTS = (_harmed,) * 5 + (_removed, _emptied, _foreign, _numbered, _moved, _linked)
CHECKPOINTS = st.lists(
    st.tuples(st.sampled_from(ACTS), st.integers(0, 2**20 - 1), hostile.harms()),
    min_size=1,
    max_size=3,
)


def checkpoints(folder: Path, acts) -> str:
    """The newest whole checkpoint is restored, bit for bit, whatever else is there."""
    kept = folder / "checkpoints"
    shutil.copytree(_saved(), kept)
    for act, share, harm in acts:
        if paths := sorted(kept.rglob("*")):
            with contextlib.suppress(OSError):
                act(paths[share * len(paths) >> 20], harm, kept)
    before = hostile.snapshot(folder)
    whole = [step for step in STEPS if _same(kept / str(step), _saved() / str(step))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, state = attempt(lambda: Checkpoints(kept).restore(_state(0)))
    assert hostile.snapshot(folder) == before, "reading changes nothing"
    if state is None:
        assert not whole
        return REFUSED
    assert int(state.step) >= max(whole, default=0)
    _same_arrays(state, _state(int(state.step)))
    return found


def _same(folder: Path, other: Path) -> bool:
    def relative(root):
        return {p.removeprefix(str(root)): x for p, x in hostile.snapshot(root).items()}

    return folder.is_dir() and relative(folder) == relative(other)


BODY = mj.mlp(2, (3,), 1).parts[0]


@functools.cache
def _backbone() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_body(Path(folder) / "backbone.npz", BODY.init(jax.random.key(0)))
        return (Path(folder) / "backbone.npz").read_bytes()


KEYS = "[0]['bias'].npy", "[0]['kernel'].npy"
HEADERS = st.builds(
    lambda descr, order, shape, more: repr(
        {"descr": descr, "fortran_order": order, "shape": shape, **more}
    ).encode(),
    st.sampled_from(["<f4", "|O", ">f8", "<U9", "V3", "x", "<f4,", [("a", "<f4")], 1]),
    st.sampled_from([False, True, None, "x"]),
    st.one_of(
        st.sampled_from([(3,), (2, 3), (2**40,), (2**62, 2**62), (-1,), (3.0,), [3]]),
        hostile.JSON,
    ),
    st.sampled_from([{}, {}, {"x": 1}]),
)
ARRAYS = st.one_of(
    st.builds(
        lambda version, header, data: (
            b"\x93NUMPY"
            + bytes([version, 0])
            + len(header).to_bytes(2 if version == 1 else 4, "little")
            + header
            + data
        ),
        st.integers(1, 3),
        st.one_of(HEADERS, st.binary(max_size=20), st.just(b"(" * 5000)),
        st.binary(max_size=30),
    ),
    st.binary(max_size=30),
)


def _archive(members, method: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


METHODS = st.sampled_from(
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
BACKBONES = st.one_of(
    hostile.harms().map(lambda harm: harm(_backbone())),
    st.builds(
        _archive,
        st.lists(st.tuples(st.sampled_from((*KEYS, "x.npy")), ARRAYS), max_size=3),
        METHODS,
    ),
    st.builds(lambda content, harm: harm(content), ARRAYS, hostile.harms()),
)


def backbone(folder: Path, content: bytes) -> str:
    """A backbone has the shapes of its body, or is refused."""
    path = folder / "backbone.npz"
    path.write_bytes(content)
    found, body = attempt(lambda: read_body(path, BODY))
    if found == TAKEN:
        like = jax.eval_shape(BODY.init, jax.random.key(0))
        given = jax.tree.map(lambda x: (x.shape, str(x.dtype)), body)
        assert given == jax.tree.map(lambda x: (x.shape, str(x.dtype)), like)
    assert hostile.snapshot(folder) == {str(path): content}
    return found


@functools.cache
def _labeller() -> Labeller:
    """A learner of a few numbers, taught three classes."""
    changes = {"learner": "prototypical", "model": {"filters": 2}}
    source = image_learner(changed(PRESETS["glyphs"], changes))
    learner = source.build(3, None)
    support = Batch(np.ones((4, 28, 28, 1), "f4"), np.array([0, 1, 2, 2], np.int32))
    adapted = learner.adapt(learner.learner.init(jax.random.key(0)), support)
    classes, expected = ("a", "b", "c"), ("expect 90 %",)
    return Labeller(source, classes, 4, learner, adapted, 1.5, expected)


@functools.cache
def _taught() -> tuple[bytes, dict]:
    """The learner as a file, and what the file says that it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapted.npz"
        save(_labeller(), path)
        with zipfile.ZipFile(path) as archive:
            return path.read_bytes(), json.loads(archive.read(ABOUT))


def _resaved(about, arrays) -> bytes:
    """A file whose checksum is right, whatever is in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapted.npz"
        write_arrays(path, about, arrays)
        return path.read_bytes()


def _retold(told: bytes) -> bytes:
    """The learner's file with another description of it."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_taught()[0])) as old,
        zipfile.ZipFile(file, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, told if name == ABOUT else old.read(name))
    return file.getvalue()


OTHERS = (
    lambda leaf: leaf[None],
    lambda leaf: leaf.astype("f8"),
    lambda leaf: leaf[..., :1],
    lambda leaf: leaf.ravel(),
    lambda leaf: leaf * np.nan,
)


@st.composite
def learners(draw) -> bytes | None:
    """The learner's file, harmed, or saved again with something else in it."""
    content, told = _taught()
    about, taught = told["about"], jax.tree.map(np.asarray, _labeller().adapted)
    kind = draw(st.sampled_from(["bytes", "bytes", "told", "about", "config", "array"]))
    if kind == "bytes":
        return draw(hostile.harms())(content)
    if kind == "told":
        return _retold(draw(st.one_of(hostile.changed(told).map(_dumped), DOCUMENTS)))
    if kind == "about":
        about = draw(hostile.changed(about))
    if kind == "config":
        about = about | {"config": draw(hostile.changed(about["config"]))}
    if kind == "array":
        leaves, structure = jax.tree.flatten(taught)
        at = draw(st.integers(0, len(leaves) - 1))
        leaves[at] = draw(st.sampled_from(OTHERS))(leaves[at])
        taught = jax.tree.unflatten(structure, leaves)
    return _resaved(about, {"taught": taught, "backbone": None})


MEMBERS_OF_ONE = st.tuples(st.sampled_from((ABOUT, "0.npy")), ARRAYS)
SAVED = st.one_of(
    *[learners()] * 6,
    st.builds(_archive, st.lists(MEMBERS_OF_ONE, max_size=3), METHODS),
    st.sampled_from([b"", None]),  # none: a folder
)


def saved(folder: Path, content: bytes | None) -> str:
    """A saved learner labels, or is refused."""
    path = folder / "adapted.npz"
    path.mkdir() if content is None else path.write_bytes(content)
    found, labeller = attempt(lambda: load_labeller(path))
    if found == TAKEN:
        images = jax.ShapeDtypeStruct((2, *labeller.source.format.shape), np.uint8)
        shares = jax.eval_shape(labeller.probabilities, images)
        assert shares.shape == (2, len(labeller.classes)) and shares.dtype == np.float32
    assert hostile.snapshot(folder) == {str(path): content}
    return found


def _same_arrays(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


SCORES = [(np.full((2, 3), float(i)), np.full((2, 3), -float(i))) for i in range(4)]


@functools.cache
def _unfinished() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Unfinished(Path(folder) / "scores.npz", "ours").write(SCORES)
        return (Path(folder) / "scores.npz").read_bytes()


MEMBERS = st.sampled_from(("owner.npy", "together.npy", "apart.npy"))
UNFINISHED = st.one_of(
    hostile.harms().map(lambda harm: harm(_unfinished())),
    st.builds(_archive, st.lists(st.tuples(MEMBERS, ARRAYS), max_size=3), METHODS),
)


def unfinished(folder: Path, content: bytes) -> str:
    """Scores are those that were kept, or none: the evaluation begins anew."""
    path = folder / "scores.npz"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        scores = Unfinished(path, "ours").read()
    assert hostile.snapshot(folder) == {str(path): content}
    for (a, b), (c, d) in zip(scores, SCORES):
        assert np.array_equal(a, c) and np.array_equal(b, d)
    assert len(scores) in (0, len(SCORES))
    return TAKEN if scores else REFUSED


def counts(folder: Path, case) -> str:
    """A count is a whole number that JAX can hold."""
    value, least = case
    found, number = attempt(lambda: check_count("n", value, least=least))
    if found == TAKEN:
        assert type(number) is int and least <= number < 2**31 and number == value
    return found


COUNTS = st.tuples(
    st.one_of(
        hostile.JSON,
        st.floats(width=32).map(np.float32),
        st.sampled_from(
            [np.array([1, 2]), np.array(2.5), np.int64(3), np.bool_(True), 1j, object()]
        ),
    ),
    st.integers(0, 2),
)

EDGES = {
    "configurations": Edge(DOCUMENTS, configuration, 100, 14_000),
    "run directories": Edge(
        st.tuples(
            st.one_of(hostile.NAMES, st.just("a" * 300)),
            st.sampled_from(PLACES),
            DOCUMENTS,
        ),
        claiming,
        60,
        6_000,
        BOTH,
    ),
    "command lines": Edge(COMMANDS, command, 8, 600),
    "metrics": Edge(METRICS, metrics, 100, 14_000, BOTH),
    "checkpoints": Edge(CHECKPOINTS, checkpoints, 15, 600, frozenset({TAKEN})),
    "backbones": Edge(BACKBONES, backbone, 60, 8_000),
    "saved learners": Edge(SAVED, saved, 30, 4_000),
    "unfinished evaluations": Edge(UNFINISHED, unfinished, 60, 8_000),
    "counts": Edge(COUNTS, counts, 100, 10_000),
}
