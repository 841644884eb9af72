"""Every family of backbones against timm's own features, of the same seeded weights."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.models import load_backbone
from tests.helpers import relative
from tests.models.backbones.seeded import (
    seeded_pictures,
    seeded_tensors,
    write_backbone,
)

GOLDENS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "goldens").glob("*.json"))
}
# The eps of CLIP's norms is 1e-5 and that of others 1e-6: 1e-5 would not tell them.
NEAR = 3e-6


@pytest.mark.parametrize("name", GOLDENS)
def test_features_are_timms(name, tmp_path):
    golden = GOLDENS[name]
    tensors = seeded_tensors(golden["tensors"])
    backbone = load_backbone(write_backbone(tmp_path, tensors, golden["config"]))
    expected = np.array(golden["features"])
    assert backbone.features == expected.shape[1]
    pictures = jnp.asarray(seeded_pictures(golden["pictures"]))
    features = jax.jit(backbone.model.apply)(backbone.params, pictures)
    assert features.dtype == jnp.float32
    assert relative(features, jnp.asarray(expected, jnp.float32)) < NEAR
    assert np.abs(features - expected).max() < NEAR * np.abs(expected).max()
