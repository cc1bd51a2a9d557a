"""What who speaks has before them under a slide."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from gradflow.commands.deck import Drawn, Slide
from gradflow.figures.catalogue import Labels, number
from gradflow.report.formulas import plain


def notes(slide: Slide, made: Drawn, lang: str) -> str:
    """The claim in full, every check with its outcome, how to read the figure, and its source."""
    labels, claims = Labels(lang), made.claims
    parts = [plain(labels.claim(claims[0]))] if claims else []
    parts.append("\n".join([labels("deck.checks"), *(_check(claim, labels, lang) for claim in claims)]))
    parts.append(labels("deck.reading", text=plain(slide.reading(lang))))
    parts.append(labels("deck.source", text=made.source))
    return "\n\n".join(parts)


def _check(claim: Mapping[str, Any], labels: Labels, lang: str) -> str:
    value = claim["value"]
    told = plain(number(value)) if isinstance(value, int | float) else str(value)
    verdict = labels("deck.holds" if claim["holds"] else "deck.fails")
    name, expected = claim["claim"].replace("_", " "), str(claim["expected"])
    if lang == "zh":
        name = _chinese()["checks"].get(claim["claim"], name)
        for english, chinese in _chinese()["expected"].items():
            expected = expected.replace(english, chinese)
    return labels("deck.check", name=name, value=told, expected=expected, verdict=verdict)


@cache
def _chinese() -> dict[str, dict[str, str]]:
    return yaml.safe_load((files("gradflow.commands") / "notes_zh.yaml").read_text(encoding="utf-8"))
