"""Commands as users type them, in processes of their own: signals, help, make."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gradflow as gf

ROOT = Path(__file__).parents[1]
ENDLESS = ["train.iterations=1000000", "data.train_size=200", "data.test_size=50"]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), *arguments]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


def wait_for(count: int, process: subprocess.Popen[str]) -> list[Path]:
    """Folders of the first `count` runs that have recorded something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = [path.parent for path in Path("outputs").rglob("run.json")]
        if len(found) >= count:
            time.sleep(1)
            return found
        time.sleep(0.1)
    raise AssertionError(f"no run began: {process.communicate()[1]}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_can_be_read(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = start(*ENDLESS)
    [path] = wait_for(1, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    run = gf.open_run(path)
    assert (process.returncode, run.status) == (130, "interrupted")
    assert len(run.scalars) > 0
    assert "Traceback" not in err
    assert "Interrupted: what was recorded until now can be read." in err


def test_ctrl_c_ends_every_process_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = start("-m", "seed=0,1,2", "launcher=processes", "hydra.launcher.n_jobs=2", *ENDLESS)
    paths = wait_for(2, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    for path in paths:
        assert gf.open_run(path).status == "interrupted"
        assert len(gf.open_run(path).scalars) > 0
    assert len(list(Path("outputs").rglob("status.json"))) == 2  # the third never began


def test_help_lists_the_choices_and_how_to_ask(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "train.py"), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "cell: gru, gru_before, linear, lstm, rnn, rnn_relu, rnn_sigmoid\n" in done.stdout
    assert "The main job       gradflow compare\n" in done.stdout
    assert not list(tmp_path.iterdir())


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of the make that runs these tests
    own = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(["make", *arguments], cwd=cwd, env=own, capture_output=True, text=True)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
def test_make_lists_its_targets():
    done = make()
    assert done.returncode == 0, done.stderr
    for target in ("help", "compare", "test", "test-slow", "lint", "clean"):
        assert f"make {target} " in done.stdout


@pytest.fixture
def clone(tmp_path) -> Path:
    """The Makefile with a gradflow that only says what it is given."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "ready").touch()
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "from_make.py", tmp_path / "experiments")
    (tmp_path / "gradflow" / "commands").mkdir(parents=True)
    for package in (tmp_path / "gradflow", tmp_path / "gradflow" / "commands"):
        (package / "__init__.py").touch()
    (tmp_path / "gradflow" / "commands" / "cli.py").write_text(
        "import sys\ndef main(words):\n    print(*map(repr, words), file=sys.stderr)\n    sys.exit('fails' in words)\n"
    )
    return tmp_path


@needs_make
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("data=csv data.path=names.csv", ["'data=csv' 'data.path=names.csv'"]),
        ("data=csv data.path='my names (1).csv'", ["'data.path=my names (1).csv'"]),
        ("'data.path=my names.csv'", ["'data.path=my names.csv'"]),
        ("hydra.sweep.dir='over there'", ["'compare' 'hydra.sweep.dir=over there'\n"]),
        ("cell=rnn; touch stolen", ["'cell=rnn;' 'touch' 'stolen'"]),
        ("cell=`touch stolen` && touch stolen | touch stolen #", ["'&&'", "'#'"]),
        ("data.path=王.csv", ["'data.path=王.csv'"]),
        ("data.path=a$b.csv $(shell touch stolen)", ["'data.path=a$b.csv' '$(shell' 'touch' 'stolen)'"]),
    ],
)
def test_make_compare_passes_settings_on_as_they_are(settings, said, clone):
    done = make("compare", f"ARGS={settings}", cwd=clone)
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stderr
    assert not (clone / "stolen").exists()


@needs_make
def test_make_tells_what_failed(clone):
    assert make("compare", "ARGS=fails", cwd=clone).returncode != 0
    done = make("compare", "ARGS=data.path='a", cwd=clone)
    assert done.returncode != 0
    assert "ARGS: expected KEY=VALUE KEY=VALUE ..., got data.path='a (no closing quotation); close the" in done.stderr
    done = make("lecture", "ARGS=lang=zh names='王晓丽, 李建国'", cwd=clone)
    assert done.stderr == "'lecture' 'lang=zh' 'names=王晓丽, 李建国'\n"


@needs_make
def test_make_says_which_python_it_needs(tmp_path):
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    done = make("test", "PYTHON=no-such-python", cwd=folder)
    assert done.returncode != 0
    assert "gradflow needs Python 3.11, 3.12 or 3.13; tried: no-such-python" in done.stderr
    assert "make PYTHON=/path/to/python3.12" in done.stderr
