"""The report's own texts, in both languages at once."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup, escape

from gradflow.figures.catalogue import Labels, texts
from gradflow.figures.catalogue import number as printed
from gradflow.figures.theme import LANGUAGES
from gradflow.foreign import printable
from gradflow.report import formulas

HTML_LANG = {"en": "en", "zh": "zh-CN"}
Text = dict[str, str]
"""A text by language; Markup where it is HTML."""


@cache
def own_texts(lang: str) -> dict[str, str]:
    """All texts of the page, by id."""
    file = files("gradflow.report") / f"{lang}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def word(key: str, **values: Any) -> dict[str, str]:
    """The text of an id with values filled in: numbers as figures print them, texts by language as they are."""
    return filled(own_texts, key, **values)


def filled(texts_of: Callable[[str], Mapping[str, str]], key: str, **values: Any) -> dict[str, str]:
    """The same, of the texts that another page has by language."""
    return {lang: texts_of(lang)[key].format(**_in(lang, values)) for lang in LANGUAGES}


def known(key: str, otherwise: str) -> dict[str, str]:
    """The text of an id, or what stands for itself."""
    return word(key) if key in own_texts("en") else alike(otherwise)


def alike(text: Any) -> dict[str, str]:
    """What is called the same in both languages, such as a path or a name from outside."""
    return dict.fromkeys(LANGUAGES, printable(str(text)))


def of_figures(say: Callable[[Labels], str]) -> dict[str, str]:
    """A text of the figures, in plain characters."""
    return {lang: formulas.plain(say(Labels(lang))) for lang in LANGUAGES}


def html_of_figures(say: Callable[[Labels], str]) -> dict[str, str]:
    """A text of the figures, with its formulas as HTML."""
    return {lang: formulas.html(say(Labels(lang))) for lang in LANGUAGES}


def has_text(key: str) -> bool:
    """Whether the figures have a text of this id."""
    return key in texts("en")


def spans(text: Text) -> Markup:
    """A text in both languages, of which the style shows one; once, where they are the same."""
    if text["en"] == text["zh"]:
        return escape(text["en"])
    inner = (f'<span class="{lang}" lang="{HTML_LANG[lang]}">{escape(text[lang])}</span>' for lang in LANGUAGES)
    return Markup("".join(inner))


def data(text: Text) -> Markup:
    """The attributes from which the page's script fills in what cannot hold both languages, such as an option."""
    return Markup(" ".join(f'data-{lang}="{escape(text[lang])}"' for lang in LANGUAGES))


def _in(lang: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _worded(lang, value) for key, value in values.items()}


def _worded(lang: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return value[lang]
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """A number as the figures print it, in plain characters."""
    return formulas.plain(printed(value))
