"""The commands that look at runs in the terminal, check them and export them."""

import json
import os
import shutil
import subprocess
import sys
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from rich.console import Console
from synthetic_runs import Planted, config_of, write_run
from test_foreign import steers

import gradflow as gf
from gradflow.commands import show, terminal
from gradflow.commands.cli import COMMANDS, gradflow
from gradflow.runlog import write_status

ROOT = Path(__file__).parents[1]


def call(*words: object) -> Result:
    done = CliRunner().invoke(gradflow, [str(word) for word in words])
    if isinstance(done.exception, SystemExit) or done.exception is None:
        return done
    raise done.exception


def said(done: Result) -> str:
    """What the program ended with, which the interpreter would print."""
    return f"{done.output}{done.exception}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep")
    for clip in ("none", "norm"):
        write_run(path / f"clip={clip}", config_of("lstm", clip=clip), Planted(steps=6, iterations=21, residual=1e-7))
        file = path / f"clip={clip}" / "run.json"
        about = {"every": 10, "spectrum_every": 20, "modules": {"recurrent": "LSTM(501, 16)"}}
        file.write_text(json.dumps(json.loads(file.read_text()) | about))
    return path


@pytest.fixture
def run(sweep, tmp_path) -> Path:
    return shutil.copytree(sweep / "clip=norm", tmp_path / "run")


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_says_how_a_run_goes(run):
    done = call("show", run)
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["status"] == "finished, 21 of 500 iterations"
    assert lines["layer"] == "recurrent: LSTM(501, 16)"
    assert lines["settings"].split() == ["cell=lstm", "cell.hidden_size=16", "clip=norm"]
    assert lines["proof"] == "proved"
    last = gf.open_run(run).scalars["loss"]
    assert lines["loss"].endswith(f"{last.iloc[0]:.3g} → {last.iloc[-1]:.3g}")
    assert "ln‖dL/dh‖ by lag  █" in done.stdout
    assert "nats at lag 5, recurrent" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 200


def test_show_says_what_went_wrong(run):
    trace = "Traceback:\n  File a\n    b()\nValueError: no \x1b[2Jgood"
    write_status(run, "failed", error="no \x1b[2Jgood", error_traceback=trace)
    done = call("show", run)
    assert "error             no \\x1b[2Jgood\n" in done.stdout
    assert done.stdout.rstrip().endswith("    b()")
    assert not steers(done.stdout.replace("\n", ""))


def test_show_takes_runs_that_began_only_and_runs_of_scripts(tmp_path):
    write_status(tmp_path / "began", "failed", error="no such file")
    assert "no such file" in call("show", tmp_path / "began").stdout
    writer = gf.runlog.RunWriter(tmp_path / "own", meta={}, config={"cell": 3, "train": [1]})
    writer.close("finished")
    assert "finished, 0 iterations" in call("show", tmp_path / "own").stdout


def test_show_follows_a_run_to_its_end(run, monkeypatch):
    write_status(run, "running")
    screen, looks = Console(file=StringIO(), force_terminal=True, width=150), list[float]()
    monkeypatch.setattr(terminal, "console", lambda: screen)
    monkeypatch.setattr(gf.runlog.Run, "status", property(lambda self: "finished" if len(looks) > 1 else "running"))
    monkeypatch.setattr(show.time, "sleep", looks.append)
    assert call("show", run).exit_code == 0
    assert len(looks) == 2
    assert "running, 21" in screen.file.getvalue()
    assert "finished, 21" in screen.file.getvalue()


def test_show_says_what_it_cannot(run):
    assert "run: expected the folder of a run" in said(call("show", "nowhere"))
    assert "got nowhere; there is nothing at that path" in said(call("show", "nowhere"))
    date, beside = run.parent / "DATE", f"there is nothing at that path; the newest runs beside it are in {run}"
    assert said(call("show", date)).endswith(beside)
    assert f"{beside}; give the folder of a sweep" in said(call("compare", date))
    assert f"below it are runs, such as {run}; give one of them, or all to gradflow.open_sweep" in said(
        call("show", run.parent)
    )


MORE = {"predict": ["names=王晓丽"], "export": ["format=csv"]}


def test_every_command_calls_the_folder_of_runs_as_its_help_does(tmp_path):
    names = [name for commands in COMMANDS.values() for name in commands]
    found = {name: gradflow.get_command(None, name).params for name in names}
    readers = {name: params[0].name for name, params in found.items() if params and params[0].name in ("run", "path")}
    assert {"show", "diagnose", "predict", "report", "check"} <= set(readers)
    for name, called in readers.items():
        if name not in ("lecture", "reproduce"):  # which make theirs
            end = said(call(name, tmp_path / "nowhere", *MORE.get(name, [])))
            assert f"{called}: expected the folder" in end or f"{called}: expected a folder" in end, (name, end)


# --- any text --------------------------------------------------------------------------------------------------------

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
"""A system that holds text in ASCII, without Python's own remedies for it."""


