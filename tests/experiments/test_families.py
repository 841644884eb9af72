"""Families of tasks: what each reads, and from where."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax.errors import InputError
from metajax.experiments.families import FAMILIES, CubData
from metajax.experiments.families import cub as module
from metajax.experiments.tasks import Places
from tests.helpers import write_image

pytestmark = pytest.mark.usefixtures("relaxed")


def test_every_family_says_where_its_data_come_from():
    assert all(len(kind.origin) == 2 for kind in FAMILIES)


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """Eight species of a colour each, of two photographs."""
    monkeypatch.setattr(module, "CLASSES", 8)
    for k in range(8):
        for i in range(2):
            path = tmp_path / "images" / f"{k + 1:03}.Bird" / f"{i}.png"
            write_image(path, (30 * k, 0, 0), size=(9, 9 + i))
    return tmp_path / "images"


@pytest.mark.parametrize("stream", [False, True])
def test_birds_are_split_by_their_numbers(birds, tmp_path, stream):
    places = Places(images=birds, data_dir=tmp_path / "data", stream=stream)
    family = CubData(ways=2, size=4)
    task = family.build(places)
    shown = {"train": {0, 2, 4, 6}, "validation": {1, 5}, "test": {3, 7}}
    for split, classes in shown.items():
        drawn = task.episodes(split, 1)(jax.random.key(0), 30).support.inputs
        reds = np.unique(np.round(255 * np.asarray(drawn[..., 0])).astype(int))
        assert set(reds // 30) == classes
        names = {f"{k + 1:03}.Bird" for k in classes}
        assert task.source.contents(split).keys() == names
    assert task.joint(4).classes == 4


def test_birds_of_a_part_of_the_archive(birds, tmp_path):
    places = Places(images=birds, data_dir=tmp_path / "data")
    write_image(birds / "200.Other" / "0.png", (0, 9, 0), size=(9, 9))
    with pytest.raises(InputError, match="expected the 8 classes .* got 9"):
        CubData().build(places).episodes("test", 1)
    with pytest.raises(InputError, match="expected --images DIR"):
        CubData().build(replace(places, images=None))
