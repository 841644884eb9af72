"""Every edge refuses what it cannot read in words, and loses nothing; a few cases.

`python -m benchmarks.fuzz` runs the same properties at scale.
"""

import jax
import pytest

pytest.importorskip("tensorflow_datasets")

from tests.fuzz import runs, sources
from tests.fuzz.edge import drive

EDGES = runs.EDGES | sources.EDGES


@pytest.mark.parametrize("name", EDGES)
def test_bad_input_is_refused(name):
    edge = EDGES[name]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        assert edge.seen <= drive(edge, edge.few).keys()
