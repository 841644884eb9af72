"""`metajax doctor`: a healthy place, and gradients that are wrong."""

import metajax as mj
from metajax.cli import doctor
from metajax.cli.main import main


def test_a_healthy_place(capsys, tmp_path):
    assert main(["doctor", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"metajax {mj.__version__}" in said and "flatbuffers" in said
    for name in ("omniglot", "cifar100"):
        hint = f"metajax data prepare {name} --data-dir {tmp_path}"
        assert f"{name}: not prepared: {hint}" in said
    assert said.count("to reverse over reverse") == 2
    assert said.splitlines()[-1].startswith("well, in ")


def test_a_wrong_gradient_is_seen(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "exact", mj.first_order)
    assert main(["doctor"]) == 1
    said = capsys.readouterr()
    assert said.out.count(": WRONG") == 2 and "NOT well" in said.out
    assert "error: something above is wrong" in said.err
