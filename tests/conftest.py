"""Shared fixtures: the training command, small files of names, where the real data sets lie; a bug on request."""

import importlib.util
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each, before torch counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SHARED = Path(os.environ.get("GRADFLOW_SHARED", Path(__file__).parents[2] / "shared")) / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real data sets (set GRADFLOW_SHARED to move it)."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data sets, which are not at {SHARED} (set GRADFLOW_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Loads a script, such as `benchmarks/opening.py`, as a module."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, Path(__file__).parents[1] / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def train(monkeypatch, tmp_path) -> Iterator[Callable[..., int]]:
    """Runs `experiments/train.py` with these arguments in an empty folder and gives its exit status."""
    from gradflow.commands.train import main

    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    level, before = root.level, root.handlers[:]

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            main()
        except SystemExit as exit_:
            if isinstance(exit_.code, str):  # as the interpreter does
                sys.stderr.write(exit_.code)
                return 1
            return int(exit_.code or 0)
        return 0

    yield run
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:], root.level = before, level


@pytest.fixture
def files(tmp_path):
    """Small files of every format that a data source reads."""
    chinese = ["".join(letters) for letters in itertools.product("王李张刘陈杨黄吴", "伟芳娜敏静丽强磊军洋")]
    rows = [f"{name},{'男女'[number % 2]}" for number, name in enumerate(chinese)]
    (tmp_path / "names.csv").write_text("\n".join(rows), encoding="utf-8")
    head = ["By@someone", "2018-04-04", "", "dict,sex"]
    (tmp_path / "corpus.txt").write_text("\n".join(head + rows), encoding="utf-8")
    (tmp_path / "languages").mkdir()
    for language, ending in {"Czech": "ak", "Greek": "os"}.items():
        words = ["".join(letters) + ending for letters in itertools.product("BDKLM", "aeiou", "rn")]
        (tmp_path / "languages" / f"{language}.txt").write_text("\n".join(words), encoding="utf-8")
    return {
        "data/csv": [f"data.path={tmp_path / 'names.csv'}"],
        "data/corpus": [f"data.path={tmp_path / 'corpus.txt'}"],
        "data/languages": [f"data.path={tmp_path / 'languages'}"],
    }


@pytest.fixture(scope="module")
def browser():
    """Chromium, where there is one."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        except api.Error as error:
            pytest.skip(f"needs Chromium: apt install chromium, or playwright install chromium ({error.message[:80]})")
        yield browser
        browser.close()


settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
settings.load_profile("patient")

if mutation := os.environ.get("GRADFLOW_MUTATION"):
    from hypothesis import Phase
    from mutations import MUTATIONS

    MUTATIONS[mutation]()
    settings.register_profile("mutation", phases=(Phase.explicit, Phase.generate))  # that it fails is all one asks
    settings.load_profile("mutation")
