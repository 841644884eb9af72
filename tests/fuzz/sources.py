"""The edges of data: archives, folders, tables, images, kept arrays, episodes."""

import contextlib
import csv
import functools
import gzip
import io
import json
import os
import stat
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from hypothesis import strategies as st
from PIL import Image

import metajax as mj
from metajax.checks import check_episodes
from metajax.data import image_episodes, image_folder, joint_batches
from metajax.data.folders.listing import list_images
from metajax.data.images import ImageStore
from metajax.data.pictures import decoding
from metajax.data.sets import cifar_builder
from metajax.losses import check_labels
from metajax.training.parallel import check_chunk
from metajax.types import Batch, Episode, Padded
from tests.fuzz import hostile
from tests.fuzz.edge import BOTH, REFUSED, TAKEN, Edge, attempt
from tests.fuzz.runs import METHODS
from tests.helpers import cifar_files, drawing, small_parts, write_image

ONE = {"background": [("Greek", "character01")], "evaluation": []}
DRAWINGS = [
    (f"images_background/Greek/character01/0001_{i + 1:02}.png", drawing(i))
    for i in range(20)
]


def _zip(members, method=zipfile.ZIP_DEFLATED, link=None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for i, (name, content) in enumerate(members):
            info = zipfile.ZipInfo(name)
            if i == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content, method)
    return file.getvalue()


MEMBERS = st.sampled_from(
    [
        "images_background/../character01/1.png",
        "/images_background/Greek/character01/1.png",
        "../Greek/character01/1.png",
        "images_background/Greek/../1.png",
        "images_background/Greek/./1.png",
        "images_background//character01/1.png",
        "images_evaluation/Greek/character01/1.png",
        "images_background/Greek/character01/x.txt",
        "C:\\Greek/a/b/c.png",
    ]
)


@st.composite
def archives(draw) -> bytes:
    """An archive of one character in which a few members are others."""
    members = list(DRAWINGS)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, 19))
        name, content = members[at]
        other = draw(MEMBERS)
        harm = draw(hostile.harms())
        members[at] = draw(
            st.sampled_from([(name, harm(content)), (other, content), (name, b"%!PS")])
        )
    link = draw(st.one_of(st.none(), st.integers(0, 19)))
    return _zip(members, draw(METHODS), link)


ARCHIVES = st.one_of(
    hostile.harms().map(lambda harm: harm(_zip(DRAWINGS))), archives(), archives()
)


def omniglot(folder: Path, content: bytes) -> str:
    """An archive holds what Omniglot does, or is refused."""
    from metajax.data.sets import omniglot_builder as builder

    path = folder / "images_background.zip"
    path.write_bytes(content)
    with mock.patch.object(builder, "PARTS", small_parts(ONE)):
        found, read = attempt(lambda: builder.read_archive(path, "background"))
    if found == TAKEN:
        ((part, alphabet, name, images),) = read
        assert images.shape == (20, 28, 28, 1) and images.dtype == np.uint8
        assert part == "background" and not {alphabet, name} & {"", ".", ".."}
    assert hostile.snapshot(folder) == {str(path): content}
    return found


ONE_EACH = {name: 1 for name in cifar_builder.IMAGES}


@functools.cache
def _cifar() -> dict[str, bytes]:
    """The archive's files with an image of each class in each, of one shade."""
    files = {}
    for name, content in cifar_files(ONE_EACH).items():
        records = np.frombuffer(content, np.uint8).reshape(100, -1).copy()
        records[:, 2:] = records[:, 1:2]
        files[name] = records.tobytes()
    return files


