"""The page of sliders: the same for the server, which computes, and for a file, which has all of it inside."""

import base64
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gradflow.cells.facts import CELLS
from gradflow.checks import check_path, shown
from gradflow.figures.drawing import in_processes
from gradflow.figures.theme import LANGUAGES
from gradflow.files import write_files
from gradflow.live import charts, settings
from gradflow.live.panels import SETTINGS, answered, asked
from gradflow.live.settings import ALL, Space
from gradflow.live.training import EVERY, ITERATIONS
from gradflow.live.words import own_texts, word
from gradflow.report.curves import NIGHT
from gradflow.report.page import as_json, chart_library, environment_of, template
from gradflow.theory.error_surface import WINDOW

AUTO = "auto"
SPOKEN = ("page.lost", "page.foreign", "page.damaged", "setting.", "training.", "answer.none", "spectrum.")
"""Beginnings of the ids of texts that the page's script fills in."""


def live_page(lang: str = AUTO) -> str:
    """The page that asks the server it comes from.

    Args:
        lang: `en`, `zh`, or `auto`: the browser's.
    """
    return _rendered(lang, None, None)


def write_live(
    out: str | Path, lang: str = AUTO, *, space: Space = ALL, processes: int = 1, progress: bool = False
) -> Path:
    """Write the page as one HTML file that has all numbers inside: no server, no network, no other file.

    It takes up to ten minutes, in which 120 small networks are trained.

    Args:
        out: The file; its folder is made, what was there is replaced.
        lang: `en`, `zh`, or `auto`: the browser's.
        space: What is computed.
        processes: 1 or 2 that compute it.
        progress: Show a progress bar (on a terminal).

    Returns:
        The file.

    Raises:
        TypeError: `out` is no path.
        ValueError: It is a folder.
        OSError: It cannot be written; what was there is as before.
    """
    check_path("out", out, "the file of the page")
    file = Path(out)
    if file.is_dir():  # which else would be found out after minutes
        raise ValueError(f"out: expected a file, such as live.html, got the folder {shown(str(file))}")
    file.parent.mkdir(parents=True, exist_ok=True)
    grid = grid_of(space, processes=processes, progress=progress)
    write_files({file: _rendered(lang, grid, space).encode()})
    return file


def grid_of(space: Space, *, processes: int = 1, progress: bool = False) -> dict[str, Any]:
    """The tables of every panel, by :func:`gradflow.live.panels.key`."""
    parts, grid = list(asked(space)), dict[str, Any]()
    with in_processes(processes) as share:
        for answer in [share(answered, part) for part in tqdm(parts, disable=None if progress else True)]:
            grid |= answer()
    return grid


def _packed(grid: Mapping[str, Any]) -> str:
    """A grid as the page has it inside: JSON, compressed, in letters."""
    return base64.b64encode(gzip.compress(as_json(grid).encode(), mtime=0)).decode("ascii")


def _rendered(lang: str, grid: Mapping[str, Any] | None, space: Space | None) -> str:
    environment = environment_of("gradflow.live", word)
    return environment.get_template("live.html").render(
        language="" if lang == AUTO else lang,
        style=template("gradflow.report", "base.css") + template("gradflow.live", "live.css"),
        script=template("gradflow.report", "base.js") + template("gradflow.live", "address.js", "live.js"),
        library=chart_library(),
        facts=as_json(_facts(space)),
        grid=grid and _packed(grid),
        cells={name: CELLS[name].label for name in settings.CELL_NAMES},
        longest=settings.LONGEST_NAME,
        names=settings.NAMES if space is None else space.names,
        static=space and _counts(space),
        title=word("page.title"),
    )


def _facts(space: Space | None) -> dict[str, Any]:
    """What the script needs: settings, charts, texts, and of the static page the runs that are in it."""
    own = space or ALL
    return {
        "sliders": {
            "steps": _slider(own.steps, settings.STEPS),
            "clip": _slider(own.clips, settings.CLIP),
            "start": {cell: _slider(starts, settings.start_of(cell)) for cell, starts in own.starts.items()},
        },
        "kinds": {cell: settings.kind_of_start(cell) for cell in settings.CELL_NAMES},
        "labels": {cell: CELLS[cell].label for cell in settings.CELL_NAMES},
        "colours": {cell: CELLS[cell].colour for cell in settings.CELL_NAMES},
        "panels": SETTINGS,
        "specs": charts.specs(),
        "canvas": charts.CANVAS,
        "night": NIGHT,
        "window": WINDOW,
        "updates": ITERATIONS,
        "recorded": EVERY,
        "words": {
            lang: {id: text for id, text in own_texts(lang).items() if id.startswith(SPOKEN)} for lang in LANGUAGES
        },
        "cell": settings.CELL.default,
        "name": (space.names if space else settings.NAMES)[0],
        "names": space and space.names,
        "longest": settings.LONGEST_NAME,
        "runs": space and {"starts": space.trained, "clips": space.trained_clips},
        "most": settings.MOST_STEPS if space is None else space.length,
    }


def _counts(space: Space) -> dict[str, int]:
    """What the static page says of itself."""
    runs = sum(len(starts) for starts in space.trained.values()) * len(space.trained_clips)
    return {"runs": runs, "updates": space.length * ITERATIONS, "names": len(space.names)}


def _slider(values: Sequence[Any], setting: settings.Setting) -> dict[str, Any]:
    default = setting.default if setting.default in values else values[-1]
    return {"values": list(values), "place": list(values).index(default)}
