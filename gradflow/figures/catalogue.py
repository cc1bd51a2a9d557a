"""Every text of the figures, in English and Chinese."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import pandas as pd
import yaml

from gradflow.cells.facts import CELLS
from gradflow.checks import did_you_mean, shown
from gradflow.figures.options import LANGUAGES, in_force
from gradflow.figures.room import rooms
from gradflow.figures.terms import MEASURES, TERMS
from gradflow.foreign import label
from gradflow.tasks import problem, problem_names

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it

_UNBROKEN = re.compile(
    rf"""[（〔]*(?:(?:\$[^$]*\$|[\d.–−]+)\s(?:{"|".join(MEASURES)})|{"|".join(TERMS)}|[\u2e80-\u2fff\u3040-\u9fff]|(?:\$[^$]*\$|[^\s$\u2e80-\u9fff（）〔〕，。；：]+)+)"""
    r"""[，。；：、）〕)\];,.]*|\s+|."""
)
"""What a line is not broken in: a number and what it counts, a word with formulas at it, or a Chinese character, each
with its punctuation; or white space."""
_START = re.compile(r"(b_[fz]|g|\\sigma)=(-?\d[-+.e\d]*|-?inf|nan)")
"""A formula in :func:`gradflow.analysis.runs.start_of`; whatever else has an equals sign in it is not typeset."""
_NESTED = re.compile(r"（([^（）]*(?:（[^（）]*）[^（）]*)+)）")
"""Brackets with brackets in them."""
_STOP = re.compile(r"。|\.\s")
"""The end of a sentence that another one follows."""
_WORDS = re.compile(r"(?:\$[^$]*\$|[^\s$])+|\s+|.")


@cache
def texts(lang: str) -> dict[str, str]:
    """All texts of a language, by id: names of cells and problems, the shared ones, those of every figure's folder.

    Raises:
        ValueError: An unknown language, or two texts with one id.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"lang: expected one of {', '.join(LANGUAGES)}, got {lang!r}")
    shared, *own = (files("gradflow.figures") / "labels", *(files(room.package) for room in rooms().values()))
    merged = {f"cell.{name}": facts.label[lang] for name, facts in CELLS.items()}
    merged |= {f"source.{name}": problem(name).label[lang] for name in problem_names()}
    merged |= _texts_of(shared / f"{lang}.yaml")
    for file in (folder / f"{lang}.yaml" for folder in own):
        added = _texts_of(file) if file.is_file() else {}
        if twice := sorted(merged.keys() & added.keys()):
            raise ValueError(f"{file}: expected ids of no other file, got {', '.join(twice)}")
        merged |= added
    return merged


def _texts_of(file: Traversable) -> dict[str, str]:
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)