def _tar(members, link=None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i, (name, content) in enumerate(members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if i == link:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


@functools.cache
def _whole() -> tuple[bytes, bytes]:
    """The archive, and what is packed in it."""
    content = _tar(_cifar().items())
    return _packed(content), content


PARTS = st.sampled_from(
    [*ONE_EACH, "../cifar-100-binary/train.bin", "cifar-100-python/train", "x" * 300]
)


@st.composite
def tars(draw) -> tuple[bytes, bool | None]:
    """An archive with a few bytes, members or labels that are others.

    With it, whether it is to be taken, where only its labels may be others.
    """
    packed, plain = _whole()
    kind = draw(st.sampled_from(["packed", "plain", "members", "members", "labels"]))
    if kind == "packed":
        return draw(hostile.harms())(packed), None
    if kind == "plain":
        head = draw(hostile.harms())(plain[:512])
        return _packed(head + plain[512:]), None
    members = list(_cifar().items())
    at = draw(st.integers(0, 1))
    name, content = members[at]
    if kind == "members":
        members[at] = draw(PARTS), draw(hostile.harms())(content)
        members += draw(st.sampled_from([[], [], members, [("readme", b"x")]]))
        return _packed(_tar(members, draw(st.sampled_from([None, None, 0, 1])))), None
    labelled = bytearray(content)
    for _ in range(draw(st.integers(0, 2))):
        record, byte = draw(st.integers(0, 99)), draw(st.integers(0, 1))
        value = draw(st.one_of(st.integers(0, 255), st.sampled_from([99, 100])))
        labelled[record * cifar_builder.RECORD + byte] = value
    members[at] = name, bytes(labelled)
    return _packed(_tar(members)), labelled == content


def cifar(folder: Path, case) -> str:
    """An archive holds images of each class where CIFAR-100 does, or is refused."""
    content, good = case
    path = folder / cifar_builder.FILE
    path.write_bytes(content)
    with mock.patch.object(cifar_builder, "IMAGES", ONE_EACH):
        found, images = attempt(lambda: cifar_builder.read_archive(path))
    assert good is None or good == (found == TAKEN)
    if found == TAKEN:
        assert images.shape == (100, 2, 32, 32, 3) and images.dtype == np.uint8
        # The shade of an image is its label; a few bytes of it may be harmed.
        shades = np.median(images, axis=(2, 3, 4)).T
        assert np.array_equal(shades, [cifar_builder._labels()[0]] * 2)
    assert hostile.snapshot(folder) == {str(path): content}
    return found


PNG = drawing(0)
FILES = st.one_of(
    st.sampled_from(["a.png", "b.png", "a.png", "./a.png", "../secret.png", "HERE"]),
    st.sampled_from(["images/a.png", "images/../images/a.png", '"a.png"', "a"]),
    st.sampled_from(["/data/upload/1/a.png", "images\\b.png", "../set/images/a.png"]),
    hostile.TEXTS,
)


@st.composite
def tables(draw) -> bytes:
    """A table of images, with mistakes."""
    names = draw(
        st.sampled_from(
            [["filename", "label"]] * 6
            + [["label", "x", "filename"], [], ["filename"], ["label"], ["Filename"]]
            + [["image", "Class Name", "split"], ["path", "file", "label"]]
        )
    )
    row = st.tuples(FILES, st.sampled_from(["x", "y"])).map(list)
    rows = draw(st.lists(st.one_of(row, row, st.lists(FILES, max_size=3)), max_size=3))
    text = io.StringIO(newline="")
    write = csv.writer(
        text,
        lineterminator=draw(st.sampled_from(["\r\n", "\n", "\r"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        delimiter=draw(st.sampled_from(",,,;\t|")),
    )
    write.writerows([names, *rows, *draw(st.sampled_from([[], rows]))])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    content = text.getvalue().encode(encoding, errors="surrogatepass")
    return draw(hostile.harms())(content) if draw(st.booleans()) else content


# A table of a split, of a folder, and alone.
TABLES = (
    ("train.csv", "train"),
    ("labels.csv", None),
    ("labels.csv", "labels.csv"),
    ("train.tsv", "train"),
    ("train.jsonl", "train"),
)


@st.composite
def json_lines(draw) -> bytes:
    """The same as JSON lines, of objects and of other values."""
    row = st.fixed_dictionaries({"file_name": FILES, "label": hostile.SCALARS})
    rows = draw(st.lists(st.one_of(row, row, hostile.JSON), max_size=3))
    content = "\n".join(map(json.dumps, rows)).encode()
    return draw(hostile.harms())(content) if draw(st.booleans()) else content


def unwarned(edge):
    """An edge whose folders are odd, and said to be."""

    @functools.wraps(edge)
    def quiet(folder, case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return edge(folder, case)

    return quiet


@unwarned
def tabled(folder: Path, case) -> str:
    """The files that a table names are in its folder, each once."""
    content, (name, given) = case
    root = folder / "set"
    (root / "images").mkdir(parents=True)
    for place in (folder / "secret.png", root / "images/a.png", root / "images/b.png"):
        place.write_bytes(PNG)
    here = str(folder / "secret.png").encode()
    (root / name).write_bytes(content.replace(b"HERE", here))
    path, split = (root / name, None) if given == name else (root, given)
    before = hostile.snapshot(root)
    found, listing = attempt(lambda: list_images(path, split))
    if found == TAKEN:
        files = listing.files
        assert files and len({file.resolve() for file in files}) == len(files)
        assert all(file.resolve().parent == root / "images" for file in files)
        kept = image_folder(path, (2, 2), split=split, cache=folder / "cache")
        assert kept.counts.sum() == len(files)
    assert hostile.snapshot(root) == before
    return found


def _make_link(path: Path, target: str):
    path.symlink_to(target)


KINDS = {
    "image": lambda path, _: path.write_bytes(PNG),
    "text": lambda path, _: path.write_text("text"),
    "folder": lambda path, _: path.mkdir(),
    "pipe": lambda path, _: os.mkfifo(path),
    "link": _make_link,
}
ENTRIES = st.lists(
    st.tuples(
        st.lists(hostile.NAMES, max_size=3),
        st.one_of(
            st.sampled_from(["x.png", "y.JPG", "train.csv"]),
            hostile.NAMES.map(lambda name: name + ".png"),
            hostile.NAMES,
        ),
        st.sampled_from(["image", "image", "image", *KINDS]),
        st.sampled_from([".", "..", "../..", "x.png", "a", "/dev/null", "b"]),
    ),
    max_size=8,
)
SPLITS = st.sampled_from([None, "train", "validation", "test", "val"])


@unwarned
def trees(folder: Path, case) -> str:
    """A folder of anything gives classes of images, or is refused; it never waits."""
    entries, split, cached = case
    root = folder / "set"
    root.mkdir()
    for parents, name, kind, target in entries:
        with contextlib.suppress(OSError, ValueError):
            place = root.joinpath(*parents)
            place.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(place / name):  # to write into a pipe is to wait
                KINDS[kind](place / name, target)
    before = hostile.snapshot(root)
    cache = folder / "cache" if cached else None
    found, store = attempt(lambda: image_folder(root, (2, 2), split=split, cache=cache))
    if found == TAKEN:
        assert len(store.names) == len(store.counts) == len(store.images) > 0
        assert store.counts.min() > 0
    assert hostile.snapshot(root) == before
    return found


MODES = {
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "I", "I;16", "F", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"),
    "PPM": ("RGB",),  # a format that is not read
}
FORMS = [(form, mode) for form, modes in MODES.items() for mode in modes]


@functools.cache
def _image(form: str, mode: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(noise)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    if mode in ("I", "I;16", "F"):
        image = Image.fromarray(noise[..., 0].astype({"F": np.float32}.get(mode, "u2")))
        image = image.convert("I") if mode == "I" else image
    else:
        image = image.convert("RGB").convert(mode)
    options = {"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    image.save(file, form, **options)
    return file.getvalue()


IMAGES = st.tuples(
    st.sampled_from(FORMS),
    st.one_of(st.just(lambda content: content), hostile.harms(), hostile.harms()),
    st.sampled_from(["RGB", "L"]),
)


def images(folder: Path, case) -> str:
    """A file that is harmed is decoded to bytes of the right shape, or refused."""
    form, harm, mode = case
    path = folder / "x.png"
    path.write_bytes(harm(_image(*form)))
    found, pixels = attempt(lambda: decoding.decode_classes([[path]], (3, 4), mode))
    if found == TAKEN:
        assert pixels.shape == (1, 1, 3, 4, len(mode)) and pixels.dtype == np.uint8
    return found


@functools.cache
def _set() -> tuple[Path, str, bytes]:
    """A folder of images that is kept, and the name and the bytes of its cache."""
    folder = tempfile.TemporaryDirectory()
    _keep.append(folder)
    root = Path(folder.name)
    for i, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        write_image(root / "set" / name, 10 * i + 10)
    image_folder(root / "set", (2, 3), cache=root / "cache")
    (kept,) = (root / "cache").glob("*.npy")
    return root / "set", kept.name, kept.read_bytes()


_keep: list[tempfile.TemporaryDirectory] = []


def _other(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archived() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.zeros(3))
    return file.getvalue()


KEPT = st.one_of(
    hostile.harms().map(lambda harm: harm(_set()[2])),
    hostile.harms().map(lambda harm: harm(_set()[2][:128]) + _set()[2][128:]),
    st.sampled_from(
        [
            lambda: _other(np.zeros((2, 2, 2, 3, 3), np.float32)),
            lambda: _other(np.zeros((2, 2, 3, 2, 3), np.uint8)),
            lambda: _other(np.uint8(1)),
            lambda: _other(np.array([{}], object)),
            _archived,
            lambda: _set()[2].replace(b"(2, 2,", b"(2000000000, 2000000000,"),
        ]
    ).map(lambda make: make()),
)


def kept(folder: Path, content: bytes) -> str:
    """What is kept of a folder is read as it was, or decoded again."""
    root, name, whole = _set()
    (folder / name).write_bytes(content)
    plain = np.load(io.BytesIO(whole))
    found, store = attempt(lambda: image_folder(root, (2, 3), cache=folder))
    assert found == TAKEN
    assert store.images.shape == plain.shape and store.images.dtype == plain.dtype
    # Pixels that changed, as many as there were, cannot be told.
    if len(content) != len(whole) or content[128:] == whole[128:]:
        assert np.array_equal(store.images, plain)
    assert [path.name for path in folder.glob("*.npy")] == [name]
    return TAKEN if (folder / name).read_bytes() == content else REFUSED


ARGUMENTS = st.one_of(*[st.integers(1, 3)] * 4, hostile.SCALARS)
DTYPES = st.sampled_from([np.uint8, np.uint8, np.uint8, np.float32, np.int32, bool])
SIZES = st.sampled_from([0, 1, 2, 3, 3])


STORE = ImageStore(np.zeros((3, 6, 2, 2, 1), np.uint8), np.array([4, 6, 5]), ("a",) * 3)
SHAPES = st.sampled_from([(3, 6, 2, 2, 1), (3, 6, 2, 3, 1), (3, 6, 2, 2), (0,) * 5, ()])
STORES = st.one_of(
    st.just(STORE),
    st.builds(np.zeros, SHAPES, DTYPES).map(lambda x: STORE._replace(images=x)),
    st.lists(
        st.sampled_from([4, 4, 5, 6, 7, 0, -1, 2.0, 1.5, np.nan, 2**40]), max_size=4
    ).map(lambda x: STORE._replace(counts=np.array(x))),
    st.sampled_from(
        [
            STORE._replace(counts=[4, 6, 5]),
            STORE._replace(names=("a",)),
            STORE._replace(images=None),
            STORE._replace(counts=None),
        ]
    ),
)


def stored(folder: Path, case) -> str:
    """Episodes can be drawn from every store that is taken."""
    store, ways, shots, queries, rotations = case
    found, sampler = attempt(
        lambda: image_episodes(store, ways, shots, queries, rotations=rotations)
    )
    joint, batches = attempt(
        lambda: joint_batches(store, examples=ways, rotations=rotations)
    )
    if found == TAKEN:
        assert joint == TAKEN
        check_episodes(jax.eval_shape(lambda: sampler(jax.random.key(0), 2)), 2)
        check_episodes(jax.eval_shape(lambda: batches(jax.random.key(0), 2)), 2)
    return found


FACTORIES = {
    "sinusoid": lambda a, b, c, d: mj.data.sinusoid(a, b),
    "glyphs": lambda a, b, c, d: mj.data.glyphs(a, b, c, size=d),
    "split": lambda a, b, c, d: mj.data.glyphs(1, 1, 1, split=a),
    "varied": lambda a, b, c, d: mj.data.varied(mj.data.glyphs(2, 2, 1), a, b),
    "range": lambda a, b, c, d: mj.data.varied(mj.data.glyphs(2, 2, 1), (a, b), (c, d)),
    "folder": lambda a, b, c, d: image_folder("nowhere", (a, b), split=c),
    "size": lambda a, b, c, d: image_folder("nowhere", a),
}
REAL = st.one_of(st.integers(0, 1), hostile.NUMBERS)
TRANSFORMS = {
    "jitter": lambda a, b, c: mj.data.jitter(shift=a, scale=b, turn=c),
    "mixup": lambda a, b, c: mj.data.mixup(a, b),
    "metamix": lambda a, b, c: mj.data.metamix(a, b),
    "chunk": lambda a, b, c: check_chunk(a),
}


def sampled(folder: Path, case) -> str:
    """A sampler's arguments will do, or are refused."""
    name, arguments = case
    if name in TRANSFORMS:
        return attempt(lambda: TRANSFORMS[name](*arguments))[0]
    found, sampler = attempt(lambda: FACTORIES[name](*arguments))
    if (
        found == TAKEN
        and max((x for x in arguments if isinstance(x, int)), default=9) <= 3
    ):
        check_episodes(jax.eval_shape(lambda: sampler(jax.random.key(0), 2)), 2)
    return found


SAMPLED = st.one_of(
    st.tuples(st.sampled_from(list(FACTORIES)), st.tuples(*[ARGUMENTS] * 4)),
    st.tuples(st.sampled_from(list(TRANSFORMS)), st.tuples(*[REAL] * 3)),
)

LEAVES = st.builds(
    np.zeros,
    st.tuples(st.sampled_from([2, 2, 2, 3]), SIZES, SIZES)
    .flatmap(lambda shape: st.sampled_from([shape, shape[:2], shape[:1], ()]))
    .map(tuple),
    DTYPES,
)
TREES = st.recursive(
    st.one_of(LEAVES, LEAVES, hostile.SCALARS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from("xy"), inner, max_size=2)
        | st.builds(Padded, inner, inner, st.none())
    ),
    max_leaves=4,
)
BATCHES = st.one_of(
    st.builds(Batch, LEAVES, LEAVES), st.builds(Batch, TREES, TREES), TREES
)
EPISODES = st.one_of(
    st.builds(Episode, BATCHES, BATCHES), st.builds(Episode, BATCHES, BATCHES), TREES
)


def episodes(folder: Path, case) -> str:
    """Episodes that are taken have tasks and examples on every leaf."""
    given, tasks = case
    found, _ = attempt(lambda: check_episodes(given, tasks))
    if found == TAKEN:
        for side in given:
            assert {leaf.shape[:2] for leaf in jax.tree.leaves(side)} == {
                (tasks, jax.tree.leaves(side)[0].shape[1])
            }
            assert jax.tree.leaves(side.inputs) and jax.tree.leaves(side.targets)
    return found


LABELS = st.tuples(
    st.lists(st.integers(-1, 3), max_size=3).map(lambda x: np.array(x, np.int32)),
    st.integers(1, 4),
)


def labels(folder: Path, case) -> str:
    """Labels that are taken are classes of the outputs, and others are not."""
    targets, ways = case
    found, _ = attempt(lambda: check_labels(targets, ways))
    assert (found == TAKEN) == ((targets >= 0) & (targets < ways)).all()
    return found


EDGES = {
    "Omniglot archives": Edge(ARCHIVES, omniglot, 40, 2_000),
    "CIFAR-100 archives": Edge(tars(), cifar, 30, 4_000, BOTH),
    "tables": Edge(
        st.tuples(tables() | json_lines(), st.sampled_from(TABLES)), tabled, 60, 8_000
    ),
    "folders": Edge(st.tuples(ENTRIES, SPLITS, st.booleans()), trees, 60, 5_000, BOTH),
    "images": Edge(IMAGES, images, 80, 9_000, BOTH),
    "kept images": Edge(KEPT, kept, 60, 3_000),
    "image stores": Edge(
        st.tuples(STORES, *[ARGUMENTS] * 3, st.sampled_from([1, 1, 4, True, 1.0, 2])),
        stored,
        60,
        4_000,
    ),
    "samplers": Edge(SAMPLED, sampled, 60, 5_000, BOTH),
    "episodes": Edge(st.tuples(EPISODES, st.just(2) | ARGUMENTS), episodes, 80, 6_000),
    "labels": Edge(LABELS, labels, 80, 8_000, BOTH),
}
