"""The verdicts themselves: each is given where it is due."""

import sys

import pytest

from tests import hostile

OK = "pass"
NAMED = "import sys; sys.exit('lr: expected a number, got x')"
LONG = "import sys; sys.exit('lr\\n' * 4)"


@pytest.mark.parametrize(
    ("code", "names", "verdict"),
    [
        (NAMED, ["lr"], "clear"),
        (NAMED, ["path", "lr"], "clear"),
        (NAMED, ["path"], "unclear"),
        (LONG, ["lr"], "unclear"),
        ("import sys; sys.exit(1)", [], "unclear"),
        ("raise ValueError('lr')", ["lr"], "traceback"),
        (OK, ["lr"], "silent"),
        ("import time; time.sleep(60)", ["lr"], "hang"),
    ],
)
def test_verdicts(code, names, verdict, tmp_path):
    timeout = 1 if verdict == "hang" else 60
    assert hostile.judge([sys.executable, "-S", "-c", code], tmp_path, names, timeout)[0] == verdict


def test_verdicts_are_counted_by_area(tmp_path, monkeypatch):
    monkeypatch.delenv(hostile.FILE, raising=False)
    hostile.record("kills", "0", "lost")  # to nowhere
    monkeypatch.setenv(hostile.FILE, str(tmp_path / "verdicts"))
    for trial, verdict in enumerate(["clear", "clear", "hang"]):
        hostile.record("kills", str(trial), verdict)
    hostile.record("sweeps", "a 中", "silent")
    rows = hostile.table((tmp_path / "verdicts").read_text("utf-8").splitlines()).splitlines()
    assert rows[0].split() == ["trials", *hostile.VERDICTS]
    assert [row.split() for row in rows[1:]] == [
        ["kills", "3", "2", "0", "0", "0", "1", "0"],
        ["sweeps", "1", "0", "0", "0", "1", "0", "0"],
        ["all", "4", "2", "0", "0", "1", "1", "0"],
    ]
