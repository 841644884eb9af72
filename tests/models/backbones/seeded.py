"""Weights, pictures and files that a seed makes, the same with timm and without."""

import json
import zlib
from pathlib import Path

import numpy as np

TYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}
GOLDENS = Path(__file__).parent / "goldens"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def seeded_tensors(shapes):
    """Tensors by name, none of which is trivial."""
    return {name: _tensor(name, tuple(shape)) for name, shape in shapes.items()}


def _tensor(name, shape):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    # numpy promises the numbers of this generator for ever.
    random = np.random.RandomState(zlib.crc32(name.encode()))
    normal = random.standard_normal(shape)
    if name.endswith("running_var"):
        normal = 0.5 + random.random_sample(shape)
    elif name.endswith(("token", "pos_embed", "latent")):
        normal = 0.5 * normal
    elif len(shape) > 1:
        normal = normal * (1.5 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(("weight", "gamma")):
        normal = 1 + 0.2 * normal
    else:
        normal = 0.2 * normal
    return normal.astype(np.float32)


def seeded_pictures(shape):
    """`float32[n, height, width, 3]` in [0, 1]."""
    return np.random.RandomState(0).random_sample(shape).astype(np.float32)


def config_for(architecture, size, **arguments):
    """What a config.json says."""
    pictures = {"mean": MEAN, "std": STD, "input_size": (3, *size), "crop_pct": 0.9}
    values = {"architecture": architecture, "pretrained_cfg": pictures}
    return json.loads(json.dumps(values | {"model_args": arguments}))


def file_bytes(tensors):
    """A file of safetensors."""
    header, parts, place = {}, [], 0
    for name, array in tensors.items():
        parts.append(array.tobytes())
        header[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (place, place + array.nbytes),
        }
        place += array.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def write_backbone(folder, tensors, config):
    """A model as it lies on a hub; the path of its tensors."""
    path = folder / "model.safetensors"
    path.write_bytes(file_bytes(tensors))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return path


def write_network(folder, scale=1.0):
    """A small vision transformer as it lies on a hub; the path of its tensors."""
    golden = json.loads((GOLDENS / "vit.json").read_text())
    tensors = seeded_tensors(golden["tensors"])
    tensors["norm.weight"] = (scale * tensors["norm.weight"]).astype(np.float32)
    folder.mkdir(exist_ok=True)
    return write_backbone(folder, tensors, golden["config"])
