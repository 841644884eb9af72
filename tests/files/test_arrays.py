"""Arrays in a file come back, or the file is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax._files.arrays import read_about, read_arrays, write_arrays
from metajax.errors import InputError
from tests.helpers import cut

TREE = {"a": np.arange(3.0), "b": (np.ones((2, 2), np.float32), None)}


def test_saved_arrays_come_back(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"classes": ["é", "b"]}, TREE)
    assert read_about(path) == {"classes": ["é", "b"]}
    read = read_arrays(path, TREE)
    assert jax.tree.structure(read) == jax.tree.structure(TREE)
    jax.tree.map(np.testing.assert_array_equal, read, TREE)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["0"], TREE["a"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn])
def test_saved_arrays_of_a_dtype_of_jax_come_back(tmp_path, dtype):
    path, tree = (
        tmp_path / "a.npz",
        {"a": jnp.arange(3, dtype=dtype) / 7, "b": dtype(2)},
    )
    write_arrays(path, {}, tree)
    read = read_arrays(path, jax.eval_shape(lambda: tree))
    jax.tree.map(np.testing.assert_array_equal, read, jax.tree.map(np.asarray, tree))
    assert read["a"].dtype == dtype and read["b"].shape == ()


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"classes": ["é", "b"]}, TREE)
    whole = path.read_bytes()
    for i in range(0, len(whole), 3):
        broken = bytearray(whole)
        broken[i] ^= 0x10
        path.write_bytes(broken)
        try:
            read = read_arrays(path, TREE)
        except InputError as error:
            assert str(path) in str(error) and "save it again" in str(error)
        else:  # a date, say
            jax.tree.map(np.testing.assert_array_equal, read, TREE)
    path.write_bytes(whole)
    cut(path)
    with pytest.raises(InputError, match="is not a saved learner, or is damaged"):
        read_about(path)
    with pytest.raises(InputError, match="expected a saved learner"):
        read_about(tmp_path)


def test_other_arrays_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {}, TREE)
    with pytest.raises(InputError, match=r"expected \['a'\] float64\[4\]"):
        read_arrays(path, TREE | {"a": np.zeros(4)})


def test_another_form_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    monkeypatch.setattr("metajax._files.arrays.SCHEMA", 2)
    write_arrays(path, {}, TREE)
    monkeypatch.undo()
    with pytest.raises(InputError, match="was saved in form 2, and .* reads form 1"):
        read_about(path)