def number(value: float) -> str:
    r"""A number as a figure prints it: two to three digits, powers of ten as a formula.

    Example:
        >>> number(-0.5712), number(10946.2), number(3.2e-9), number(float("nan"))
        ('−0.571', '10946', '$3.2{\\times}10^{-9}$', 'NaN')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa}{{\times}}10^{{{int(exponent)}}}$"


def short(value: float) -> str:
    r"""A number of two digits, for where there is little room; 1 is 1.

    Example:
        >>> short(0.396), short(2.01e-5), short(1.0), short(99.7), short(-float("inf"))
        ('0.40', '$2.0{\\times}10^{-5}$', '1', '99.7', '−∞')
    """
    plain = 1e-3 <= abs(value) < 99.5 and value != 1
    return f"{value:#.2g}".rstrip(".").replace("-", "−") if plain else number(value)


def brief(value: float) -> str:
    r"""A number as a headline prints it: whole ones as they are, others of two digits.

    Example:
        >>> brief(8), brief(20.0), brief(0.567), brief(2.01e-5)
        ('8', '20', '0.57', '$2.0{\\times}10^{-5}$')
    """
    whole = math.isfinite(value) and float(value).is_integer() and abs(value) < 1e5
    return f"{value:.0f}".replace("-", "−") if whole else short(value)


class Labels:
    """The texts of one language, with values filled in."""

    def __init__(self, lang: str) -> None:
        own, known = in_force().labels, texts(lang)
        if unknown := sorted(map(str, own.keys() - known.keys())):
            advice = did_you_mean(unknown[0], known) or "; gradflow/figures/labels/en.yaml has them"
            raise ValueError(f"labels: expected ids of texts, got {', '.join(unknown)}{advice}")
        self._texts = {**known, **own} if own else known

    def __call__(self, key: str, **values: Any) -> str:
        """The text of an id; numbers, curves (mappings with cell and start) and lists of them are put into words."""
        text = self._texts[key]
        return _NESTED.sub(r"〔\1〕", self._filled(key, text, values) if values else text)

    def _filled(self, key: str, text: str, values: Mapping[str, Any]) -> str:
        try:
            return text.format(**{name: self._worded(value) for name, value in values.items()})
        except (LookupError, ValueError, AttributeError) as error:
            if key not in in_force().labels:
                raise
            known = ", ".join(f"{{{name}}}" for name in values)
            raise ValueError(
                f"labels: expected for {key} a text with placeholders out of {known} (other braces doubled), "
                f"got {shown(text)}"
            ) from error

    def cell(self, name: str) -> str:
        """A cell's name; a name that gradflow does not know stands for itself."""
        return self.word("cell", name)

    def start(self, words: str) -> str:
        """How the weights start, from :func:`gradflow.analysis.settings.start_of`: words translated, formulas set.

        A bias alone is told of torch's own start: `default, b_f=3` is default no longer.
        """
        told = words.removeprefix("default, ").split(", ")
        return " ".join(self._formula(word) if "=" in word else self.word("init", word) for word in told)

    def clip(self, words: str) -> str:
        """What is done to the gradient, from :func:`gradflow.analysis.settings.treatment_of`."""
        if not words:
            return self._texts["clip.unknown"]
        clip, *more = words.split(", ")
        if more and clip == "none":
            return self._texts["clip.omega"]
        return self.word("clip", clip) + (self._texts["clip.and_omega"] if more else "")

    def curve(self, cell: str, start: str) -> str:
        """Cell and initialisation, as far as it is known."""
        if not start:
            return self.cell(cell)
        name = self._texts["curve.name"].format(cell=self.cell(cell), start=self.start(start))
        return name.replace("）（", "，")  # a cell that has a bracket of its own

    def title(self, cell: str, start: str) -> str:
        """Cell and initialisation, which the default one goes without."""
        return self.cell(cell) if start == "default" else self.curve(cell, start)

    def facet(self, init: str) -> str:
        """The title of a panel of one initialisation; none where it is not known."""
        return self.word("facet", init) if init else ""

    def setting(self, data: pd.DataFrame) -> str:
        """What the networks of a table learn from; module, layer, direction and call shown, where there are several.

        Nothing for a table of :mod:`gradflow.theory`, which has no runs.
        """
        if not {"source", "num_layers"} <= set(data):
            return ""
        row = data.iloc[0]
        layers = int(row["num_layers"])
        words = [self._task(data)] if row["source"] else []
        if row.get("module"):
            words.append(self("place.module", module=row["module"]))
        if layers > 1:
            shown = _places(data, "layer")
            one = len(shown) == 1
            words.append(self("place.layer" if one else "place.layers", layer=max(shown, default=-1) + 1, count=layers))
        if row["bidirectional"]:
            shown = _places(data, "direction")
            name = ("forward", "reverse")[shown[0]] if len(shown) == 1 else "bidirectional"
            words.append(self._texts[f"place.{name}"])
        if row.get("calls", 1) > 1:
            words.append(self("place.call", count=str(row["calls"])))
        return self._texts["list.separator"].join(words)

    def _task(self, data: pd.DataFrame) -> str:
        row, source = data.iloc[0], self.word("source", data["source"].iloc[0])
        count, length = int(row["names_per_sequence"]), int(row["length"])
        if length:
            return source if data["length"].nunique() > 1 else self("task.length", task=source, length=length)
        if not count:  # none of gradflow's: names, or a task whose length is not known
            return source
        if data["names_per_sequence"].nunique() > 1:
            return self("task.roll_calls", source=source)
        return self(f"task.{'roll_call' if count > 1 else 'names'}", source=source, count=count)

    def claim(self, claim: Mapping[str, Any]) -> str:
        """The whole sentence of a checked statement, for notes and pages.

        If it does not hold, the one that says what is so instead (`<claim>_otherwise`), or else it with a warning.
        """
        return self._sentence(claim, "claim")

    def headline(self, claim: Mapping[str, Any], step: int | None = None) -> str:
        """A checked statement in the few words that fit over a figure (`headline.<claim>`), or else the whole one.

        Over a step of a figure that is built up it is `build.<name>_<step>`, by the name in the claim's `build`, where
        that is known; of the last step it is not, whose headline is that of the figure.
        """
        key = f"build.{claim.get('build')}_{step}"
        if key in self._texts:
            return self(key, **{name: _in_few_digits(value) for name, value in claim.items() if name != "claim"})
        return self._sentence(claim, "headline")

    def _sentence(self, claim: Mapping[str, Any], kind: str) -> str:
        name, values = claim["claim"], {key: value for key, value in claim.items() if key not in ("claim", "holds")}
        if "answer" in values:
            values["answer"] = self.word("answer", values["answer"])
        values["percent"] = values["count"] = values["value"]
        if name.startswith(("clipping_acted", "clipping_solves")):
            values["percent"] = float(f"{100 * claim['value']:.2g}")
        if name in ("learned", "learned_values") and claim["value"] in (0, claim["total"]):
            name += "_none" if claim["value"] == 0 else "_all"
        alone = claim.get("total") == 1 or ("low_curve" in claim and claim["low_curve"] == claim["high_curve"])
        variant = "alone" if alone else claim.get("variant", "")
        if f"claim.{name}_{variant}" in self._texts:
            name += f"_{variant}"
        if kind == "headline":
            if claim["value"] == claim.get("total") and f"headline.{name}_all" in self._texts:
                name += "_all" if claim["holds"] and claim["total"] > 1 else ""
            values = {key: _in_few_digits(value) for key, value in values.items()}
        for ends in _ends_of(claim):
            first, last = (claim[end] for end in ends)
            values |= zip(ends, _told_apart(first, last, brief if kind == "headline" else number), strict=True)
        if not claim["holds"] and f"claim.{name}_otherwise" in self._texts:
            return self._short_of_its_stop(kind, self(self._key(kind, f"{name}_otherwise"), **values))
        sentence = self(self._key(kind, name), **values)
        if not claim["holds"]:
            return f"{sentence} {self('claim.fails', expected=claim['expected'])}"
        return self._short_of_its_stop(kind, sentence)

    @staticmethod
    def _short_of_its_stop(kind: str, sentence: str) -> str:
        """A sentence that stands as a headline, which has no full stop; several sentences keep theirs."""
        alone = kind == "headline" and not _STOP.search(sentence[:-1])
        return sentence.rstrip(".。") if alone else sentence

    def _key(self, kind: str, name: str) -> str:
        return f"{kind}.{name}" if f"{kind}.{name}" in self._texts else f"claim.{name}"

    def word(self, kind: str, name: str) -> str:
        """A setting's name; one that gradflow does not know, as a script's own settings may have, stands for itself."""
        known = self._texts.get(f"{kind}.{name}")
        return label(name) if known is None else known

    def _worded(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return self.curve(value["cell"], value["start"])
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence):
            return self._texts["list.separator"].join(self._worded(entry) for entry in value)
        return number(value)

    @staticmethod
    def _formula(word: str) -> str:
        return f"${word}$" if _START.fullmatch(word) else label(word)


