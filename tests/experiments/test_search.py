"""A search of an architecture from the command line, and what comes of it."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metajax import mse
from metajax.cli.main import main
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError
from metajax.experiments import cell_figures, genotypes, networks, run
from metajax.experiments.config import Config, with_learner
from metajax.experiments.genotypes import alphas_of
from metajax.experiments.learners import Setting
from metajax.experiments.learners.loops import Maml, Tnas
from metajax.experiments.networks import CellsModel
from metajax.experiments.presets import PRESETS
from metajax.models import (
    CellSpace,
    Genotype,
    parameter_count,
    random_genotype,
    strongest,
)
from metajax.models.genotype import KINDS
from metajax.types import Batch, Episode, Model, learner_at
from tests.helpers import FILES, KEY

pytestmark = pytest.mark.usefixtures("relaxed")
SEARCH = """
train glyphs --learner tnas --model cells --model.channels 2 --model.nodes 1
--model.layers normal reduction --model.operations none skip conv-1x1
--model.stride 4 --outer.steps 2 --outer.tasks 2 --evaluation.tasks 2
--evaluation.queries 1 --evaluation.steps 1 --evaluation.inductive-queries 5
--inner.annealing 2 --inner.temperature 0.5
""".split()
SMALL = PRESETS["search-omniglot-5w1s-small"]
SHAPE, WAYS = (28, 28, 1), 5


def test_a_search_ends_in_a_network_of_its_genotype(tmp_path, monkeypatch, capsys):
    temperatures = []

    def noting(space, alphas, *, temperature):
        temperatures.append(temperature)
        return strongest(space, alphas, temperature=temperature)

    monkeypatch.setattr(networks, "strongest", noting)
    monkeypatch.setattr(genotypes, "strongest", noting)
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    folder = tmp_path / "run"
    assert main([*SEARCH, "--run-dir", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names > FILES | {"genotype.json", "cells.png", "alphas.png"}
    (cut,) = folder.glob("evaluation-*-discretised-step2.json")
    assert temperatures == [0.5, 0.5]
    written = json.loads((folder / "genotype.json").read_text())
    genotype, counts = written["genotype"], written["parameters"]
    protocol = json.loads(cut.read_text())["protocol"]
    assert json.loads(protocol["genotype"]) == genotype
    assert protocol["network"] == "cut, not trained again"
    whole = json.loads((folder / "evaluation.json").read_text())["protocol"]
    assert not {"genotype", "network"} & {*whole}
    output = capsys.readouterr().out
    assert f"parameters: {counts['whole']} whole" in output
    assert f"not trained again; --model.genotype {folder} trains them" in output
    options = run.configured(folder).model
    fixed = replace(options, genotype=str(folder))
    assert json.loads(fixed.genotype) == genotype
    params = jax.eval_shape(fixed.build(SHAPE, WAYS).init, KEY)
    assert parameter_count(params) == counts["discretised"] < counts["whole"]
    # The file may go: the configuration holds what was read.
    (folder / "genotype.json").unlink()
    assert replace(fixed, channels=3).space == Genotype.from_dict(genotype)


def test_a_random_architecture_is_kept_as_its_genotype():
    options = CellsModel(nodes=2, random=3)
    drawn = random_genotype(np.random.default_rng(3), CellSpace(2))
    assert options.space == drawn != CellsModel(nodes=2, random=4).space
    assert options.random is None
    assert options.facts == {"genotype": options.genotype}
    assert options.discretised({}, 1.0) is None
    config = replace(with_learner(SMALL, "maml"), model=options)
    assert Config.from_dict(config.as_dict()) == config


def test_the_genotype_is_that_of_the_temperature():
    """Of an edge that leads by little over one, and one by more over many."""
    space = ("skip", "max-pool-3x3", "conv-1x1", "conv-3x3")
    into_last = [1, 0.2, -9, -9], [1, 0.8, -9, -9], [1, 0.5, 0.5, 0.5]
    alphas = dict.fromkeys(KINDS, np.array([*into_last[:2], *into_last]))
    options = CellsModel(nodes=2, operations=space)
    for temperature, sources in ((1.0, [0, 1]), (0.1, [0, 2])):
        cut = options.discretised({"body": {"alphas": alphas}}, temperature)
        assert [edge[1] for edge in json.loads(cut.genotype)["normal"][1]] == sources


def test_a_figure_that_fails_stops_no_run(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(cell_figures, "draw_cells", fail)
    genotype = random_genotype(np.random.default_rng(0), CellSpace(2))
    settings: Any = {"temperature": 1.0, "to": tmp_path}
    genotypes.draw_architecture(genotype, {"w": np.ones(3)}, fail, None, **settings)
    written = json.loads((tmp_path / "genotype.json").read_text())
    assert written == {"genotype": genotype.as_dict(), "parameters": {"whole": 3}}
    assert "figures of the cells were not drawn: no fonts" in capsys.readouterr().err


def test_the_adapted_alphas_are_drawn_at_the_temperature(tmp_path, monkeypatch):
    images = []
    monkeypatch.setattr(cell_figures, "save", lambda *_: None)
    monkeypatch.setattr(Axes, "imshow", lambda _, x, **__: images.append(x))
    monkeypatch.setattr(Figure, "colorbar", lambda *_, **__: None)
    alphas = dict.fromkeys(KINDS, np.array([[1.0, 2.0], [0.0, 3.0]]))
    space = CellSpace(1, ("skip", "conv-1x1"))
    path = tmp_path / "alphas.png"
    cell_figures.draw_alphas(space, alphas, None, path, temperature=0.5)
    expected = jax.nn.softmax(2 * alphas["normal"], -1)
    np.testing.assert_allclose(images, [expected] * 2, rtol=1e-6)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Stored(StagedSampler):
    """Tasks of an array that is to be an argument of what is compiled."""

    store: jax.Array

    def draw(self, key, tasks):
        return jax.random.randint(key, (tasks,), 0, len(self.store))

    def make(self, fetched):
        assert isinstance(self.store, jax.core.Tracer)
        batch = Batch(self.store[fetched], self.store[fetched])
        return Episode(batch, batch)


def test_tasks_are_adapted_to_in_parts_with_the_store_as_an_argument():
    sampler, shapes = Stored(jnp.arange(9.0)), []

    def adapt(meta, support):
        shapes.append(support.inputs.shape)
        return meta * support.inputs

    measured: Any = SimpleNamespace(
        config=SimpleNamespace(evaluation=SimpleNamespace(queries=1)),
        task=SimpleNamespace(episodes=lambda split, queries: sampler),
        learner=SimpleNamespace(adapt=adapt),
        meta=jnp.float32(2),
    )
    adapted = run._adapted(measured, 20)
    rows = sampler.draw(jax.random.key(0), 20)
    np.testing.assert_array_equal(adapted, 2.0 * rows)
    assert {*shapes} == {()}


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
        ("[1]", r'an object of "normal" and "reduction", got .\[1\]'),
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


def test_a_genotype_may_be_indented():
    line = json.dumps(random_genotype(np.random.default_rng(0)).as_dict())
    assert CellsModel(genotype=f" \n{line}").genotype == line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.genotype nowhere", "--model.genotype: cannot read nowhere"),
        ("--model.random 1 --model.genotype {}", "--model.random, not both"),
        ("--model.random -1", "--model.random must be a whole number of at least 0"),
        ("--model.operations conv", "invalid choice 'conv' for argument"),
        ("--model.nodes 0", "--model.nodes must be a whole number of at least 1"),
        ("--model.layers normal", "both kinds in a search, got no reduction one"),
        ("--learner mtl", "a pre-trained body, which an architecture is no part of"),
        ("--learner tnas --model conv4", "--model conv4 has none to search"),
        ("--learner tnas --model.random 1", "--model cells has none to search"),
        ("--learner tnas --inner.warm-up 1", "--inner.warm-up needs --inner.annealing"),
        ("--learner tnas --inner.annealing 1", "--inner.temperature other than 1"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, options, message):
    command = ["train", "glyphs", "--model", "cells", *options.split()]
    assert main([*command, "--run-dir", str(tmp_path / "run")]) != 0
    text = capsys.readouterr().err.strip()
    assert message in text and "\n" not in text


def test_a_genotype_of_other_nodes_is_refused():
    genotype = random_genotype(np.random.default_rng(0), CellSpace(2))
    line = json.dumps(genotype.as_dict())
    with pytest.raises(InputError, match="--model.nodes must be 2"):
        CellsModel(genotype=line).build(SHAPE, WAYS)
    with pytest.raises(InputError, match="not both"):
        CellsModel(genotype=line, nodes=2, random=1).build(SHAPE, WAYS)


def test_the_temperature_of_a_run_falls_and_is_that_of_its_result():
    alphas, x = jnp.array([1.0, 2.0]), jnp.ones((1, 2))
    network = Model(
        lambda key: {"alphas": alphas},
        lambda params, x: x * jax.nn.softmax(params["alphas"])[None],
    )
    setting = Setting(network, 2, mse, {}, (2,), 1, "transductive")
    options = Tnas(temperature=0.5, annealing=2, warm_up=1)
    schedule = options.build_training(setting)
    learners = [learner_at(schedule, step) for step in range(5)]
    learners.append(options.build(setting))
    for learner, value in zip(learners, [1.0, 1.0, 0.75, 0.5, 0.5, 0.5], strict=True):
        outputs = learner.predict({"alphas": alphas}, x)
        np.testing.assert_allclose(outputs[0], jax.nn.softmax(alphas / value))


def test_the_learner_after_a_search_is_maml():
    options = Tnas(rate=0.3, steps=2, alpha_rate=1.0, first_order=4)
    assert options.after_search() == Maml(rate=0.3, steps=2, first_order=4)
    assert Maml(rate=0.3).after_search() == Maml(rate=0.3)
