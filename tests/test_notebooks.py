"""Every notebook runs as it is, without a network, shows its figures, and is stored without outputs."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK = {"diagnosis"}  # the others run in CI, and by `make test-notebooks`
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


CASES = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem not in QUICK)) for path in NOTEBOOKS]


def shows_a_figure(source: str) -> bool:
    last = source.strip().splitlines()[-1]
    return last.startswith(("figure(", "gf.figures.plot_", "gf.figures.make("))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata, cell.source
        assert not cell.get("outputs"), cell.source
        assert cell.get("execution_count") is None, cell.source


@pytest.mark.parametrize("path", CASES)
def test_a_notebook_runs_and_shows_its_figures(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    environment = os.environ | NO_NETWORK | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute(env=environment)
    figures = 0
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], json.dumps(cell.outputs)
        images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(images) == shows_a_figure(cell.source), cell.source
        figures += len(images)
    assert figures
    assert not list(tmp_path.iterdir()), "a notebook leaves its logs in a folder of its own"
