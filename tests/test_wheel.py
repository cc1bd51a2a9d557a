"""The wheel: it has all that the commands need, and runs the main job far from any checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import gradflow as gf

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    run(*pip, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel, and lends everything else from this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (own / "lent.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def test_the_wheel_holds_what_is_no_code(wheel):
    names = ZipFile(wheel).namelist()
    files = {path.relative_to(ROOT / "gradflow") for path in (ROOT / "gradflow").rglob("*") if path.is_file()}
    wanted = {f"gradflow/{path.as_posix()}" for path in files if "__pycache__" not in path.parts}
    wanted |= {f"gradflow/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert wanted <= set(names)
    assert not [name for name in names if not name.startswith(("gradflow/", "gradflow_rnn-"))]
    assert wheel.name.startswith(f"gradflow_rnn-{gf.__version__}-")


def test_the_installed_command_runs_the_main_job_from_anywhere(installed, tmp_path):
    place = run(installed / "python", "-c", "import gradflow; print(gradflow.__file__)", cwd=tmp_path)
    assert str(installed.parent) in place
    job = ["debug=tiny", "cell=rnn,lstm", "init=default", "data.names_per_sequence=8"]
    out = run(installed / "gradflow", "compare", *job, "lang=zh", "context=paper", cwd=tmp_path)
    assert out.count("finished") == 4
    [folder] = (tmp_path / "outputs" / "compare").iterdir()
    assert list((folder / "figures" / "zh").glob("*.png"))
    assert "checks passed" in run(installed / "gradflow", "check", folder, cwd=tmp_path)
    assert "gradflow, version" in run(installed / "python", "-m", "gradflow", "--version", cwd=tmp_path)
