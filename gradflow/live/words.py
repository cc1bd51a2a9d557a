"""The texts of the live page, in both languages."""

from functools import cache, partial
from importlib.resources import files

import yaml

from gradflow.report.words import filled


@cache
def own_texts(lang: str) -> dict[str, str]:
    """All texts of the page, by id."""
    return yaml.safe_load((files("gradflow.live") / f"{lang}.yaml").read_text(encoding="utf-8"))


word = partial(filled, own_texts)
"""The text of an id by language, with values filled in: numbers as figures print them."""
