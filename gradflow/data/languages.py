"""A folder or .zip with one text file per class, one name per line: surnames by language."""

import lzma
import string
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from gradflow.checks import require
from gradflow.data.tables import COLUMNS, LINE, check_sizes, read_bytes, to_lines

LETTERS = frozenset(string.ascii_letters + " .,;'")
MAX_BYTES = 100_000_000  # unpacked, of all classes of a .zip together; the 18 languages have 160 kB
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,  # also bzip2's
    RuntimeError,  # a password
    NotImplementedError,
    UnicodeDecodeError,
)


def fold_to_ascii(name: str) -> str:
    """The name in ASCII letters and ``" .,;'"``: accents fall off their letters, anything else falls out.

    So do PyTorch's tutorials on names and character RNNs, hyphens included.

    >>> fold_to_ascii("Ślusàrski"), fold_to_ascii("Au-Yong")
    ('Slusarski', 'AuYong')
    """
    return "".join(letter for letter in unicodedata.normalize("NFD", name) if letter in LETTERS)


def read_languages(path: Path) -> pd.DataFrame:
    """Names folded to ASCII, each labelled with the name of its file.

    The first folder with two or more ``.txt`` files is taken, from the top down and at most two levels deep, so
    ``data.zip`` of the tutorial works as it is. A .zip is read in place: nothing is unpacked onto the disk.

    Returns:
        Columns ``name`` and ``label``; a name of which folding leaves nothing is empty. The index is the file and the
        number of the line, as in ``Polish.txt:7``.

    Raises:
        FileNotFoundError: nothing at `path`.
        OSError: it cannot be read.
        ValueError: neither a folder nor a .zip that can be read, no two ``.txt`` files in one folder, not text in
            UTF-8, or too large.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"data.path: expected a folder or .zip of *.txt files, got {path}, where there is nothing"
        )
    contents = _from_folder(path) if path.is_dir() else _from_zip(path)
    tables = [_names(contents[file], file, path / file) for file in sorted(contents)]
    return pd.concat(tables)


def _names(content: bytes, file: PurePosixPath, path: Path) -> pd.DataFrame:
    require(file.stem.isprintable(), "data.path", "printable names of files, which are the labels", file.stem)
    lines = {number: line for number, line in enumerate(to_lines(content, path), 1) if line.strip()}
    names = [fold_to_ascii(line).strip() for line in lines.values()]
    table = pd.DataFrame({"name": names, "label": file.stem}, pd.Index(list(lines), name=LINE), COLUMNS, dtype="str")
    check_sizes(table, path)
    return table.set_index(file.name + ":" + table.index.astype("str")).rename_axis(LINE)


def _from_folder(path: Path) -> dict[PurePosixPath, bytes]:
    found = [file.relative_to(path) for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}*.txt")]
    return {file: read_bytes(path / file) for file in _classes(map(PurePosixPath, found), path)}


def _from_zip(path: Path) -> dict[PurePosixPath, bytes]:
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ValueError(
            f"data.path: expected a folder or .zip of *.txt files, one per class, got {path}; "
            f"read a file of name,label by data=csv"
        )
    try:
        return _unpacked(path)
    except _DAMAGED as error:
        raise ValueError(
            f"data.path: expected a .zip that is whole and has no password, got {path} ({error}); unpack it and give "
            f"the folder"
        ) from error


def _unpacked(path: Path) -> dict[PurePosixPath, bytes]:
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(member.filename): member for member in archive.infolist() if not member.is_dir()}
        classes = _classes(members, path)
        size = sum(members[file].file_size for file in classes)
        if size > MAX_BYTES:
            raise ValueError(
                f"data.path: expected at most {MAX_BYTES:,} bytes of names in {path}, got {size:,}; "
                f"unpack it and give the folder"
            )
        return {file: archive.read(members[file]) for file in classes}


def _classes(files: Iterable[PurePosixPath], path: Path) -> list[PurePosixPath]:
    folders = defaultdict(list)
    for file in files:
        if file.suffix == ".txt" and not file.name.startswith(".") and len(file.parts) <= 3:
            folders[file.parent].append(file)
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder)):
        if len(folders[folder]) > 1:
            return folders[folder]
    raise ValueError(
        f"data.path: expected two or more *.txt files, one per class, in one folder of {path}, got none such"
    )