def _in_few_digits(value: Any) -> Any:
    return brief(value) if isinstance(value, int | float) else value


def _ends_of(claim: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names of what was and what it became, of each number of a claim that moved."""
    ends = ("first" if "first" in claim else "value", "last" if "last" in claim else "value")
    pairs = [ends, ("sigma", "last_sigma")]
    return [pair for pair in pairs if pair[0] != pair[1] and all(isinstance(claim.get(end), float) for end in pair)]


def _told_apart(first: float, last: float, printed: Callable[[float], str]) -> tuple[str, str]:
    """What a number was and what it became, with more digits where these would hide that it moved."""
    ends = printed(first), printed(last)
    for digits in range(3, 8):
        if ends[0] == ends[1] and first != last and math.isfinite(first - last):
            ends = f"{first:.{digits}g}".replace("-", "−"), f"{last:.{digits}g}".replace("-", "−")
    return ends


def _places(data: pd.DataFrame, column: str) -> list[int]:
    """The layers or directions that a table shows; rows that are of none say -1."""
    return [int(value) for value in data[column].unique() if value >= 0] if column in data else []


def matrix(gate: str) -> str:
    r"""The recurrent weights of a gate as a formula.

    Example:
        >>> matrix("h"), matrix("f")
        ('$W_{hh}$', '$W_{hf}$')
    """
    return r"$W_{hh}$" if gate not in "ifgorzn" else f"$W_{{h{gate}}}$"


def wrap(text: str, columns: int, *, words: bool = False) -> str:
    r"""Break a text into lines of at most `columns` columns (a Chinese character takes two), not in formulas and terms.

    With `words` it is broken at white space alone, as titles and labels are, whatever the width of a word.

    Example:
        >>> wrap("one two three", 8)
        'one two\nthree'
        >>> wrap("看梯度消失了", 8)
        '看\n梯度消失\n了'
        >>> wrap("只剩 0.57 倍", 8)
        '只剩\n0.57 倍'
    """
    lines, width = [""], 0
    for piece in (_WORDS if words else _UNBROKEN).findall(text):
        size = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in piece.strip("$"))
        if width + size > columns and lines[-1]:
            lines, width = [*lines, ""], 0
            piece, size = piece.lstrip(), len(piece.lstrip()) and size
        lines[-1] += piece
        width += size
    return "\n".join(line.strip() for line in lines)
