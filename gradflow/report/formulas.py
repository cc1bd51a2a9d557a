r"""Formulas of the figures' texts, which are written for matplotlib, as HTML and as plain text."""

import re
from collections.abc import Callable

from markupsafe import Markup, escape

_SYMBOLS = {
    "times": "×",
    "partial": "∂",
    "circ": "∘",
    "prime": "′",
    "top": "⊤",
    "|": "‖",
    "alpha": "α",
    "beta": "β",
    "delta": "δ",
    "epsilon": "ε",
    "lambda": "λ",
    "phi": "φ",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "Omega": "Ω",
    "leq": "≤",
    "geq": "≥",
    "approx": "≈",
    "infty": "∞",
    "sqrt": "√",
    ",": "\u2009",
    ";": " ",
    "!": "",
    "mathrm": "",
    "mathdefault": "",
    "dfrac": "",
}
_COMMAND = re.compile(r"\\([A-Za-z]+|[|,;!])\s*")
_RAISED = re.compile(r"([_^])(?:\{([^{}]*)\}|(.))")
_PRIME = re.compile(r"\^(?:\{′\}|′)")  # it is raised by itself
_FORMULA = re.compile(r"(?<!\\)\$((?:[^$\\]|\\.)*)\$")
_UP = str.maketrans("0123456789+-−=()nikst", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱᵏˢᵗ")
_DOWN = str.maketrans("0123456789+-−=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")


def html(text: str) -> Markup:
    r"""A text of the figures, escaped, with its formulas as HTML.

    Example:
        >>> print(html(r"a < b: $3.2{\times}10^{-9}$, $b_f=3$, 5 \$"))
        a &lt; b: 3.2×10<sup>-9</sup>, b<sub>f</sub>=3, 5 $
    """
    return Markup(_converted(text, lambda part: str(escape(part)), _tagged))


def plain(text: str) -> str:
    r"""A text of the figures without markup, for attributes and charts.

    Example:
        >>> plain(r"$3.2{\times}10^{-9}$, $W_{hh}$, $b_f=3$, $\delta_{T-k}$")
        '3.2×10⁻⁹, Wₕₕ, b_f=3, δ_(T-k)'
        >>> plain(r"tanh$^{\prime}$")
        'tanh′'
    """
    return _converted(text, str, _in_unicode)


def _converted(text: str, word: Callable[[str], str], raised: Callable[[str, str], str]) -> str:
    pieces = _FORMULA.split(text)
    return "".join(
        _formula(piece, word, raised) if i % 2 else word(piece.replace(r"\$", "$")) for i, piece in enumerate(pieces)
    )


def _formula(text: str, word: Callable[[str], str], raised: Callable[[str, str], str]) -> str:
    text = word(_COMMAND.sub(lambda found: _SYMBOLS.get(found[1], found[1]), text))
    text = _PRIME.sub("′", text)
    before = ""
    while before != text:  # from the inside out
        before, text = text, _RAISED.sub(lambda found: raised(found[1], found[2] or found[3] or ""), text, count=1)
    return text.replace("{", "").replace("}", "").replace(_LOWER, "_").replace(_UPPER, "^")


_LOWER, _UPPER = "\ue000", "\ue001"  # signs that stay, so that they are not looked at again


def _tagged(sign: str, inner: str) -> str:
    tag = "sup" if sign == "^" else "sub"
    return f"<{tag}>{inner}</{tag}>"


def _in_unicode(sign: str, inner: str) -> str:
    table = _UP if sign == "^" else _DOWN
    if all(ord(character) in table for character in inner):
        return inner.translate(table)
    return f"{_UPPER if sign == '^' else _LOWER}{inner if len(inner) == 1 else f'({inner})'}"
