"""Files of two comma-separated columns, ``name,label``."""

import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

_log = logging.getLogger(__name__)
COLUMNS = ["name", "label"]


def read_csv(path: Path) -> pd.DataFrame:
    """Any ``name,label`` file in UTF-8, with or without a header, any number of labels.

    The first row is a header if its label occurs in no other row (``name,sex``); if so, the log says it.

    Returns:
        Columns ``name`` and ``label``, white space around both removed.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: not UTF-8, empty, or a row without exactly two columns.
    """
    table = parse_rows(read_text(path), path)
    first = table["label"].iloc[0]
    if (table["label"] == first).sum() > 1:
        return table
    _log.info("%s: the first row, %s,%s, was taken for a header", path, table["name"].iloc[0], first)
    return table.iloc[1:]


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, without its byte order mark if it has one; errors as in :func:`read_csv`."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"data.path: expected a file of labelled names, got {path}, where there is {found}")
    return decode(path.read_bytes(), path)


def decode(content: bytes, path: Path) -> str:
    """UTF-8 bytes to text; the error says where they are not and how to convert them."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data.path: expected a file in UTF-8, got byte 0x{content[error.start]:02x} at {error.start} of {path}; "
            f"convert it, if it is in GBK by: iconv -f GB18030 -t UTF-8 '{path}' > utf8.txt"
        ) from error


def parse_rows(text: str, path: Path) -> pd.DataFrame:
    """Rows of two columns, blank lines left out; errors as in :func:`read_csv`."""
    if not text.strip():
        raise ValueError(f"data.path: expected rows of name,label, got nothing but white space in {path}")
    bad_rows: list[str] = []

    def collect(row: csv.InvalidRow) -> str:
        bad_rows.append(row.text)
        return "skip"

    try:
        rows = csv.read_csv(
            pa.py_buffer(text.encode()),
            csv.ReadOptions(column_names=COLUMNS, use_threads=False),
            csv.ParseOptions(invalid_row_handler=collect),
            csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"data.path: expected rows of name,label in {path}, but: {error}") from error
    for row in filter(str.strip, bad_rows):
        raise ValueError(
            f"data.path: expected two columns, name,label, in every row of {path}, got {row!r}; correct that row"
        )
    return pd.DataFrame({name: pc.utf8_trim_whitespace(rows[name]).to_pandas() for name in COLUMNS})
