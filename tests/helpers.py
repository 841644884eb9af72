"""Small models, episodes and oracles that several tests share."""

import contextlib
import os
import socket
import tarfile
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

import metajax as mj
from metajax.data.sets import omniglot_builder
from metajax.data.sets._cifar_classes import CLASSES, PAIRS
from metajax.types import Batch, Episode

KEY = jax.random.key(0)
ARCHIVES = os.environ.get("METAJAX_OMNIGLOT_ARCHIVES")
FILES = {  # of a finished run
    "config.json",
    "metrics.jsonl",
    "events",
    "checkpoints",
    "best",
    "evaluation.json",
    "evaluation.txt",
    "learning_curve.png",
    "adaptation.png",
    ".lock",
}


def lenient(optimizer):
    """Adam counts in integers: optax relies on implicit promotion there."""

    def update(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*args, **kwargs)

    return optax.GradientTransformation(optimizer.init, update)


INNER = {
    "sgd": lambda rate: optax.sgd(rate),
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": lambda rate: lenient(mj.adam(rate)),
}


def relative(tree, reference):
    """Relative L2 distance of two pytrees, in which True is 1.

    It is computed in numpy, since JAX would compile a few programs for each set of
    shapes, and refuses several types where JAX does.
    """

    def numbers(tree):
        parts = [np.ravel(x) for x in jax.tree.leaves(tree)]
        kinds = {float if x.dtype == bool else x.dtype for x in parts}
        dtype = jnp.result_type(*map(jax.dtypes.canonicalize_dtype, kinds))
        return np.concatenate(parts).astype(dtype)

    a, b = map(numbers, (tree, reference))
    assert a.shape == b.shape
    both = jnp.promote_types(a.dtype, b.dtype)
    wide = complex if jnp.issubdtype(both, jnp.complexfloating) else float
    a, b = a.astype(wide), b.astype(wide)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def image_episode(key, *, ways=3, shots=1, queries=2, size=16, dtype=jnp.float32):
    """Random images: a prototype a class and noise."""
    keys = jax.random.split(key, 3)
    shape = (size, size, 1)
    prototypes = jax.random.normal(keys[0], (ways, 1, *shape), dtype)

    def batch(key, n):
        noise = jax.random.normal(key, (ways, n, *shape), dtype)
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), n)
        return Batch((prototypes + noise).reshape(-1, *shape), labels)

    return Episode(batch(keys[1], shots), batch(keys[2], queries))


def sine_episode(key, dtype=jnp.float32):
    episode = jax.tree.map(lambda x: x[0], mj.data.sinusoid(5, 5)(key, 1))
    return jax.tree.map(lambda x: x.astype(dtype), episode)


def small_conv(dtype=jnp.float32, pooling="max", ways=3):
    return mj.conv4(ways, 4, pooling, image_shape=(16, 16, 1), dtype=dtype)


def naive_maml(model, loss, rule, steps, *, stop=False):
    """MAML as a Python loop of `jax.grad`: the oracle. `rule(params, grads, k)`."""

    def support_loss(params, batch):
        return loss(model.apply(params, batch.inputs), batch.targets)

    def outer(meta, episode):
        params = meta
        for k in range(steps):
            grads = jax.grad(support_loss)(params, episode.support)
            params = rule(params, jax.lax.stop_gradient(grads) if stop else grads, k)
        return loss(model.apply(params, episode.query.inputs), episode.query.targets)

    return outer


def gradient(learner):
    """Of a learner's outer loss, by (meta, episode); one program."""
    return jax.jit(jax.grad(lambda meta, episode: learner.loss(meta, episode)[0]))


@cache
def compiled(build, *ways):
    """`build(*ways)`, compiled once for the tests of a module, and its gradient."""
    learner = build(*ways)
    return learner._replace(
        adapt=jax.jit(learner.adapt), predict=jax.jit(learner.predict)
    ), gradient(learner)


def descend(rate):
    return lambda params, grads, _: jax.tree.map(
        lambda p, g: p - rate * g, params, grads
    )


def preprocessed(x, p=10.0):
    """Andrychowicz et al., appendix A, of one number."""
    if abs(x) >= np.exp(-p):
        return np.log(abs(x)) / p, np.sign(x)
    return -1.0, np.exp(p) * x


def squash(z):
    return 1 / (1 + np.exp(-z))


def lstm_by_hand(weights, x, h, c):
    """One step of an LSTM in numpy: its output and its cell."""
    gates = np.concatenate([x, h]) @ weights["kernel"] + weights["bias"]
    i, f, g, o = np.split(gates, 4)
    c = squash(f) * np.asarray(c) + squash(i) * np.tanh(g)
    return squash(o) * np.tanh(c), c


@contextlib.contextmanager
def compilations():
    """The names of the programs that are compiled in the block."""
    names = []

    def listen(event, *_args, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(kwargs.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def small_parts(characters):
    """What `omniglot_builder.PARTS` would be for archives of few characters."""
    return {
        name: part._replace(characters=len(characters[name]))
        for name, part in omniglot_builder.PARTS.items()
    }


SMALL = {
    "background": [
        ("Greek", "character01"),
        ("Greek", "character02"),
        ("Hebrew", "character01"),
    ],
    "evaluation": [
        ("Angelic", "character01"),
        ("Gurmukhi", "character41"),
        ("Gurmukhi", "character42"),
        ("Kannada", "character01"),
    ],
}


def drawing(number: int) -> bytes:
    """A 105x105 PNG of one bit: paper white, one black square placed by `number`."""
    pixels = np.full((105, 105), True)
    row, column = 15 * (number % 6), 15 * (number // 6 % 6)
    pixels[row : row + 20, column : column + 20] = False
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_archives(folder: Path, characters=SMALL, drawings=20) -> Path:
    """Small archives in Omniglot's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, names in characters.items():
        with zipfile.ZipFile(folder / f"images_{part}.zip", "w") as archive:
            for i, (alphabet, character) in enumerate(names):
                for j in range(drawings):
                    path = f"images_{part}/{alphabet}/{character}/{i:04}_{j + 1:02}.png"
                    archive.writestr(path, drawing(i))
    return folder


def cifar_files(images):
    """Files of CIFAR-100's binary form, `images` of each class in each, shuffled."""
    alphabetical = sorted(name for _, name in PAIRS)
    groups, of = list(CLASSES), {name: group for group, name in PAIRS}
    random, files = np.random.default_rng(0), {}
    for name, count in images.items():
        records = random.integers(0, 256, (100 * count, 3074), np.uint8)
        records[:, 1] = random.permutation(np.arange(100 * count) % 100)
        records[:, 0] = [groups.index(of[alphabetical[c]]) for c in records[:, 1]]
        files[name] = records.tobytes()
    return files


def write_tar(path: Path, files) -> Path:
    """A .tar.gz of bytes by name; of (name, bytes), also of one name twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


def write_image(path: Path, colour, size=(6, 4)) -> None:
    """An image of one colour (one number: a grey), in the form its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (colour,) * 3 if isinstance(colour, int) else colour
    Image.new("RGB", size, colour).save(path)


def cut(path):
    """Damages a file by half of it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Damages a file by a bit in sixteen bytes."""
    content = bytearray(path.read_bytes())
    for i in range(0, len(content), 16):
        content[i] ^= 0x40
    path.write_bytes(content)


def free_address():
    """Where processes on this machine may meet."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return f"localhost:{server.getsockname()[1]}"
