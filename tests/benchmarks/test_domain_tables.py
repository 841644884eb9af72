"""The table of sources by targets: what is run, what is read, what is refused."""

import json

import pytest

from benchmarks import domains
from benchmarks.domains import Settings, columns, config_of, main
from metajax.experiments.tent import Tent

SCORE = {"mean": [0.2, 0.5], "interval": [0.02, 0.01]}


def test_what_is_wanting_is_run_and_the_rest_is_read(tmp_path, monkeypatch, capsys):
    done = []

    def train(config, directory, places):
        assert places.archives is None or config.data.origin[0] == "Omniglot"
        directory.mkdir(parents=True, exist_ok=True)

    def evaluate(directory, asked, split, places):
        name = f"evaluation-on-{asked.on}{'-inverted' * asked.inverted}"
        name += f"-test-9tasks{asked.tent.name}-step4" * (asked.tent.steps > 0)
        done.append((directory.name, name))
        result = {"transductive": SCORE, "inductive": SCORE}
        (directory / f"{name}.json").write_text(json.dumps(result))

    monkeypatch.setattr(domains, "train", train)
    monkeypatch.setattr(domains, "evaluate_run", evaluate)
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
    assert first.count("50.00 ± 1.00 / 50.00 ± 1.00") == 2 * 2 * 4
    assert "| glyphs, inverted, 3 steps of Tent |" in first
    main(settings)
    assert len(done) == 32 and first.endswith(capsys.readouterr().out[-200:])


@pytest.mark.parametrize("learner", Settings.learners)
def test_every_run_is_one_that_can_be(learner):
    for source in Settings.sources:
        config = config_of(source, learner, Settings(steps=7, filters=3))
        config.check()
        assert (config.outer.steps, config.model.filters) == (7, 3)
    assert len(columns(Settings())) == 4
