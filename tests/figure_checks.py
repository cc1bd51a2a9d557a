"""What every drawn figure must keep to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
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
