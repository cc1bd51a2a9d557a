"""The dark theme: colours that are told apart and read, and figures that stay dark wherever they go."""

import ast
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from figure_checks import check_contrast, contrast
from matplotlib.colors import to_rgb
from PIL import Image
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow import figures
from gradflow.figures import theme
from gradflow.figures.diagram import mixed
from gradflow.figures.options import Options, using
from gradflow.figures.theme import CELLS, DARK, GREY, INK, LOOKS, NOTHING, PAPER, TITLE, Tone, shade

GROUND = DARK[PAPER]
SEEN = {
    "all colours": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green ones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue ones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""Of linear RGB: Machado, Oliveira and Fernandes 2009, at severity 1."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gf.runlog.Run:
    path = tmp_path_factory.mktemp("theme") / "run"
    return gf.open_run(write_run(path, config_of("lstm"), Planted(steps=6, iterations=21)))


def lab(colours, eye) -> np.ndarray:
    """CIELAB of colours as an eye sees them."""
    parts = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(eye), 0, 1) @ XYZ.T / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("eye", SEEN)
def test_cells_are_told_apart_by_every_eye(name, eye):
    with using(Options(theme=name)):
        colours = sorted({shade(own.colour) for own in LOOKS.values()})
    distances = [np.linalg.norm(one - other) for one, other in combinations(lab(colours, SEEN[eye]), 2)]
    assert min(distances) >= 13, "ten is told apart side by side"


def test_words_and_lines_are_read_on_the_dark_ground():
    for tone in {*(own.colour for own in LOOKS.values()), GREY, TITLE, INK}:
        assert contrast(DARK[tone], GROUND) >= 4.5, tone
    viridis = mpl.colormaps["viridis"](np.linspace(0, 1, 64))
    for eye in SEEN.values():
        assert np.linalg.norm(lab(viridis, eye) - lab([DARK[NOTHING]], eye), axis=-1).min() >= 13
    assert contrast(DARK[NOTHING], GROUND) >= 2


def test_every_cell_has_a_dark_colour():
    assert {facts.colour for facts in CELLS.values()} <= set(DARK)


ARGUMENTS = {"c", "color", "colors", "ecolor", "edgecolor", "facecolor", "foreground"}
ARGUMENTS |= {"markeredgecolor", "markerfacecolor", "labelcolor", "titlecolor"}
"""By which matplotlib is told a colour."""


def bare(file: Path) -> Iterator[str]:
    """Colours that a file gives to matplotlib, or its own dictionaries of arguments, as they are on white."""
    tones = {name for name, value in vars(theme).items() if isinstance(value, Tone)}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        given: dict[str, ast.expr] = {}
        if isinstance(node, ast.Call):
            given = {word.arg: word.value for word in node.keywords if word.arg}
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            given = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
        for value in (given[name] for name in ARGUMENTS & given.keys()):
            ends = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            for end in ends:
                literal = isinstance(end, ast.Constant) and end.value not in ("none", None)
                if literal or (isinstance(end, ast.Name) and end.id in tones):
                    yield f"{file.parent.name}/{file.name}:{node.lineno} {ast.unparse(end)}"


def test_no_colour_goes_past_the_theme():
    files = [file for file in Path(figures.__file__).parent.rglob("*.py") if file.name != "theme.py"]
    assert [place for file in files for place in bare(file)] == [], "shade() gives it in the theme in force"


def test_a_dark_figure_stays_dark_wherever_it_goes(run, tmp_path):
    made = figures.draw("gradient_by_lag", run, theme="dark", palette={"lstm": "#123456"}, size=(8, 3))
    assert made.figure.theme == "dark"
    assert "#123456" in {line.get_color() for line in made.figure.axes[0].lines}, "a colour of the user's own is kept"
    plain, notebook = BytesIO(), made.figure._repr_png_()[0]
    made.figure.savefig(plain, format="png")  # not in gradflow's style: ticks that are made now have the theme's ink
    for content in (plain.getvalue(), notebook, figures.output.picture(made.figure, "png")):
        with Image.open(BytesIO(content)) as image:
            assert image.convert("RGB").getpixel((2, 2)) == tuple(round(255 * part) for part in to_rgb(GROUND))
    check_contrast(figures.draw("gradient_by_lag", run, theme="dark").figure)
    with figures.deck(tmp_path / "deck.pdf") as add_page:
        add_page(made.figure)
    assert made.figure.patch.get_bbox().bounds == (0, 0, 1, 1)


def test_a_colour_is_mixed_with_the_ground():
    with using(Options(theme="dark")):
        assert (mixed("#000000", 0), mixed("#ABCDEF", 1)) == (GROUND.lower(), "#abcdef")


def test_figures_of_a_log_are_written_as_they_are_asked_for(run, tmp_path):
    look = {"only": ["gradient_by_lag"], "context": "paper", "theme": "dark", "svg_text": True}
    [svg] = [file for file in figures.draw_all(run.path, tmp_path, **look) if file.suffix == ".svg"]
    assert GROUND.lower() in svg.read_text()
    assert "<text" in svg.read_text()
    with pytest.raises(ValueError, match="theme: expected one of light, dark, got 'night'"):
        figures.draw_all(run.path, tmp_path, theme="night")


def test_slides_of_a_dark_deck_are_dark_with_light_words(tmp_path):
    pptx = pytest.importorskip("pptx")
    from gradflow.commands.slides import write_slides

    write_slides(tmp_path / "deck.pptx", {}, "en", "dark")
    master = pptx.Presentation(str(tmp_path / "deck.pptx")).slide_master
    assert str(master.background.fill.fore_color.rgb) == GROUND.removeprefix("#")
    [roles] = [part for part in master.element if part.tag.endswith("clrMap")]
    assert (roles.get("bg1"), roles.get("tx1")) == ("dk1", "lt1")
