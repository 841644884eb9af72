"""A result as one line of JSON."""

import json

import pytest

from metajax.cli.main import main
from metajax.cli.output import Output

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")


def test_the_result_is_one_line_and_all_else_is_apart(tmp_path, capsys):
    small = "--outer.steps", "1", "--outer.tasks", "2", "--evaluation.tasks", "2"
    directory = str(tmp_path / "run")
    train = "train", "sinusoid", *small, "--run-dir", directory, "--json"
    assert main(train) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    result = json.loads(line)
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    about = {"run": directory, "file": f"{directory}/evaluation.json"}
    assert result | about == result and "sha256" not in result
    for name in ("protocol", "transductive", "inductive"):
        assert result[name] == written[name]
    assert "metric mse" in err and "written to" in err
    assert main(train) == 0  # it is finished
    out, err = capsys.readouterr()
    assert out == f"{line}\n" and "is finished" in err
    assert main(["evaluate", directory, "--tasks", "3", "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["protocol"]["tasks"] == 3


def test_an_error_leaves_standard_output_empty(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")


def test_without_it_nothing_is_moved(tmp_path, capsys):
    def measured():
        print("a table")
        return tmp_path / "none.json"

    Output().of_run(tmp_path, measured)
    assert capsys.readouterr() == ("a table\n", "")
