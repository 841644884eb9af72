"""What a learnt start of a field saves, and the memory of its meta-gradient."""

import json
from dataclasses import replace

import jax
import pytest

from benchmarks.fields import __main__ as fields
from benchmarks.fields import memory
from metajax.errors import InputError
from metajax.experiments import run
from metajax.experiments.build import build_learner, build_task
from metajax.experiments.networks import SirenModel
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import init_state

pytestmark = pytest.mark.usefixtures("relaxed")


def test_a_run_is_measured_drawn_and_recorded(tmp_path, capsys):
    config = PRESETS["fields-glyphs"]
    small = replace(
        config,
        data=replace(config.data, size=6, shots=9, queries=9),
        model=SirenModel((4,)),
        evaluation=replace(config.evaluation, queries=27),
    )
    learner = build_learner(small, build_task(small, Places()))
    state = init_state(learner, small.build_optimizer(), jax.random.key(1))
    (tmp_path / "run").mkdir()
    run.claim(tmp_path / "run", small)
    Checkpoints(tmp_path / "run" / "checkpoints").save(state)
    settings = fields.Settings(
        tmp_path / "run",
        tasks=2,
        steps=2,
        most=3,
        rates=(1e-3,),
        to=tmp_path / "record.json",
        figure=tmp_path / "curves.png",
    )
    fields.main(settings)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 3 and rows[0].startswith("| 0 |")
    record = json.loads((tmp_path / "record.json").read_text())
    lengths = {name: len(curve[0]) for name, curve in record["curves"].items()}
    assert lengths == {
        "learnt start": 3,
        "standard start": 3,
        "Adam 0.001": 4,
    }
    starts = [record["curves"][n][0][0] for n in list(lengths)[1:]]
    assert starts == pytest.approx([starts[0]] * 2), "one standard start"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_something_else_is_refused(tmp_path):
    run.claim(tmp_path, PRESETS["sinusoid"])
    with pytest.raises(InputError, match="is a run of sinusoid; give one of fields"):
        fields.measure(fields.Settings(tmp_path))


def test_the_best_rate_catches_up():
    none = [0.0] * 4
    curves = {
        fields.LEARNT: ([1.0, 3.0, 9.0], none),
        fields.STANDARD: ([0.0, 0.0, 0.0], none),
        "Adam 0.1": ([0.0, 2.0, 2.0, 4.0], none),
        "Adam 0.01": ([0.0, 0.0, 3.0, 5.0], none),
    }
    caught = fields.catching_up(curves)
    assert caught == [(1, "0.1"), (2, "0.01"), (None, "0.01")]


def test_memory_grows_by_no_more_than_the_parameters_of_each_step():
    settings = memory.Settings(size=48, hidden=(16, 16), steps=(2, 8), batch=64)
    kept = memory.parameter_bytes(settings)
    assert kept == 4 * (2 * 16 + 16 + 16 * 16 + 16 + 16 + 1)
    few, many = memory.measure(settings, "all pixels")
    assert 0 <= many - few <= 6 * kept + 1024
    small = memory.measure(settings, "mini-batches")
    assert max(small) < few / 2, "pixels dominate it"
    less, more = memory.measure(settings, "all pixels, activations kept")
    assert more - less > few / 2
