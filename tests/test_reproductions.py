"""Reproductions: what is claimed of planted tables, and the command that prints the verdicts."""

import re
import sys

import exact_tables
import pandas as pd
import pytest

from gradflow import analysis, figures
from gradflow.analysis.runs import IDENTITY
from gradflow.commands import reproduce
from gradflow.commands.sweeping import signals


def table(rows: list[dict], **same) -> pd.DataFrame:
    """What `accuracy_by_lag` returns, of planted rows."""
    common = dict.fromkeys(IDENTITY, "") | {"seed": 5, "num_layers": 1, "bidirectional": False, "iterations": 1000}
    common |= {"lag": 49, "low": 0.0, "high": 1.0, "chance": 0.25, "factor": 0.5, "horizon": 10.0, "start": "sparse"}
    return pd.DataFrame([common | {"cell": "rnn", "clip": "none"} | row | same for row in rows])


def shares(none: float, norm: float, omega: float) -> pd.DataFrame:
    values = {"none": none, "norm": norm, "norm, omega": omega}
    return table([{"clip": clip, "value": value} for clip, value in values.items()], quantity="success")


@pytest.mark.parametrize(
    ("measured", "holds"),
    [((0.0, 0.8, 1.0), True), ((0.0, 1.0, 1.0), True), ((0.4, 0.2, 1.0), False), ((1.0, 1.0, 1.0), False)],
)
def test_order_of_pascanus_figure_7(measured, holds):
    (entry,) = analysis.temporal_order_claims(shares(*measured))
    assert entry["holds"] is holds
    assert f"SGD {measured[0]:.2f} [" in entry["told"]
    assert "T = 50" in entry["protocol"]
    assert "5 seeds" in entry["protocol"]


def test_order_without_one_of_the_methods_does_not_hold():
    assert not analysis.temporal_order_claims(shares(0.0, 0.5, 1.0).query("clip != 'norm, omega'"))[0]["holds"]


def test_success_is_pooled_over_runs_and_not_over_settings():
    data = pd.concat([shares(0.0, 0.5, 1.0), shares(0.0, 0.5, 1.0).assign(seed=15, value=[0.0, 1.0, 1.0], lag=19)])
    told = analysis.temporal_order_claims(data)[0]["told"]
    assert "clipped 0.88 [" in told  # 2.5 + 15 of 20


def errors(tanh: float, irnn: float, lstm: float, gru: float) -> pd.DataFrame:
    values = {"rnn": tanh, "rnn_relu": irnn, "lstm": lstm, "gru": gru}
    short = [{"cell": cell, "value": value, "lag": 49} for cell, value in values.items()]
    long = [{"cell": cell, "value": value, "lag": 99} for cell, value in values.items()]
    return table([*short, *long], quantity="loss")


def test_adding_problem_has_a_verdict_for_each_network():
    claims = {entry["claim"]: entry for entry in analysis.adding_claims(errors(0.167, 0.006, 0.008, 0.009))}
    assert list(claims) == ["adding_rnn_relu", "adding_lstm", "adding_gru", "adding_rnn"]
    assert all(entry["holds"] for entry in claims.values())
    assert claims["adding_rnn"]["told"] == "0.1670 (T = 50), 0.1670 (T = 100)"
    wrong = {entry["claim"]: entry["holds"] for entry in analysis.adding_claims(errors(0.05, 0.02, 0.008, 0.009))}
    assert wrong == {"adding_rnn_relu": False, "adding_lstm": True, "adding_gru": True, "adding_rnn": False}
    missing = errors(0.167, float("nan"), 0.008, 0.009)
    assert not analysis.adding_claims(missing)[0]["holds"]


def test_roll_call_ranks_by_horizon():
    rows = [
        {"cell": "lstm", "start": "b_f=3", "horizon": float("inf"), "value": 0.85},
        {"cell": "lstm", "start": "default", "horizon": 15.0, "value": 0.55},
        {"cell": "rnn", "start": "default", "horizon": 12.0, "value": 0.52},
    ]
    data = pd.concat([table(rows, lag=lag, quantity="accuracy", low=0.5, high=0.9) for lag in (7, 29)])
    (entry,) = analysis.roll_call_claims(data)
    assert (entry["holds"], entry["told"]) == (True, "2 of 2 clear pairs")
    (entry,) = analysis.roll_call_claims(data.assign(horizon=1 / data["horizon"]))
    assert not entry["holds"]
    (entry,) = analysis.roll_call_claims(data.assign(value=0.5))
    assert (entry["holds"], entry["told"]) == (False, "no pair clearly apart")


