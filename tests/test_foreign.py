"""What a log says is data: it steers no terminal, is no formula anywhere, and leads out of no folder."""

import csv
import json
import shutil
import sys
import unicodedata
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from hostile import record
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.commands import animate, compare, figures
from gradflow.commands.columns import aligned, told
from gradflow.commands.deck import Drawn, Slide
from gradflow.commands.page import write_page
from gradflow.commands.report import describe, printed, table
from gradflow.figures import gallery
from gradflow.figures.catalogue import Labels
from gradflow.foreign import file_name, label, printable, printable_lines, table_cell

TEXTS = [
    "../../x",
    "/etc/x",
    "..",
    r"$\frac1$",
    "=1+1",
    "@SUM(1)",
    "\x1b[2Jgone",
    "\u202egnp.exe",
    "two\nlines",
    "a" * 100_000,
    '<script>alert("1")</script>',
    "_hidden",
    "%s {cell}",
    "",
]
TEXT = st.text(st.characters(), max_size=300)
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def steers(text: str) -> bool:
    return any(unicodedata.category(character) in STEERING for character in text)


@given(TEXT)
def test_nothing_printed_steers_a_terminal(text):
    assert not steers(printable(text))
    assert not steers(printable_lines(text).replace("\n", ""))
    assert len(printable(text, 10)) <= 10 * 10  # every character is spelt in ten at most


@given(TEXT, TEXT)
def test_names_of_files_stay_in_their_folder_and_differ(one, other):
    folder = Path("/folder")
    for text in (one, other):
        name = file_name(text)
        assert (folder / name).parent == folder == (folder / name).resolve().parent
        assert 0 < len(f"{name}.partial.json".encode()) <= 255
        assert not name.startswith((".", "-"))
    assert (file_name(one) == file_name(other)) == (one == other)


@given(TEXT)
def test_no_label_is_a_formula_to_matplotlib(text):
    figure = Figure()
    shown = figure.text(0, 0, label(text))
    with mpl.rc_context({"text.usetex": False}):
        _, is_formula = shown._preprocess_math(shown.get_text())
    assert not is_formula
    assert not label(text).startswith("_")


@given(TEXT)
def test_no_cell_is_a_formula_to_a_spreadsheet(text):
    cell = table_cell(text)
    if len(cell) > 1 and cell[0] in "=+-@\t\r":
        float(cell)
    assert not steers(cell)


def test_what_gradflow_knows_is_left_as_it_is():
    for text in ("lstm", "b_f=3", "none, omega", "王晓丽", "data.path", "-0.5", "é", "1e-3"):
        assert (printable(text), table_cell(text)) == (text, text)
    labels = Labels("en")
    assert labels.start(r"normal, \sigma=0.01, b_f=-1.5") == r"normal $\sigma=0.01$ $b_f=-1.5$"
    assert labels.start(r"g=1.5") == "$g=1.5$"
    assert labels.start(r"x=\frac1") == r"x=\frac1"
    assert labels.curve(r"$\frac1$", "default").startswith(r"\$\frac1\$")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound")
    for name, clip in {"a": "none", "b": "norm"}.items():
        write_run(path / name, config_of("lstm", clip=clip), Planted(steps=6, iterations=21))
    return path


