"""Files of safetensors: the format's own, and every way to be none."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax._files.safetensors import (
    read_safetensors,
    read_texts,
    write_safetensors,
)
from tests.models.backbones.seeded import file_bytes

GOLDENS = Path(__file__).parents[1] / "models" / "backbones" / "goldens"
TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.float16),
}
WHOLE = file_bytes(TENSORS)


def with_header(change):
    """The file, with its header changed."""
    size = int.from_bytes(WHOLE[:8], "little")
    header = json.loads(WHOLE[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + WHOLE[8 + size :]


def test_reads_what_the_formats_own_library_wrote():
    arrays = read_safetensors(GOLDENS / "types.safetensors")
    assert {name: (x.dtype, x.shape) for name, x in arrays.items()} == {
        "half": (np.float16, (2, 3)),
        "brain": (jnp.bfloat16, (6,)),
        "whole": (np.int64, (4,)),
        "empty": (np.float32, (0, 3)),
        "scalar": (np.float64, ()),
    }
    assert arrays["half"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["brain"].astype(float).tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert arrays["whole"].tolist() == [0, 1, 2, 3]
    assert arrays["scalar"] == 0.5


def test_reads_what_a_test_wrote(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    for name, array in read_safetensors(path).items():
        np.testing.assert_array_equal(array, TENSORS[name])


def test_writes_every_type(tmp_path):
    path = tmp_path / "model.safetensors"
    before = read_safetensors(GOLDENS / "types.safetensors") | {
        "key": np.array([1, 2], np.uint32)
    }
    write_safetensors(path, before, {"licence": "MIT"})
    after = read_safetensors(path)
    assert after.keys() == before.keys() and read_texts(path) == {"licence": "MIT"}
    for name, array in before.items():
        assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
        assert after[name].tobytes() == array.tobytes()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    with pytest.raises(mj.InputError, match="z is complex64, expected one of float64"):
        write_safetensors(path, {"z": np.zeros(2, np.complex64)}, {})
    assert read_texts(path) == {"licence": "MIT"}


@pytest.mark.parametrize("texts", [3, {"a": 1}, ["a"]])
def test_refuses_what_is_no_text(tmp_path, texts):
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header(lambda h: h.update(__metadata__=texts)))
    with pytest.raises(mj.InputError, match="damaged in its __metadata__"):
        read_texts(path)


BAD = {
    "empty": (b"", "not in the format of safetensors"),
    "few bytes": (WHOLE[:5], "not in the format"),
    "cut in its header": (WHOLE[:40], "cut short in its header"),
    "cut": (WHOLE[:-1], "was cut short or changed"),
    "longer": (WHOLE + b"x", "was cut short or changed"),
    "text": (b"PyTorch weights, as text", "not in the format"),
    "zipped pickle": (b"PK\x03\x04" + bytes(90), "is a pickle.*weights_only=True"),
    "pickle": (b"\x80\x02}q\x00." + bytes(90), "is a pickle"),
    "header of no JSON": (WHOLE[:9] + b"?" + WHOLE[10:], "damaged in its header"),
    "deep header": (
        (200_002).to_bytes(8, "little") + b'{"a":' + b"[" * 199_997,
        "damaged in its header",
    ),
    "another type": (
        with_header(lambda h: h["a"].update(dtype="F8_E4M3")),
        "a has the type F8_E4M3, expected one of F64",
    ),
    "another shape": (
        with_header(lambda h: h["a"].update(shape=[2, 4])),
        r"a is F32\[2, 4\] in bytes 0 to 24, which cannot be",
    ),
    "no shape": (with_header(lambda h: h["a"].pop("shape")), "a is described wrongly"),
    "no entry": (with_header(lambda h: h.update(a=3)), "a is described wrongly"),
    "fractions": (
        with_header(lambda h: h["a"].update(shape=[2.0, 3])),
        "which cannot be",
    ),
    "beyond": (
        with_header(lambda h: h["b"].update(data_offsets=[10**9, 10**9 + 8])),
        "was cut short or changed",
    ),
    "before": (
        with_header(lambda h: h["b"].update(data_offsets=[-8, 0])),
        "which cannot be",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case, tmp_path):
    content, message = BAD[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(mj.InputError, match=message) as error:
        read_safetensors(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_refuses_what_is_not_there(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(mj.InputError, match="cannot be read"):
            read_safetensors(path)