def typed(folder: Path, *words: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gradflow", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "运行"),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in [
                ("show", "运行"),
                ("diagnose", "运行", "lang=zh"),
                ("report", "运行"),
                ("export", "运行", "format=csv", "out=出"),
                ("figures", "运行", "figures=gradient_by_lag", "out=图", "lang=zh"),
                ("train", "debug=tiny", "hydra.run.dir=再"),
            ]
        ),
    ],
)
def test_a_chinese_name_is_taken_and_spelt_out_where_it_cannot_be_shown(words, run, tmp_path):
    run.rename(tmp_path / "运行")
    done = typed(tmp_path, *words, **ASCII)
    assert done.stdout.isascii()
    assert done.returncode == (1 if words[0] == "diagnose" else 0), done.stderr
    assert b"surrogates" not in done.stdout + done.stderr
    made = {"report": "运行/report.html", "export": "出/scalars.csv", "figures": "图/gradient_by_lag.png"}
    assert (tmp_path / made.get(words[0], "运行")).exists()


def test_chinese_is_spelt_out_on_an_output_that_has_none_and_text_in_another_encoding_is_said(run):
    told = typed(run, "nonsense", "王", PYTHONIOENCODING="cp1252")
    assert told.returncode == 2
    named = typed(run, "show", os.fsdecode("北".encode("gbk")), PYTHONUTF8="1")
    assert named.returncode == 2
    assert b"command line: expected text in UTF-8, got b'" in named.stderr
    assert b"let the terminal write UTF-8" in named.stderr


def test_a_path_in_which_bytes_are_no_text_is_said():
    with pytest.raises(ValueError, match=r"path: expected a path that can be written in utf-8, .* got '.udce7'; start"):
        gf.open_run("\udce7")


def test_a_line_of_blocks_follows_the_values():
    assert terminal.sparkline(np.linspace(0, 7, 80), 8) == terminal.BLOCKS
    assert terminal.sparkline([np.nan, 1.0, np.inf, -np.inf]) == " ▁↑↓"
    assert terminal.sparkline([np.inf, -np.inf], 1) == " "


# --- diagnose and report ---------------------------------------------------------------------------------------------


def test_diagnose_says_what_is_ill_and_ends_with_1(run, tmp_path):
    done = call("diagnose", run)
    diagnosis = gf.diagnose(run)
    assert done.exit_code == (1 if diagnosis.ill else 0)
    assert done.stdout == diagnosis.text("en") + "\n"
    assert call("diagnose", run, "lang=zh").stdout == diagnosis.text("zh") + "\n"
    ill = write_run(tmp_path / "ill", config_of("rnn"), Planted(factor=0.3, iterations=120, residual=1e-7))
    assert "✗" in call("diagnose", ill).stdout
    assert call("diagnose", ill).exit_code == 1
    assert "run: expected the folder of a run" in said(call("diagnose", tmp_path / "nowhere"))


def test_the_length_that_a_log_does_not_say_is_asked_for_and_taken(tmp_path):
    run = write_run(tmp_path / "own", config_of("rnn"), Planted(factor=0.3, iterations=120, residual=1e-7))
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(described | {"config": {}}))  # of a script of one's own
    unknown, told = call("diagnose", run).stdout, call("diagnose", run, "length=12").stdout
    assert "? Vanishing gradient: unknown." in unknown
    assert "of the unknown: say it, length=STEPS." in unknown.split("\n\n")[1]
    assert "say it" not in told
    assert "gradflow diagnose RUN length=STEPS" in unknown
    assert "✗ The gradient vanishes: 11 steps back" in told
    assert "vanishes: 11 steps back" in gf.write_report(run, length=12).read_text()


def test_report_names_the_file_that_it_wrote(run, tmp_path, monkeypatch):
    import gradflow.report

    asked = []
    monkeypatch.setattr(
        gradflow.report, "write_report", lambda path, out, length: asked.append((path, out, length)) or Path("a.html")
    )
    assert call("report", run).stdout == "a.html\n"
    assert call("report", run, "out=b.html").exit_code == 0
    assert call("report", run, "length=30").exit_code == 0
    assert asked == [(str(run), None, None), (str(run), "b.html", None), (str(run), None, 30.0)]


def test_colours_are_for_terminals_alone(monkeypatch, run):
    assert "\x1b" not in call("check", run).stdout
    for name, value in {"NO_COLOR": "1", "TERM": "dumb"}.items():
        with monkeypatch.context() as patch:
            patch.setenv("FORCE_COLOR", "1")
            assert "\x1b" in call("check", run).stdout
            patch.setenv(name, value)
            assert "\x1b[3" not in call("check", run).stdout


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_finds_a_sound_run_sound(sweep, run):
    done = call("check", run)
    assert done.exit_code == 0, done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    assert "21 rows of 21 iterations, 0 to 20" in done.stdout
    done = call("check", sweep)
    assert (done.exit_code, done.stdout.count("checks passed")) == (0, 2)


