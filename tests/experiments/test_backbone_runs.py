"""Runs on a pre-trained network of a file: `metajax train --backbone FILE`."""

import json

import pytest

from metajax.cli.main import main
from metajax.cli.starting import read_start
from metajax.errors import InputError
from metajax.experiments.networks import BackboneModel
from tests.helpers import write_image
from tests.models.backbones.seeded import write_network

pytestmark = pytest.mark.usefixtures("relaxed")


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "network")


def test_the_short_name_is_that_of_a_model(network):
    start = read_start(["miniimagenet-5w1s-small", f"--backbone={network}", "--seed=1"])
    assert start is not None
    assert isinstance(start.config.model, BackboneModel)
    assert start.rest[:4] == ("--model", "backbone", "--model.file", str(network))


def test_a_network_is_known_by_its_content(network, tmp_path):
    model = BackboneModel(str(network))
    assert model.build((32, 32, 3), 5).parts is not None
    copy = write_network(tmp_path / "copy")
    assert BackboneModel(str(copy.parent)) == model
    other = write_network(tmp_path / "other", scale=2.0)
    assert BackboneModel(str(other)) != model
    with pytest.raises(InputError, match="is another backbone than that of this"):
        BackboneModel(str(other), model.digest)
    with pytest.raises(InputError, match="these data do not fit .*multiples of"):
        model.build((30, 30, 3), 5)
    with pytest.raises(InputError, match="needs --model.file FILE"):
        BackboneModel().build((32, 32, 3), 5)
    with pytest.raises(InputError, match="none cannot be read"):
        BackboneModel(str(tmp_path / "none"))


@pytest.mark.filterwarnings("ignore:.* have a novelty above 0.5")
def test_a_run_begins_at_the_network_and_holds_to_it(network, tmp_path, capsys):
    for i in range(3 * 5 * 3):
        split = ("train", "validation", "test")[i // 15]
        place = tmp_path / "images" / split / f"{i // 3 % 5}" / f"{i % 3}.png"
        write_image(place, i)
    flags = [
        *("train", "miniimagenet-5w1s-small", "--learner", "prototypical"),
        *("--images", str(tmp_path / "images"), "--backbone", str(network)),
        *("--data.size", "32", "--data.queries", "1", "--outer.steps", "1"),
        *("--outer.tasks", "1", "--evaluation.tasks", "2"),
        *("--evaluation.queries", "1", "--evaluation.inductive-queries", "1"),
        *("--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "kept")),
    ]
    assert main(flags) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["kind"] == "BackboneModel" and config["model"]["digest"]
    support = str(tmp_path / "images" / "train")
    out = str(tmp_path / "a.csv")
    pictures = ["--images", str(tmp_path / "images" / "test"), "--out", out]
    taught = ["label", str(tmp_path / "run"), "--support", support, *pictures]
    assert main([*taught, "--run-images", str(tmp_path / "images")]) == 0
    write_network(tmp_path / "network", scale=2.0)
    assert main(taught) == 1
    assert "is another backbone than that of this" in capsys.readouterr().err
    assert main(flags) == 1
    assert "is another backbone than that of this" in capsys.readouterr().err
