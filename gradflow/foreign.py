r"""Text from outside, such as the names in a stranger's log, made safe for where it goes.

What a log says is data. It must not steer a terminal (escape sequences), be typeset as a formula (`$\frac1$`), run in a
spreadsheet (`=1+1`) or lead out of a folder (`../..`). Pages escape it with :func:`html.escape`.
"""

import hashlib
import re
import unicodedata

_LINE, _LABEL, _CELL, _FILE = 500, 32, 1000, 120  # at most: characters, of the name of a file bytes
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, longest: int = _LINE) -> str:
    r"""One line for a terminal: what steers it is spelt out, and what is too long is cut.

    Example:
        >>> printable("\x1b[2Jgone\n"), printable("abcdef", 4)
        ('\\x1b[2Jgone\\n', 'abc…')
    """
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    if text.isprintable():
        return text
    return "".join(_spelt(character) for character in text)


def printable_lines(text: str, longest: int = _LINE) -> str:
    r"""As :func:`printable`, line by line.

    Example:
        >>> printable_lines("one\ntwo\x07")
        'one\ntwo\\x07'
    """
    return "\n".join(printable(line, longest) for line in text.split("\n"))


def label(text: str) -> str:
    r"""Words for a figure, in which no dollar begins a formula and no underscore hides them from a legend.

    Example:
        >>> label(r"$\frac1$")
        '\\$\\frac1\\$'
    """
    text = printable(text, _LABEL).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def table_cell(text: str) -> str:
    """Text for a CSV file that no spreadsheet takes for a formula; numbers and single characters stay as they are.

    Example:
        >>> table_cell("=1+1"), table_cell("-0.5"), table_cell("-")
        ("'=1+1", '-0.5', '-')
    """
    text = printable(text, _CELL)
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@" and not _is_number(text) else text


def file_name(text: str) -> str:
    """A name that stays in its folder, is short enough, and differs wherever the texts do.

    Example:
        >>> file_name("comparison-cell=rnn,b_f=3"), file_name("../x")
        ('comparison-cell=rnn,b_f=3', '_x~d6b96a97')
    """
    safe = re.sub(r"[^\w=,.+-]", "_", text).lstrip(".-")
    if safe == text and text and len(text.encode()) <= _FILE:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe.encode()[:_FILE].decode(errors='ignore')}~{digest}"


def _spelt(character: str) -> str:
    steers = unicodedata.category(character) in _STEERING
    return character.encode("unicode_escape").decode() if steers else character


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