def rewrite(run: Path, table: str, keep) -> None:
    """Leaves rows of a table out, in a file that is as whole as before."""
    import pyarrow.parquet as pq

    [file] = (run / "gradients" / table).glob("*.parquet")
    rows = pq.read_table(file)
    pq.write_table(rows.filter([keep(i) for i in rows["iteration"].to_pylist()]), file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: rewrite(run, "scalars", lambda i: i != 7), "1 that were due are missing, the first is 7"),
        (lambda run: rewrite(run, "lag", lambda i: i != 10), "1 that were due are missing, the first is 10"),
        (lambda run: (run / "run.json").write_text("{"), "run.json: expected"),
        (lambda run: next((run / "gradients/time").iterdir()).write_bytes(b"PAR1"), "expected rows in Parquet"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x" * 9), "expected weights in safetensors"),
        (lambda run: (run / "vocabulary.json").write_text("{"), "vocabulary.json"),
        (lambda run: write_status(run, "failed", error="full"), "failed: full"),
        (lambda run: rewrite(run, "proof", lambda i: False), "it was not asked of every layer"),
    ],
)
def test_check_names_what_is_wrong(run, damage, message):
    damage(run)
    done = call("check", run)
    assert done.exit_code == 1
    line = next(line for line in done.stdout.splitlines() if message in line)
    assert line.split()[0] in ("wrong", "unknown")


def test_check_of_a_sweep_names_the_run(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    rewrite(copy / "clip=none", "gates", lambda i: i == 0)
    done = call("check", copy)
    assert done.exit_code == 1
    assert "wrong  table gates" in done.stdout


# --- export ----------------------------------------------------------------------------------------------------------


def test_export_as_csv_and_netcdf_is_what_the_log_holds(run, tmp_path):
    assert call("export", run, "--format", "csv").exit_code == 0
    lag = pd.read_csv(run / "export" / "csv" / "lag.csv")
    np.testing.assert_allclose(lag["log_state_gradient_q50"], gf.open_run(run).frame("lag")["log_state_gradient_q50"])
    assert call("export", run, "format=netcdf", f"out={tmp_path / 'nc'}").exit_code == 0
    with xr.open_dataset(BytesIO((tmp_path / "nc" / "gates.nc").read_bytes()), engine="scipy") as gates:
        assert gates.equals(gf.open_run(run).dataset("gates"))
        assert gates["time_scale_q50"].attrs["units"] == "steps"
        assert json.loads(gates.attrs["settings"])["cell"]["name"] == "lstm"


def test_export_of_a_sweep_has_runs_and_settings(sweep, tmp_path):
    assert call("export", sweep, "--format", "csv", "--out", tmp_path).exit_code == 0
    assert set(pd.read_csv(tmp_path / "scalars.csv")["clip"].fillna("none")) == {"none", "norm"}


def test_export_replaces_nothing_unless_asked(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "time.csv").write_text("mine")
    done = call("export", run, "format=csv", f"out={tmp_path / 'out'}")
    assert done.exit_code == 1
    assert "out: expected a folder without time.csv" in said(done)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["time.csv"]
    assert call("export", run, "format=csv", f"out={tmp_path / 'out'}", "--force").exit_code == 0
    assert (tmp_path / "out" / "time.csv").read_text() != "mine"


def test_export_follows_no_link_of_a_strangers_run(run, tmp_path):
    (tmp_path / "precious").mkdir()
    (run / "export").symlink_to(tmp_path / "precious")
    assert "got the link" in said(call("export", run, "format=csv"))
    assert not list((tmp_path / "precious").iterdir())


def test_export_to_tensorboard_is_read_back(run, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert call("export", run, "format=tensorboard", f"out={tmp_path}").exit_code == 0
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    losses = [event.value for event in events.Scalars("loss")]
    np.testing.assert_allclose(losses, gf.open_run(run).scalars["loss"], rtol=1e-6)


def test_export_wants_a_format(run):
    assert "format: expected one of csv, netcdf, tensorboard, got xls" in call("export", run, "format=xls").stderr
    assert call("export", run).exit_code == 2


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("gradflow sho", ["show"]),
        ("gradflow figures runs lan", ["lang=en", "lang=zh"]),
        ("gradflow figures runs lang=", ["en", "zh"]),
        ("gradflow figures runs --context=n", ["notebook"]),
        ("gradflow train cell=lstm clip=no", ["none", "norm"]),
        ("gradflow compare train.l", ["train.lr="]),
    ],
)
def test_bash_completes_words_options_choices_and_settings(line, found, monkeypatch):
    monkeypatch.setenv("_GRADFLOW_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", line)
    from gradflow.commands.completion import register

    register()
    done = CliRunner().invoke(gradflow, [], prog_name="gradflow")
    assert [row.partition(",")[2] for row in done.stdout.splitlines() if row.startswith("plain")] == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_a_shell_reads(shell):
    done = call("completion", shell)
    assert done.exit_code == 0
    assert "_GRADFLOW_COMPLETE" in done.stdout
