"""The tables of benchmarks/README.md are what the records say."""

import shutil

import pytest

from benchmarks import tables
from benchmarks.command import run_command

RECORDS = tables.README.parent / "records"
DRAWN = {"cpu-2-cores-sweep.json"}  # in place of a table


def call(*arguments):
    given = [str(a) for a in arguments]
    return run_command(tables.main, tables.Settings, "benchmarks.tables", "", given)


@pytest.fixture
def page(tmp_path):
    """A copy of the page, with its records."""
    shutil.copytree(RECORDS, tmp_path / "records")
    return shutil.copy(tables.README, tmp_path / "README.md")


def test_every_table_is_what_its_record_says(capsys):
    assert call("--check") == 0, capsys.readouterr().err


def test_every_record_is_tabled():
    named = {b["record"] for b in tables.BLOCK.finditer(tables.README.read_text())}
    assert named | DRAWN == {path.name for path in RECORDS.iterdir()}


@pytest.mark.parametrize(
    "record, old, new",
    [
        ("cpu-2-cores.json", '"peak": 966598656', '"peak": 906598656'),
        ("emoji.json", '"mean": 63.04', '"mean": 64.04'),
        ("pretrained.json", '"ours": 1.2e-07', '"ours": 1.3e-07'),
        ("rl.json", '"value": 5.011', '"value": 5.012'),
        ("rl-navigation.json", '"first": 6.832', '"first": 7.832'),
        ("targets-h200.json", '"launches": 981', '"launches": 982'),
        ("targets-v5e.json", '"cycles": 10582349', '"cycles": 11582349'),
    ],
)
def test_a_record_that_changes_is_told_and_tabled(page, capsys, record, old, new):
    path, before = page.parent / "records" / record, page.read_text()
    assert old in (text := path.read_text())
    path.write_text(text.replace(old, new, 1))
    assert call("--check", "--page", page) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: README.md differs from records/{record}")
    assert err.count("records/") == err.count("\n") == 1 and not out
    assert page.read_text() == before
    assert call("--page", page) == 0
    assert call("--check", "--page", page) == 0
    old, new = ({*text.splitlines()} for text in (before, page.read_text()))
    assert len(old - new) == len(new - old) in (1, 2)  # a row, and one of ratios


def test_a_table_that_is_edited_by_hand_is_told(page, capsys):
    page.write_text(page.read_text().replace("5.011 ± 0.028", "5.110 ± 0.028"))
    assert call("--check", "--page", page) == 1
    assert "rl.json: 5 arms, 10 pulls: mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, message",
    {
        "no table": "README.md has no table to make; one begins with <!-- from rec",
        "<!-- from records/rl.json -->": "expected <!-- end --> after the last table",
        "x\n<!-- end -->": "line 2: expected <!-- from records/NAME.json --> or",
        "<!-- records/rl.json -->\n<!-- end -->": "got <!-- records/rl.json -->",
        "<!-- from records/rl.json -->\n<!-- note -->": "line 2: expected <!-- end -->",
        "<!-- from records/emo.json -->\n<!-- end -->": "did you mean emoji.json?",
        "<!-- from records/rl.json: x -->\n<!-- end -->": "no table of rl.json 'x'",
    }.items(),
)
def test_marks_that_are_none_are_refused(page, capsys, text, message):
    page.write_text(text)
    assert call("--page", page) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert page.read_text() == text
