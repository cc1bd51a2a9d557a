"""A folder or .zip with one text file per class, one name per line: surnames by language."""

import string
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from gradflow.data.tables import COLUMNS, decode

LETTERS = frozenset(string.ascii_letters + " .,;'")
MAX_BYTES = 100_000_000  # unpacked, of all classes of a .zip together; the 18 languages have 160 kB


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
        Columns ``name`` and ``label``; a name of which folding leaves nothing is empty.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: neither a folder nor a .zip, no two ``.txt`` files in one folder, not UTF-8, or too large.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"data.path: expected a folder or .zip of *.txt files, got {path}, where there is nothing"
        )
    contents = _from_folder(path) if path.is_dir() else _from_zip(path)
    tables = [_names(contents[file], file, path / file) for file in sorted(contents)]
    return pd.concat(tables, ignore_index=True)


def _names(content: bytes, file: PurePosixPath, path: Path) -> pd.DataFrame:
    lines = [line for line in decode(content, path).splitlines() if line.strip()]
    return pd.DataFrame(
        {"name": [fold_to_ascii(line).strip() for line in lines], "label": file.stem},
        columns=COLUMNS,
        dtype="str",
    )


def _from_folder(path: Path) -> dict[PurePosixPath, bytes]:
    found = [file.relative_to(path) for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}*.txt")]
    return {file: (path / file).read_bytes() for file in _classes(map(PurePosixPath, found), path)}


def _from_zip(path: Path) -> dict[PurePosixPath, bytes]:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"data.path: expected a folder or .zip of *.txt files, one per class, got {path}; "
            f"read a file of name,label by data=csv"
        )
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(member.filename): member for member in archive.infolist()}
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
