"""The command as a person runs it."""

import signal

import jax
import pytest


@pytest.fixture(autouse=True)
def relaxed(strict):
    """Optax and orbax rely on implicit promotion."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def heeds_interrupts():
    """Ctrl-C, which tests that a script's background job runs were told to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
