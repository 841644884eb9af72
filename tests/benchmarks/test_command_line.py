"""Every benchmark's command answers bad input in one line, before it does anything."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from benchmarks import command, errors, rivals
from benchmarks.gpu import __main__ as gpu
from metajax.errors import InputError

MODULES = (
    *("__main__", "diagnostics", "domains", "fields.memory", "figure", "fuzz"),
    *(
        "heads",
        "kills",
        "label_backbone",
        "labelling",
        "large",
        "many_chips",
        "multi_step",
    ),
    *("peer_gradients", "precision", "roofline", "saving", "soak", "streaming"),
    *("pretrained", "tables", "targets", "task_map"),
    *("papers.miniimagenet", "papers.omniglot", "papers.sinusoid"),
)
W = "w1-5steps-4tasks"
BAD = {
    "__main__": {
        "": "expected at least one workload",
        "w9": "no workload 'w9'; expected one like w1-5steps-4tasks",
        f"{W} --rivals metajac": "no rival 'metajac'; did you mean metajax? there are",
        f"{W} --rivals nowhere": "nowhere is not installed; pip install no_such_module",
        f"{W} --rounds x": "Error parsing --rounds: invalid literal",
        f"{W} --rounds 0": "--rounds must be a whole number of at least 1, got 0",
        f"{W} --turn nan": "--turn must be a positive number, got nan",
        f"{W} --device tpu": "invalid choice 'tpu' for argument '--device'",
        f"{W} --to /nowhere/x.json": "there is no folder /nowhere to write x.json in",
        f"{W} --to /": "--to must be a file to write, got the folder /",
        "--nope": "Unrecognized options: --nope",
    },
    "targets": {
        f"{W} --for h20": "no chip 'h20'; did you mean h200?",
        f"{W} --for h200 --programs theirs": "no program 'theirs'; there are ours",
        f"{W} --for h200 --top -1": "--top must be a whole number of at least 0",
    },
    "many_chips": {
        f"{W} --for v9": "no chip 'v9'",
        f"{W} --for v5e --program x": "no program 'x'",
    },
    "roofline": {"--family w4": "no family 'w4'", "--steps 1 0": "--steps must be"},
    "domains": {
        "--sources glyph": "no preset 'glyph'; did you mean glyphs?",
        "--learners rl2": "no learner 'rl2'; there are maml",
        "--targets sinusoid": "must be of one kind, ways and shots: glyphs is of class",
    },
    "figure": {"/nowhere/x.json x.png": "there is no file /nowhere/x.json"},
    "fuzz": {"--edges nothing": "no edge 'nothing'; there are"},
    "kills": {"--minutes -1": "--minutes must be a positive number"},
    "fields.__main__": {"/nowhere": "there is no folder /nowhere"},
    "fields.memory": {"--size 0": "--size must be a whole number of at least 1"},
    "pretrained": {
        "--networks": "expected at least one network",
        "--pictures 1": "--pictures must be a whole number of at least 2, got 1",
    },
    "label_backbone": {
        "--pictures 1": "--pictures must be a whole number of at least 16, got 1",
    },
    "labelling": {"/nowhere": "there is no folder /nowhere"},
    "peer_gradients": {"/ / w1": "no workload 'w1'; expected one like w1_s1_k5_b4"},
    "tables": {"--page /nowhere": "there is no file /nowhere"},
    "task_map": {
        "/nowhere": "/nowhere is not a run directory",
        "x --seed -1": "--seed",
    },
    "papers.sinusoid": {"10 --rows moml": "no row 'moml'", "7": "invalid choice '7'"},
    "papers.omniglot": {"5w1s --budget huge": "invalid choice 'huge'"},
    "papers.miniimagenet": {"5w1s --seeds": "expected at least one seed"},
}


def call(module, arguments):
    found = importlib.import_module(f"benchmarks.{module}")
    settings = next(iter(get_type_hints(found.main).values()))
    name = module.removesuffix(".__main__")
    return command.run_command(found.main, settings, name, found.__doc__, arguments)


@pytest.mark.parametrize("module", MODULES)
def test_every_command_has_help(module, capsys):
    assert call(module, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert f"usage: python -m {module}" in out and not err


@pytest.mark.parametrize(
    "module, line, message",
    [(m, line, text) for m, lines in BAD.items() for line, text in lines.items()],
)
def test_bad_input_is_one_line(module, line, message, capsys, monkeypatch):
    absent = rivals.Rival("nowhere", needs=("no_such_module",))
    monkeypatch.setitem(rivals.RIVALS, "nowhere", absent)
    assert call(module, shlex.split(line)) in (1, 2)
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and message in err
    assert err.count("\n") == 1 and not out


def test_a_record_and_a_format_must_be_ones(tmp_path, capsys):
    record = tmp_path / "record.json"
    for text in ("[]", "not JSON", '{"results": 3}'):
        record.write_text(text)
        assert call("figure", [str(record), str(tmp_path / "x.png")]) == 1
        assert "is not the record of a benchmark" in capsys.readouterr().err
    record.write_text(json.dumps({"results": {}}))
    assert call("figure", [str(record), str(tmp_path / "x.nope")]) == 1
    assert "no format 'nope'; there are" in capsys.readouterr().err


def test_rivals_that_are_not_installed_are_left_out_by_default():
    absent = {name for name, rival in rivals.RIVALS.items() if rival.lacking}
    assert {*rivals.installed()} == rivals.RIVALS.keys() - absent
    assert rivals.Rival("x", needs=("json", "no_such_module")).lacking


@pytest.mark.parametrize(
    "line, message",
    {
        "--minutes 0": "--minutes must be a positive number, got 0.0",
        "--minutes soon": "argument --minutes: invalid float value: 'soon'",
        "--only nothing": "invalid choice: 'nothing'",
        "--device tpu": "invalid choice: 'tpu'",
    }.items(),
)
def test_the_gpu_command_refuses_alike(line, message, capsys):
    def run():
        try:
            return gpu.main(line.split())
        except SystemExit as end:
            return end.code

    assert errors.exit_status(run, (InputError,)) in (1, 2)
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_interrupts_and_other_errors_have_a_status(capsys):
    def interrupted():
        raise KeyboardInterrupt

    def full():
        raise OSError(28, "No space left on device")

    assert errors.exit_status(interrupted) == 130
    assert errors.exit_status(full) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("error: [Errno 28]")
    with pytest.raises(ValueError):  # an error of our own keeps its traceback
        errors.exit_status(lambda: int("x"))


@pytest.mark.parametrize("module", ["benchmarks.worker", "benchmarks.precision"])
def test_output_that_nobody_reads_ends_quietly(module):
    root = Path(__file__).parents[2]
    line = f"{shlex.quote(sys.executable)} -m {module} --help | true"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert not done.stdout and not done.stderr
