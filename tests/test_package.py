"""What importing does, and does not."""

import subprocess
import sys

import pytest

HEAVY = (
    "tensorflow_datasets",
    "grain",
    "matplotlib",
    "orbax",
    "flax",
    "tyro",
    "rich",
    "equinox",
)


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_is_light():
    loaded = python("import sys, metajax; print(*sys.modules)").split()
    assert "metajax.data.sets.omniglot" in loaded
    assert not set(HEAVY) & set(loaded)


def test_importing_changes_no_global_and_starts_no_backend():
    code = """
import jax
before = dict(jax.config.values)
import metajax
assert before == dict(jax.config.values)
jax.config.update("jax_num_cpu_devices", 2)  # raises once a backend is up
"""
    python(code)


@pytest.mark.parametrize("missing", ["tensorflow_datasets", "array_record"])
def test_runs_without_tfds(missing):
    code = f"""
import sys
sys.modules[{missing!r}] = None
import jax, optax, metajax as mj
learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), steps=2, tasks=2)
mj.data.glyphs()(jax.random.key(0), 1)
if {missing!r} == "tensorflow_datasets":
    try:
        mj.data.omniglot("test")
    except mj.InputError as error:
        print(error)
    else:
        raise SystemExit("no error")
"""
    out = python(code)
    if missing == "tensorflow_datasets":
        assert "pip install tensorflow-datasets" in out