def say(run: Path, text: str) -> None:
    """Has a log say a text wherever it can."""
    description = json.loads((run / "run.json").read_text())
    for group in ("cell", "clip", "init"):
        description["config"][group]["name"] = text
    description |= {"device": text, "classes": [text, text]}
    (run / "run.json").write_text(json.dumps(description))
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "failed", "error": text}))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_strangers_log_writes_nowhere_else_and_shows_what_it_says(sound, tmp_path, part, monkeypatch, capsys):
    sweep = tmp_path / "stranger" / "sweep"
    for number, text in enumerate(TEXTS[part::3]):
        say(shutil.copytree(sound / "b", sweep / str(number)), text)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(sweep), f"out={tmp_path / 'out'}", "context=paper"])
    draw = gallery.draw_each
    monkeypatch.setattr(gallery, "draw_each", lambda *a, **o: draw(*a, **o, only=["comparison"]))
    monkeypatch.setattr(gf, "write_report", lambda sweep, out, figures: out)  # test_report.py has strangers of its own
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    compare.main()
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in written} == {tmp_path / "out"}
    [table] = [path for path in written if path.suffix == ".csv"]
    cells = [cell for row in csv.reader(StringIO(table.read_text(encoding="utf-8"))) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+@")]
    said = capsys.readouterr().out
    assert not steers(said.replace("\n", ""))
    assert max(map(len, said.splitlines())) < 3000
    for text in TEXTS[part::3]:
        record("foreign text", f"{text[:40]!r}", "clear")


def test_a_settings_name_leads_nowhere(sound, tmp_path):
    sweep = shutil.copytree(sound, tmp_path / "sweep")
    file = sweep / "b" / "run.json"
    description = json.loads(file.read_text())
    description["config"]["clip"]["name"] = "../../x"
    file.write_text(json.dumps(description))
    files = gf.figures.draw_all(sweep, tmp_path / "out" / "en", only=["gate_timescales"], context="paper")
    assert {path.resolve().parent for path in files} == {tmp_path / "out" / "en"}
    assert len({path for path in files if path.suffix == ".png"}) == 2


@pytest.mark.parametrize("settings", [{"cell": "rnn"}, {"cell": {"name": 3}}, {"seed": "x", "clip": {"threshold": []}}])
def test_settings_of_a_script_of_its_own_are_no_settings_of_gradflow(settings):
    class Run:
        config, meta, columns, frame = settings, {}, {"scalars": {}}, None

    row = gf.analysis.runs.identity(Run())
    assert (row["cell"], row["seed"], row["threshold"] == row["threshold"]) == ("model", 0, False)


def test_tables_and_errors_are_printed_safely(sound, tmp_path):
    sweep = shutil.copytree(sound, tmp_path / "sweep")
    say(sweep / "b", "\x1b[2J\nx" + "y" * 100_000)
    opened = gf.open_sweep(sweep)
    for text in (printed(table(opened)), describe(opened.members[1]), told(ValueError("\x1b[2J\n\x07"))):
        assert not steers(text.replace("\n", ""))
        assert max(map(len, text.splitlines())) < 3000
    assert aligned([("a\x1b", "b\n")]) == r"a\x1b  b\n"
    mixed = pd.DataFrame({"x": ["b", 1, None, True]})
    assert "b" in printed(mixed)


def test_pages_escape_names(tmp_path):
    picture = tmp_path / 'a"><script>#%.png'
    picture.write_bytes(b"")
    slide = Slide("names", "one_hot", lambda folder: pd.DataFrame())
    page = write_page(tmp_path, {slide: Drawn(picture, [], b"", "")}, "en").read_text()
    assert "<script>#" not in page
    assert 'src="a%22%3E%3Cscript%3E%23%25.png"' in page


def test_a_figure_that_fails_costs_no_other(sound, tmp_path, monkeypatch, caplog):
    def fail(*_: object, **__: object) -> None:
        raise IndexError("tuple index out of range")

    from gradflow.figures import gallery

    entry = gallery.GALLERY["comparison"]._replace(plot=fail)
    monkeypatch.setattr(
        gallery, "GALLERY", {"comparison": entry, "gate_timescales": gallery.GALLERY["gate_timescales"]}
    )
    files = gf.figures.draw_all(sound, tmp_path, context="paper")
    assert caplog.messages == ["left out comparison: IndexError: tuple index out of range"]
    assert {path.name.partition("-")[0] for path in files} == {"gate_timescales"}


@pytest.mark.parametrize("link", ["figures", "figures/en"])
@pytest.mark.parametrize("command", [compare, figures, animate])
def test_a_link_in_a_strangers_folder_does_not_choose_where_files_go(sound, tmp_path, monkeypatch, command, link):
    sweep = shutil.copytree(sound, tmp_path / "sweep")
    (tmp_path / "precious").mkdir()
    (sweep / link).parent.mkdir(exist_ok=True)
    (sweep / link).symlink_to(tmp_path / "precious")
    monkeypatch.setattr(sys, "argv", ["command.py", str(sweep)])
    with pytest.raises(SystemExit, match=r"out: expected a folder for the figures, got the link .*; choose one by"):
        command.main()
    assert not list((tmp_path / "precious").iterdir())


def test_a_folder_that_cannot_be_written_is_named_and_figures_go_elsewhere(sound, tmp_path, monkeypatch, capsys):
    sweep = shutil.copytree(sound, tmp_path / "sweep")
    (sweep / "figures").write_text("a file where the folder would be")
    draw = gallery.draw_each
    monkeypatch.setattr(gallery, "draw_each", lambda *a, **o: draw(*a, **o, only=["compute_time", "gate_timescales"]))
    monkeypatch.setattr(gf, "write_report", lambda sweep, out, figures: out)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(sweep), "context=paper"])
    with pytest.raises(SystemExit, match=r"out=FOLDER puts the figures elsewhere.*sweep/figures"):
        compare.main()
    assert "finished" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["compare.py", str(sweep), "context=paper", f"out={tmp_path / 'out'}"])
    compare.main()
    assert list((tmp_path / "out").glob("*.png"))
