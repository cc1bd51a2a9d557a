"""What every drawn figure must keep to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradflow import figures
from gradflow.figures.catalogue import Labels


def words(figure: Figure) -> str:
    """Everything that a figure says."""
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def check_written(
    figure: Figure, path: Path, data: pd.DataFrame, claims: Sequence[Mapping[str, Any]], lang: str
) -> None:
    """It is saved in all formats with its numbers and claims, and its caption is the first of these."""
    png, pdf, svg, csv, checks = figures.save(figure, path, data=data, claims=claims)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"<svg" in svg.read_bytes()[:1000]
    assert len(pd.read_csv(csv)) == len(data)
    assert [claim["claim"] for claim in json.loads(checks.read_text(encoding="utf-8"))] == [c["claim"] for c in claims]
    assert Labels(lang).claim(claims[0])[:12] in words(figure).replace("\n", " " if lang == "en" else "")


def check_nothing_overlaps(figure: Figure) -> None:
    """No text touches another, leaves the figure, or has a line, or the point of an arrow, run through it."""
    shown = [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]
    shown = [text for text in shown if not any(tick.label2 is text for axes in figure.axes for tick in ticks(axes))]
    boxes = {text: text.get_window_extent().padded(-1) for text in shown}
    for text, box in boxes.items():
        inside = np.all(figure.bbox.min <= box.min) and np.all(box.max <= figure.bbox.max)
        assert inside, f"{text.get_text()!r} leaves the figure"
        for other in shown[shown.index(text) + 1 :]:
            assert not box.overlaps(boxes[other]), f"{text.get_text()!r} and {other.get_text()!r} overlap"
    for axes in figure.axes:
        arrows = [line for line in axes.lines if line.get_zorder() == 2] + axes.findobj(mpl.patches.Polygon)
        for drawn in arrows:
            path = drawn.get_transform().transform_path(drawn.get_path())
            for text, box in boxes.items():
                assert not path.intersects_bbox(box, filled=False), f"{text.get_text()!r} has a line through it"


def ticks(axes: mpl.axes.Axes) -> list[mpl.axis.Tick]:
    """All ticks of both axes."""
    return [tick for axis in (axes.xaxis, axes.yaxis) for tick in (*axis.majorTicks, *axis.minorTicks)]
