"""The suite's rivals that need no torch compute one and the same gradient."""

import importlib

import jax
import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.rivals import RIVALS
from tests.helpers import relative

WORK = workloads.workload("w3-2steps-3tasks")
OF_JAX = [name for name, rival in RIVALS.items() if "torch" not in rival.module]


@pytest.fixture(autouse=True)
def relaxed():
    # A textbook relies on implicit promotion.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def run(name):
    rival = RIVALS[name]
    module = importlib.import_module(f"benchmarks.rivals.{rival.module}")
    arrays = workloads.weights(WORK), workloads.episodes(WORK)
    return module.Run(WORK, *arrays, np.float64, **rival.settings)


@pytest.mark.parametrize("name", [n for n in OF_JAX if n != "metajax, first order"])
def test_exact_rivals_agree(float64, name):
    distance = relative(run(name).gradient(), run("textbook JAX, vmap").gradient())
    assert distance < 1e-12


def test_first_order_is_told_apart(float64):
    first = run("metajax, first order").gradient()
    assert relative(first, run("metajax").gradient()) > 1e-3


@pytest.mark.parametrize("name", ["metajax, one device", "textbook JAX, vmap"])
def test_meta_steps_change_the_weights(float64, name):
    rival = run(name)
    before = rival.gradient()
    assert rival.compile() > 0
    rival.steps(2)
    assert relative(rival.gradient(), before) > 1e-3
