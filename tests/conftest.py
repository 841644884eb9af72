"""Strict JAX for every test: two CPU devices, no implicit promotion."""

import gc
import os
import subprocess

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests.slow import SLOW

# The tests compile many small programs once: optimising them costs more than it gains.
FLAGS = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):  # an unknown flag is fatal, and later ones lack it
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
jax.config.update("jax_num_cpu_devices", 2)
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # the command keeps no programs then


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks what `tests/slow.py` lists."""
    for item in items:
        function = item.nodeid.partition("[")[0]
        if {item.nodeid, function, function.partition("::")[0]} & SLOW:
            item.add_marker("slow")


def pytest_collection_finish():
    """Keeps imported modules, which stay to the end, out of garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def forgetful():
    """Forgets what a module compiled: Linux maps at most 65,530 pieces of memory."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def kept_programs(tmp_path_factory):
    """Compiles once what several runs of a module trace anew, such as a resumed one."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: getattr(jax.config, name) for name in settings}
    configure(settings)
    yield
    configure(before)


def configure(settings):
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def relaxed(strict):
    """As the command runs: optax, orbax and textbooks rely on implicit promotion."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(kib)` is a file system of that size, where one may be mounted."""
    mounted = []

    def mount(kib):
        folder = tmp_path / "small-disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a file system needs a privilege")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
