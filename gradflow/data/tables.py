"""Files of two comma-separated columns, ``name,label``: a row is a line, so that no row can swallow another."""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gradflow.checks import shown

_log = logging.getLogger(__name__)
COLUMNS = ["name", "label"]
LINE = "line"  # the index of a table that was read from one file: the number of the line, from 1
MAX_BYTES = 1_000_000_000  # of a file; the 1.14 million names of Chinese-Names-Corpus have 18 MB
MAX_CHARACTERS = 1_000  # of a name or a label
_NOT_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")  # control characters, byte order marks
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path) -> pd.DataFrame:
    """Any ``name,label`` file in UTF-8, with or without a header, any number of labels.

    The first row is a header if its label occurs in no other row (``name,sex``); if so, the log says it.

    Returns:
        Columns ``name`` and ``label``, white space around both removed; the index is the number of the line.

    Raises:
        FileNotFoundError: no file at `path`.
        OSError: it cannot be read.
        ValueError: not text in UTF-8, empty, or a row without exactly two columns; it says in which line.
    """
    table = parse_rows(read_lines(path), path)
    first = table["label"].iloc[0]
    if (table["label"] == first).sum() > 1:
        return table
    header = shown(f"{table['name'].iloc[0]},{first}")
    _log.info("%s: the first row, %s, was taken for a header", path, header)
    return table.iloc[1:]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; errors as in :func:`read_csv`."""
    if path.is_dir() or not path.exists():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"data.path: expected a file of labelled names, got {path}, where there is {found}")
    return to_lines(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The content of a regular file: a pipe or a device might never end.

    Raises:
        ValueError: it is no regular file, or larger than `MAX_BYTES`.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(
            f"data.path: expected a regular file, got {path}, which is a folder, a pipe or a device; copy what it "
            f"gives into a file"
        )
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"data.path: expected at most {MAX_BYTES:,} bytes, got {path} of {size:,}; give a part of it")
    return path.read_bytes()


def to_lines(content: bytes, path: Path) -> list[str]:
    r"""The lines of UTF-8 bytes, without the byte order mark at their start; ``\n``, ``\r\n`` and ``\r`` end a line.

    Raises:
        ValueError: not UTF-8, or a character that no text holds: NUL, an escape, a byte order mark further down.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if content.startswith(_UTF_16) else "GB18030"
        condition = "it is in UTF-16; convert it" if encoding == "UTF-16" else "convert it, if it is in GBK"
        raise ValueError(
            f"data.path: expected a file in UTF-8, got byte 0x{content[error.start]:02x} at {error.start} of {path}; "
            f"{condition} by: iconv -f {encoding} -t UTF-8 '{path}' > utf8.txt"
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if _NOT_TEXT.search(text):
        number, found = next((n, m) for n, line in enumerate(lines, 1) if (m := _NOT_TEXT.search(line)))
        what = "a byte order mark" if found[0] == "\ufeff" else f"the control character {found[0]!r}"
        raise ValueError(f"data.path: expected text, got {what} in line {number} of {path}; remove it from there")
    return lines


def parse_rows(lines: Sequence[str], path: Path, first: int = 1) -> pd.DataFrame:
    """Rows of two columns, blank lines left out; errors as in :func:`read_csv`.

    Args:
        lines: of the file.
        path: where it lies, for errors.
        first: the number of the first of these lines.
    """
    filled = {number: line for number, line in enumerate(lines, first) if line and not line.isspace()}
    if not filled:
        raise ValueError(f"data.path: expected rows of name,label, got nothing but white space in {path}")
    fields = pc.split_pattern(pa.array(map(_separated, filled.values()), pa.string()), "\0")
    numbers = pd.Index(list(filled), name=LINE)
    for number in numbers[pc.list_value_length(fields).to_numpy() != len(COLUMNS)]:
        raise ValueError(
            f"data.path: expected two columns, name,label, in every row of {path}, got {shown(filled[number])} in line "
            f"{number}; correct that row, a quote that stands alone too"
        )
    values = pc.utf8_trim_whitespace(fields.flatten())
    columns = {name: values[place :: len(COLUMNS)].to_numpy(False) for place, name in enumerate(COLUMNS)}
    table = pd.DataFrame(columns, numbers, dtype="str")
    check_sizes(table, path)
    return table


def check_sizes(table: pd.DataFrame, path: Path) -> None:
    """Compares the length of names and labels with `MAX_CHARACTERS`.

    Raises:
        ValueError: With the line of the first that is longer.
    """
    for column in COLUMNS:
        sizes = table[column].str.len()
        if sizes.max() > MAX_CHARACTERS:
            row = int((sizes > MAX_CHARACTERS).argmax())
            raise ValueError(
                f"data.path: expected at most {MAX_CHARACTERS:,} characters in a {column}, got {sizes.iloc[row]:,} in "
                f"line {table.index[row]} of {path} ({shown(table[column].iloc[row])}); correct that row"
            )


def _separated(line: str) -> str:
    """The fields of one line with NUL between them; nothing if a quote does not close, or closes amid a field."""
    if '"' not in line:
        return line.replace(",", "\0")
    try:
        return "\0".join(next(csv.reader([line], strict=True)))
    except csv.Error:
        return ""
