"""Pages made from the code when the site is built: one per figure, the analyses and the exact results."""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pictures import drawn, trained
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from gradflow import analysis, theory
from gradflow.figures.catalogue import texts
from gradflow.figures.room import Room, rooms

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SECTIONS = ("names", "forgetting", "exploding", "learning", "gates", "architectures", "further")

Page = dict[str, str]


def docstring(thing: Any) -> tuple[str, str]:
    """First line and the rest of a docstring."""
    head, _, rest = (inspect.getdoc(thing) or "").partition("\n")
    return head.strip(), rest.strip()


def auto(*directives: str) -> str:
    """Directives of autodoc."""
    return "\n".join(["```{eval-rst}", *(f".. {directive}" for directive in directives), "```"])


def places() -> dict[str, list[tuple[str, str]]]:
    """Figure -> the parts of the lecture and the pictures that show it."""
    from gradflow.commands.deck import deck

    found: dict[str, list[tuple[str, str]]] = {}
    for slide in deck("王晓丽", ["王晓丽", "李建国"]):
        if not slide.moves:
            found.setdefault(slide.figure, []).append((slide.section, slide.title))
    return found


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", r"\|").replace("\n", " ")


def checks(file: Path) -> list[str]:
    """What a picture claims, as a table."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    head = ["| claim | measured | expected | holds |", "|---|---|---|---|"]
    return head + [
        f"| {cell(row['sentence'])} | {cell(row['measured'])} | {cell(row['expected'])} | {row['holds']} |"
        for row in rows
    ]


def code(room: Room) -> str:
    """How one gets the figure."""
    name = room.name
    if room.kind == "exact":
        return f"""```python
import gradflow as gf

data = gf.theory.EXACT["{name}"]()
made = gf.figures.make(gf.figures.EXACT["{name}"], data)
made.save("{name}")  # PNG, PDF, SVG, CSV, JSON
```"""
    if room.kind == "picture":
        asked = {
            "name_saliency": " names=王晓丽,李建国",
            "gate_map": " names='王晓丽|李建国|张伟'",
            "one_hot": " names=王晓丽",
        }
        own = f"gradflow figures figures={name}{asked.get(name, '')}"
        run = f"\ngradflow figures outputs/train/DATE figures={name}{asked.get(name, '')}" if room.training else ""
        return f"```sh\n{own}{run}\n```"
    moving = f"\ngradflow animate outputs/compare/DATE figures={name}" if room.moving else ""
    return f"""```sh
gradflow figures figures={name}            # trains what it shows
gradflow figures outputs/compare/DATE figures={name}{moving}
```

or, step by step,

