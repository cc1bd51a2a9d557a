"""Chinese-Names-Corpus: 1.14 million Chinese names with their sex, from a file or downloaded once."""

import hashlib
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from gradflow.checks import shown
from gradflow.data.cleaning import UNKNOWN
from gradflow.data.tables import parse_rows, read_lines

URL = "https://github.com/wainshine/Chinese-Names-Corpus/raw/47d4af8/" + quote(
    "Chinese_Names_Corpus/Chinese_Names_Corpus_Gender（120W）.txt"
)
BLOB_ID = "57a588f603283c5d93cf0600ed8f1f166b6ed28e"
HEADER = "dict,sex"
LABELS = {"女", "男", UNKNOWN}
_FILE = "Chinese_Names_Corpus_Gender.txt"
_OTHER_WAYS = "give a file you have by data.path=FILE, or use data=generated, which needs no file"


def read_corpus(path: Path) -> pd.DataFrame:
    """A file in the format of Chinese-Names-Corpus: some lines, ``dict,sex``, then ``name,男|女|未知``.

    Another label is an error, not a drop: the format has these three, so the file is damaged or another one.

    Returns:
        Columns ``name`` and ``label``; the index is the number of the line.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: not UTF-8, no line ``dict,sex``, a row without two columns, or another label.
    """
    lines = read_lines(path)
    header = next((number for number, line in enumerate(lines, 1) if line.strip() == HEADER), None)
    if header is None:
        raise ValueError(
            f"data.path: expected a line {HEADER} before the names, as Chinese-Names-Corpus has, "
            f"got {path} without it; read any other file of name,label by data=csv"
        )
    table = parse_rows(lines[header:], path, first=header + 1)
    other = table["label"][~table["label"].isin(LABELS)]
    if len(other):
        raise ValueError(
            f"data.path: expected the labels {', '.join(sorted(LABELS))} in {path}, got {shown(other.iloc[0])} in line "
            f"{other.index[0]} ({len(other):,} rows like it); read a file with other labels by data=csv"
        )
    return table


def download_corpus(url: str = URL, blob_id: str = BLOB_ID, cache: Path | None = None) -> Path:
    """The corpus in the user's cache, downloaded if it is not there yet, and checked either way.

    Args:
        url: where it lies.
        blob_id: the id git gives the right content.
        cache: folder to keep it in; None for the user's own.

    Raises:
        ConnectionError: it could not be fetched.
        ValueError: what was fetched is not the right file; it is removed.
    """
    import pooch  # it takes a quarter of a second, and in a notebook warns that there is no progress bar

    folder = cache or Path(pooch.os_cache("gradflow"))
    registry = pooch.create(folder, base_url="", registry={_FILE: None}, urls={_FILE: url})
    try:
        path = Path(registry.fetch(_FILE, progressbar=True))
    except OSError as error:
        raise ConnectionError(f"data=corpus: could not fetch {url} into {folder} ({error}); {_OTHER_WAYS}") from error
    found = git_blob_id(path)
    if found != blob_id:
        path.unlink()
        raise ValueError(
            f"data=corpus: expected the file of git blob id {blob_id} from {url}, got {found} and removed it; "
            f"try once more, {_OTHER_WAYS}"
        )
    return path


def git_blob_id(path: Path) -> str:
    """The id under which git stores a file: the SHA-1 of ``blob <size>``, a zero byte and the content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
