"""The table of sources by targets: what is run, what is read, what is refused."""

import json
from dataclasses import replace

import pytest

from benchmarks import domains
from benchmarks.domains import Settings, columns, config_of, main
from benchmarks.papers import table
from metajax.errors import NonFiniteError
from metajax.experiments.build import bare_task
from metajax.experiments.domains import domain_of
from metajax.experiments.record import Examples
from metajax.experiments.results import Measured, name_of
from metajax.experiments.run import claim, configured
from metajax.experiments.tent import Tent

SCORE = {"mean": [0.2, 0.5], "interval": [0.02, 0.01]}


@pytest.fixture
def done(monkeypatch):
    """What was measured, by runs that write a score to the file that is its."""
    done = []

    def train(config, directory, places):
        assert places.archives is None or config.data.origin[0] == "Omniglot"
        claim(directory, config)
        if config.learner == "anil" and config.seed:
            raise NonFiniteError("the loss is nan", None)

    def evaluate(directory, changes, split, places):
        config = configured(directory)
        domain = domain_of(config, places, on=changes.on, inverted=changes.inverted)
        config = replace(config, data=domain.data)
        task, steps = bare_task(config), config.outer.steps
        measured = Measured(
            directory, config, domain, task, None, None, steps, tent=changes.tent
        )  # pyright: ignore (nothing is measured)
        name = name_of(measured, config.evaluation, split, Examples())
        done.append((directory.name, name))
        protocol = {"meta_step": steps, "tasks": config.evaluation.tasks}
        result = {"transductive": SCORE, "inductive": SCORE, "protocol": protocol}
        (directory / f"{name}.json").write_text(json.dumps(result))

    monkeypatch.setattr(table, "train", train)
    monkeypatch.setattr(domains, "evaluate_run", evaluate)
    return done


def test_what_is_wanting_is_run_and_the_rest_is_read(tmp_path, done, capsys):
    settings = Settings(
        targets=("glyphs",),
        learners=("maml", "r2d2"),
        seeds=(0, 1),
        tent=Tent(3),
        runs=tmp_path,
    )
    main(settings)
    first = capsys.readouterr().out
    assert len(done) == len(set(done)) == 2 * 2 * 2 * 4
    assert first.count("50.00 ± 1.00 / 50.00 ± 1.00 |") == 2 * 2 * 4
    assert "| glyphs, inverted, 3 steps of Tent |" in first
    main(settings)
    assert len(done) == 32 and first.endswith(capsys.readouterr().out[-200:])


def test_no_result_of_fewer_meta_steps_or_tasks_is_read(tmp_path, done, capsys):
    small = Settings(("glyphs",), ("glyphs",), ("maml",), (0,), runs=tmp_path)
    main(replace(small, tent=Tent(3)))
    for more in ({"steps": 4_000}, {"tasks": 2_000}):
        capsys.readouterr()
        main(replace(small, tent=Tent(3), read=True, **more))
        assert "50.00" not in capsys.readouterr().out
    main(replace(small, tent=Tent(3), read=True))
    assert capsys.readouterr().out.count("50.00 ± 1.00 /") == 4


def test_a_run_that_diverges_leaves_the_others(tmp_path, done, capsys):
    settings = Settings(("glyphs",), ("glyphs",), ("anil",), (0, 1, 2), runs=tmp_path)
    main(settings)
    said = capsys.readouterr().out
    assert said.count("diverged: the loss is nan") == 2 and len(done) == 2
    assert said.count("50.00 ± 1.00 / 50.00 ± 1.00 (1 of 3 seeds) |") == 2


@pytest.mark.parametrize("learner", Settings.learners)
def test_every_run_is_one_that_can_be(learner):
    for source in Settings.sources:
        config = config_of(source, learner, Settings(steps=7, filters=3))
        config.check()
        assert (config.outer.steps, config.model.filters) == (7, 3)
    assert len(columns(Settings())) == 4