```python
import gradflow as gf
from gradflow import analysis

data = analysis.{room.table or name}(gf.open_sweep("outputs/compare/DATE"))
claims = analysis.{room.table or name}_claims(data)
figure = gf.figures.plot_{name}(data, claims=claims)
```"""


def figure_page(room: Room, shown: Iterable[str], folder: Path) -> str:
    """The page of a figure: question, claim, picture, how to read it, its checks, its code."""
    from importlib import import_module

    question, reading = docstring(room.part("plot"))
    claim, _ = docstring(import_module(room.package))
    table = room.table or room.name
    lines = [f"# {question}", "", f"**{claim}**", ""]
    for title in shown:
        lines += [f"![{question}](../_generated/{title}.png)", ""]
    lines += ["## How to read it", "", reading, ""] if reading else []
    lines += ["## What it claims", ""]
    lines += [docstring(room.check)[0], "", "Of the picture above:", ""]
    for title in list(shown)[:1]:
        lines += [*checks(folder / f"{title}.json"), ""]
    if room.kind != "exact":
        lines += [
            "The networks of this page are few and train briefly; `gradflow lecture` trains them in full.",
            "",
        ]
    lines += ["## Draw it", "", code(room), "", "## Its code", ""]
    names = [f"autofunction:: gradflow.analysis.{name}" for name in room.analyses if name in analysis.__all__]
    if room.kind == "exact":
        names = [f"autofunction:: gradflow.theory.{room.part('exact').compute.__name__}", *names]
    names += [f"autofunction:: gradflow.figures.{name}" for name in room.drawings]
    lines += [f"`gradflow/figures/{room.name}/` holds all of it; the table is `{table}`.", "", auto(*names), ""]
    return "\n".join(lines)


def figures_index(found: dict[str, list[tuple[str, str]]]) -> str:
    """All figures in the order of the lecture."""
    words = texts("en")
    lines = ["# Figures", ""]
    lines += [
        "A figure is one claim, with its numbers, its checks and its picture; in English and Chinese, for a slide, a",
        "notebook or a paper. `gradflow lecture` draws them all, `gradflow figures RUN` those that a log supports.",
        "",
    ]
    first = {name: places[0][0] for name, places in found.items()}  # the section that shows it first
    for section in (section for section in SECTIONS if section in first.values()):
        lines += [f"## {words[f'section.{section}']}", "", "::::{grid} 1 2 2 3", ":gutter: 2", ""]
        for name in found:
            if first[name] == section:
                question, _ = docstring(rooms()[name].part("plot"))
                lines += [
                    f":::{{grid-item-card}} {question}",
                    f":link: {name}",
                    ":link-type: doc",
                    f":img-top: ../_generated/{found[name][0][1]}.png",
                    f"`{name}`",
                    ":::",
                ]
        lines += ["::::", ""]
    entries = [f"{name.replace('_', ' ').capitalize().replace('Lstm', 'LSTM')} <{name}>" for name in found]
    lines += ["```{toctree}", ":hidden:", "", *entries, "```", ""]
    return "\n".join(lines)


def analysis_page() -> str:
    """Every analysis that is not of a figure, and where those are."""
    of_figures = {name: room.name for room in rooms().values() for name in room.analyses}
    own = [name for name in analysis.__all__ if name not in of_figures]
    lines = ["# Analysis", "", "Logs in, numbers out: `gradflow.analysis`. No torch, no plotting, no disk.", ""]
    lines += [auto(*(f"autofunction:: gradflow.analysis.{name}" for name in own)), "", "## Columns", ""]
    lines += [
        auto(
            *(f"autodata:: gradflow.analysis.runs.{name}" for name in ("IDENTITY", "ORDER")),
            "autoexception:: gradflow.analysis.runs.DoesNotApply",
        ),
        "",
        "## Of figures",
        "",
    ]
    lines += ["The table of a figure and the checks of its claims stand on its page.", "", "| | page |", "|---|---|"]
    lines += [
        f"| {{func}}`gradflow.analysis.{name}` | [{figure}](../figures/{figure}.md) |"
        for name, figure in of_figures.items()
    ]
    return "\n".join([*lines, ""])


def theory_page() -> str:
    """Every exact result."""
    head, _ = docstring(theory)
    pages = {room.part("exact").compute.__name__: name for name, room in rooms().items() if room.kind == "exact"}
    lines = ["# Exact results", "", head, "", auto("currentmodule:: gradflow.theory"), ""]
    lines += ["Each function stands on the page of its figure.", "", "| | figure |", "|---|---|"]
    lines += [
        f"| {{func}}`gradflow.theory.{name}` | [{figure}](../figures/{figure}.md) |" for name, figure in pages.items()
    ]
    return "\n".join([*lines, ""])


def conditions(runs: Path) -> str:
    """What a diagnosis says of the network that has most to be said of, and every condition."""
    from gradflow import diagnose, open_sweep
    from gradflow.diagnosis.conditions import CONDITIONS
    from gradflow.diagnosis.words import texts as sentences

    words = sentences("en")
    examined = {run.path.name: diagnose(run) for run in open_sweep(runs).members}
    name = max(examined, key=lambda name: len(examined[name].ill))
    lines = ["## What it says", "", f"Of one of the networks of these pages (`{name}`):", ""]
    lines += ["```text", examined[name].text(), "```", "", "## What it looks for", ""]
    for condition in CONDITIONS:
        kinds = re.compile(rf"{condition.name}\.ill(_\w+)?\.advice")
        advice = " Or: ".join(dict.fromkeys(text for name, text in words.items() if kinds.fullmatch(name)))
        advice = re.sub(r"{(\w+)}", r"*\1*", advice)
        unit = "" if condition.unit == "1" else f", in {condition.unit}"
        lines += [f"### {words[f'{condition.name}.title']}", "", f"`{condition.name}`{unit}", ""]
        lines += [docstring(condition.examine)[0], "", f"- threshold from: {words[f'{condition.name}.source']}"]
        lines += [f"- what helps: {advice}"] if advice else []
        lines += [f"- figure: [{condition.figure}](figures/{condition.figure}.md)"] if condition.figure else []
        lines += [""]
    return "\n".join([*lines, *proof_of_conditions()])


def proof_of_conditions() -> list[str]:
    """What `benchmarks/diagnosis.py` counted, as a table."""
    counted = pd.read_csv(BENCHMARKS / "diagnosis.csv").query("seeds == 'fresh'").set_index("condition")
    lines = [
        "## How it was proved",
        "",
        "Networks made ill on purpose and healthy ones, as in a medical test (`benchmarks/diagnosis.py`): how many ill",
        "ones are found, how many healthy ones left alone, and how many ill ones are well once trained again with the",
        "remedy that was named. Thresholds and remedies were chosen with other seeds.",
        "",
        "| | found | left alone | well again |",
        "|---|--:|--:|--:|",
    ]
    pairs = [("found", "ill"), ("left_alone", "healthy"), ("well", "treated")]
    for condition, row in counted.iterrows():
        cells = [f"`{condition}`", *(f"{row[part]} / {row[whole]}" if row[whole] else "" for part, whole in pairs)]
        lines += [f"| {' | '.join(cells)} |"]
    lines += [
        "",
        f"Left out, before they were examined, are {counted['left_out'].sum()} networks that were meant to explode and",
        "did not. What exploded is well again if its loss, too, stays within twice",
        "the highest at a tenth of the learning rate. So few networks say only so much: with 10 of 10 the share is",
        "above 0.72 (Wilson's 95 % interval).",
        "",
    ]
    return lines


def write(file: Path, text: str) -> None:
    """Writes a page, unless it is as it was, so that Sphinx does not read it again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def pages(app: Sphinx) -> None:
    """Writes all of them beside the pages that are written by hand."""
    source = Path(app.srcdir)
    pictures = drawn(source / "_build" / "pictures")
    here = source / "_generated"
    here.mkdir(exist_ok=True)
    for picture in pictures.glob("*.png"):
        if not (here / picture.name).is_file() or (here / picture.name).read_bytes() != picture.read_bytes():
            (here / picture.name).write_bytes(picture.read_bytes())
    found = places()
    made: dict[str, Callable[[], str]] = {
        f"figures/{name}.md": lambda room=room, name=name: figure_page(room, [t for _, t in found[name]], pictures)  # type: ignore[misc]
        for name, room in rooms().items()
    }
    made |= {"figures/index.md": lambda: figures_index(found)}
    made |= {"_generated/conditions.md": lambda: conditions(trained(source / "_build" / "pictures"))}
    made |= {"api/analysis.md": analysis_page, "api/theory.md": theory_page}
    made |= {f"notebooks/{file.name}": partial(file.read_text, "utf-8") for file in NOTEBOOKS.glob("*.ipynb")}
    for path, text in made.items():
        write(source / path, text())
    for old in (source / "_build").glob("notebooks-*"):
        if str(old) != app.config.nb_execution_cache_path:
            shutil.rmtree(old)


def as_meant(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Bars in docstrings are those of norms, never substitutions; a colon in that of a property ends no type."""
    for number, line in enumerate(lines):
        if ">>>" not in line:
            parts = line.split("`")
            lines[number] = "`".join([part.replace("|", r"\|") if i % 2 == 0 else part for i, part in enumerate(parts)])
    if what in ("property", "attribute", "data"):
        lines.insert(0, "\\ ")  # where napoleon looks for the type


def by_last_name(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Docstrings name things as their module does, `Recorder.step`: what alone ends in that name is meant."""
    target = node.get("reftarget", "")
    ours = target.startswith("gradflow.")
    if node.get("refdomain") != "py" or not target or ("." in target and not (ours or target[0].isupper())):
        return None
    ending = "." + (target.rpartition(".")[2] if ours else target)
    known = env.get_domain("py").objects.items()
    found = {(entry.docname, entry.node_id) for name, entry in known if f".{name}".endswith(ending)}
    if len(found) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], *found.pop(), content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Before anything is read."""
    app.connect("missing-reference", by_last_name)
    app.connect("autodoc-process-docstring", as_meant, priority=100)  # before napoleon
    app.connect("builder-inited", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