def run(monkeypatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
    try:
        reproduce.main()
    except SystemExit as ended:
        return ended.code
    return 0


def test_an_exact_result_from_the_command_line(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "only=bifurcation_diagram", f"path={tmp_path}", "lang=zh") == 0
    out = capsys.readouterr().out
    assert out.startswith("verdict  result")
    assert "pass     folds of x = 5 σ(x) + b at b = -2.65561 and -2.34439" in out
    assert "hold; protocols in" in out
    verdicts = pd.read_csv(tmp_path / "quick" / "verdicts.csv")
    assert verdicts["holds"].all()
    assert verdicts["protocol"].notna().all()
    assert len(list((tmp_path / "quick" / "figures" / "zh").iterdir())) == 5


def test_a_result_that_does_not_hold_is_said_and_ends_with_status_1(tmp_path, monkeypatch, capsys):
    entry = reproduce.gf.figures.EXACT["bifurcation_diagram"]
    failing = entry._replace(check=lambda data: [c | {"holds": False} for c in entry.check(data)])
    monkeypatch.setitem(reproduce.gf.figures.EXACT, "bifurcation_diagram", failing)
    assert run(monkeypatch, "only=bifurcation_diagram", f"path={tmp_path}") == 1
    assert "FAIL     folds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("scale=small", "scale: expected one of quick, full, got small"),
        ("only=cliffs", "only: expected one of jacobian_product_by_lag, .*roll_call, got cliffs"),
        ("launcher=nope", "launcher: expected one of local, processes, ray, slurm, slurm_local, got nope"),
        ("lang=de", "lang: expected one of en, zh, got de"),
    ],
)
def test_wrong_arguments_of_the_command(argument, words, tmp_path, monkeypatch, capsys):
    code = run(monkeypatch, argument, f"path={tmp_path}", *[] if "only" in argument else ["only=bifurcation_diagram"])
    assert code == 2
    assert re.search(words, capsys.readouterr().err)


def test_verdicts_of_other_results_are_kept(tmp_path, monkeypatch):
    file = tmp_path / "quick" / "verdicts.csv"
    file.parent.mkdir()
    folds = figures.EXACT["bifurcation_diagram"].check(exact_tables.table("bifurcation_diagram"))
    monkeypatch.setattr(reproduce, "exact", lambda *_: folds)  # the cliff takes seconds
    assert run(monkeypatch, "only=bifurcation_diagram,error_surface_cliff", f"path={tmp_path}") == 0
    both = set(pd.read_csv(file)["result"])
    assert run(monkeypatch, "only=bifurcation_diagram", f"path={tmp_path}") == 0
    after = pd.read_csv(file)
    assert set(after["result"]) == both == {"bifurcation_diagram", "error_surface_cliff"}
    assert not after.duplicated(["result", "claim"]).any()


def test_two_ctrl_c_end_it_without_a_verdict(tmp_path, monkeypatch, capsys):
    class Sweep:
        def __init__(self, command, **options):
            self.waits = [KeyboardInterrupt, KeyboardInterrupt, 1]

        def wait(self):
            answer = self.waits.pop(0)
            if answer is KeyboardInterrupt:
                raise KeyboardInterrupt
            return answer

    monkeypatch.setattr(signals.subprocess, "Popen", Sweep)
    assert run(monkeypatch, "only=adding", f"path={tmp_path}") == 130
    said = capsys.readouterr()
    assert "Interrupted; the same command goes on" in said.err
    assert not said.out


def test_a_sweep_that_did_not_start_has_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "patiently", lambda command: 1)
    assert run(monkeypatch, "only=adding", f"path={tmp_path}") == "adding: the sweep did not start, see above"


def test_help_names_every_result_and_what_all_of_it_takes(monkeypatch, capsys):
    run(monkeypatch, "--help")
    out = capsys.readouterr().out
    assert "lyapunov_spectrum" in out
    for name, entry in reproduce.TRAINED.items():
        assert f"  {name}" in out
        assert entry.full in out


@pytest.mark.slow
@pytest.mark.parametrize("name", reproduce.TRAINED)
def test_a_trained_result_goes_on_where_it_was(name, tmp_path, monkeypatch, capsys):
    tiny = reproduce.TRAINED[name]._replace(
        quick=("debug=tiny", "data.test_size=20", "seed=0", *(["data.length=50"] if name != "roll_call" else []))
    )
    monkeypatch.setitem(reproduce.TRAINED, name, tiny)
    for _ in range(2):
        run(monkeypatch, f"only={name}", f"path={tmp_path}", "launcher=local")
        assert "of " in capsys.readouterr().out
    assert (tmp_path / "quick" / "figures" / "en" / f"{name}.png").is_file()
