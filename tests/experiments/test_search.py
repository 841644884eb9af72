"""A search of an architecture from the command line, and what comes of it."""

import json
from dataclasses import replace

import jax
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments import run
from metajax.experiments.genotypes import alphas_of
from metajax.experiments.networks import CellsModel
from metajax.experiments.presets import PRESETS
from metajax.models import CellSpace, Genotype, parameter_count, random_genotype
from tests.helpers import FILES, KEY

pytestmark = pytest.mark.usefixtures("relaxed")
SEARCH = """
train glyphs --learner tnas --model cells --model.channels 2 --model.layers reduction
--model.nodes 1 --model.operations none skip conv-1x1 --model.stride 4 --outer.steps 2
--outer.tasks 2 --evaluation.tasks 2 --evaluation.queries 1 --evaluation.steps 1
--evaluation.inductive-queries 5 --inner.annealing 2 --inner.temperature 0.5
""".split()
SHAPE, WAYS = (28, 28, 1), 5


def test_a_search_ends_in_a_network_of_its_genotype(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    folder = tmp_path / "run"
    assert main([*SEARCH, "--run-dir", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names > FILES | {"genotype.json", "cells.png", "alphas.png"}
    (cut,) = folder.glob("evaluation-*-discretised-step2.json")
    found = json.loads((folder / "genotype.json").read_text())
    genotype, counts = found["genotype"], found["parameters"]
    protocol = json.loads(cut.read_text())["protocol"]
    assert json.loads(protocol["genotype"]) == genotype
    whole = json.loads((folder / "evaluation.json").read_text())["protocol"]
    assert "genotype" not in whole
    assert f"parameters: {counts['whole']} whole" in capsys.readouterr().out
    options = run.configured(folder).model
    fixed = replace(options, genotype=str(folder))
    assert json.loads(fixed.genotype) == genotype
    params = jax.eval_shape(fixed.build(SHAPE, WAYS).init, KEY)
    assert parameter_count(params) == counts["discretised"] < counts["whole"]
    # The file may go: the configuration holds what was read.
    (folder / "genotype.json").unlink()
    assert replace(fixed, channels=3).space == Genotype.from_dict(genotype)


def test_a_random_architecture_is_one_of_its_space():
    options = CellsModel(nodes=2, random=3)
    assert options.space == random_genotype(jax.random.key(3), CellSpace(2))
    assert options.discretised({}) is None
    assert PRESETS["search-omniglot-5w1s-small"].model.random is None


def test_the_alphas_are_those_of_the_network():
    model = CellsModel(nodes=1, channels=1).build(SHAPE, WAYS)
    params = model.init(KEY)
    alphas = params["body"]["alphas"]
    assert alphas_of(params) == alphas and alphas_of({"head": 1.0}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*; give the run of a search, or its genotype.json"),
        ("{", "is not a genotype"),
        ("[1]", "is not a genotype"),
        ('{"genotype": {"normal": []}}', 'must be an object of "normal" and "reduc'),
        ("\xff", "is not a genotype"),
    ],
)
def test_a_damaged_genotype_is_one_line(tmp_path, content, message):
    path = tmp_path / "genotype.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        CellsModel(genotype=str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.genotype nowhere", "--model.genotype: cannot read nowhere"),
        ("--model.random 1 --model.genotype {}", "is not a genotype"),
        ("--model.operations conv", "conv"),
        ("--model.nodes 0", "--model.nodes must be a whole number of at least 1"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, options, message):
    command = ["train", "glyphs", "--model", "cells", *options.split()]
    assert main([*command, "--run-dir", str(tmp_path / "run")]) != 0
    text = capsys.readouterr().err.strip()
    assert message in text and "\n" not in text


def test_a_genotype_of_other_nodes_is_refused():
    line = json.dumps(random_genotype(KEY, CellSpace(2)).as_dict())
    with pytest.raises(InputError, match="--model.nodes must be 2"):
        CellsModel(genotype=line).build(SHAPE, WAYS)
    with pytest.raises(InputError, match="not both"):
        CellsModel(genotype=line, nodes=2, random=1).build(SHAPE, WAYS)
