"""Files of names as nobody would wish them: each is refused in a line that says where, or read row by row."""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hostile import record
from hostile_calls import judge_call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradflow.config import DataConfig, Source
from gradflow.data import load
from gradflow.data.languages import read_languages
from gradflow.data.tables import read_csv

ROWS = "".join(f"{a}{b},{'xy'[a in 'ae']}\n" for a in "abcdefgh" for b in "abcdefgh")


def config(source: str, path: Path) -> DataConfig:
    return DataConfig(source=Source(source), path=str(path), train_size=30, test_size=10)


def with_row(row: str, at: int = 20) -> bytes:
    lines = ROWS.splitlines(keepends=True)
    return "".join([*lines[:at], row + "\n", *lines[at:]]).encode()


FILES = {  # what is wrong: the content, what the error says
    "empty": (b"", "nothing but white space"),
    "blank": (b" \n\t\n\r\n", "nothing but white space"),
    "NUL": (with_row("a\0b,x"), r"the control character '\x00' in line 21"),
    "an escape": (with_row("a\x1b[31mb,x"), r"the control character '\x1b' in line 21"),
    "a second byte order mark": (b"\xef\xbb\xbf" + with_row("\ufeffab,x"), "a byte order mark in line 21"),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf" + ROWS.encode(), "a byte order mark in line 1"),
    "UTF-16": (ROWS.encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
    "UTF-16 without a mark": (ROWS.encode("utf-16-le"), r"the control character '\x00' in line 1"),
    "GBK": ("王伟,男\n李娜,女\n".encode("gbk"), "iconv -f GB18030 -t UTF-8"),
    "random bytes": (bytes(range(256)) * 40, "expected a file in UTF-8"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "expected a file in UTF-8"),
    "a quote that does not close": (with_row('"ab,x'), "in line 21; correct that row, a quote that stands alone too"),
    "two stray quotes": (with_row('"ab,x', 50).replace(b"ab,", b'"ab,', 1), "in line 2; correct"),
    "a quote that closes too early": (with_row('"ab"c,x'), "in line 21"),
    "one column": (with_row("ab"), "got 'ab' in line 21"),
    "three columns": (with_row("ab,x,1990"), "got 'ab,x,1990' in line 21"),
    "a row of a megabyte": (with_row("a," * 500_000), "in line 21"),
    "a name of a megabyte": (with_row("a" * 1_000_000 + ",x"), "expected at most 1,000 characters in a name"),
    "a label of a megabyte": (with_row("a," + "x" * 1_000_000), "expected at most 1,000 characters in a label"),
    "one label": (ROWS.replace(",y", ",x").encode(), "two or more labels"),
    "too few names": (b"a,x\nb,x\nc,y\n", "expected at most 3 together"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("source", ["csv", "corpus"])
def test_a_file_that_is_wrong_is_refused_by_its_line(what: str, source: str, tmp_path: Path) -> None:
    content, words = FILES[what]
    if source == "corpus":
        content = b"dict,sex\n" * (content[:2] not in (b"\xff\xfe",)) + content
        words = ""
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    verdict, text = judge_call(lambda: load(config(source, path), 0), ["data.path", "data=", "data.train_size"])
    record("names files", f"{source}: {what}", verdict)
    assert verdict == "clear", text
    assert words in text
    assert len(text) < 600


def test_quotes_far_apart_swallow_no_row(tmp_path: Path) -> None:
    """Once 199 of 400 names went without a word."""
    lines = [f"n{number},{'xy'[number % 2]}" for number in range(400)]
    for number in (100, 300):
        lines[number] = lines[number].replace("n", '"n')
    path = tmp_path / "names.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"""got '"n100,x' in line 101; correct that row"""):
        read_csv(path)


def answer(read: Callable[[Path], pd.DataFrame], path: Path) -> pd.DataFrame | None:
    """What is read, or None if it was refused in one line."""
    try:
        return read(path)
    except ValueError as error:
        text = str(error)
    assert text.startswith("data.path: ")
    assert text.isprintable()
    return None


FIELD = st.text(st.sampled_from("ab\"', 王|\t"), max_size=6)
ROW = st.one_of(FIELD, st.tuples(FIELD, FIELD).map(",".join))
SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=200, **SETTINGS)
@given(rows=st.lists(ROW, max_size=8), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_file_gives_a_row_for_each_line_or_is_refused(rows: list[str], end: str, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(end.join(rows).encode())
    table = answer(read_csv, path)
    if table is None:
        return
    filled = [number for number, row in enumerate(rows, 1) if row.strip()]
    assert list(table.index) in (filled, filled[1:])  # the first may be a header
    for number, name, label in table.itertuples():
        assert {*name, *label} <= set(rows[number - 1])


@settings(max_examples=100, **SETTINGS)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    for read in (read_csv, read_languages):
        answer(read, path)


def folder_of_classes(path: Path) -> Path:
    path.mkdir()
    for name in ("Czech", "Greek"):
        (path / f"{name}.txt").write_text("".join(f"{a}{b}{name}\n" for a in "abcdef" for b in "abcdef"))
    return path


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def to_itself(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


PLACES: dict[str, Callable[[Path], None]] = {
    "a pipe": pipe,
    "a device without end": endless,
    "a link to nothing": to_nothing,
    "a link to itself": to_itself,
    "a terabyte": huge,
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("source", ["csv", "corpus", "languages", "a class of languages"])
def test_a_place_that_is_no_file_is_refused(what: str, source: str, tmp_path: Path) -> None:
    folder = folder_of_classes(tmp_path / "names")
    path = folder / "Polish.txt"
    PLACES[what](path)
    inside = source.startswith("a class")
    if inside and what == "nothing":
        pytest.skip("a folder without it is whole")
    asked = config("languages", folder) if inside else config(source, path)
    verdict, text = judge_call(lambda: load(asked, 0), ["data.path"])
    record("names files", f"{source}: {what}", verdict)
    assert verdict == "clear", text
    assert str(tmp_path) in text


@pytest.mark.parametrize("path", ["a" * 5000, "a/" * 3000, "a\0b", "~no-such-user/names.csv", " ", "\n", "-"])
@pytest.mark.parametrize("source", ["csv", "corpus", "languages"])
def test_a_path_that_cannot_be_is_refused(path: str, source: str) -> None:
    asked = DataConfig(source=Source(source), path=path)
    verdict, text = judge_call(lambda: load(asked, 0), ["data.path"])
    record("names files", f"{source}: a path like {path[:20]!r}", verdict)
    assert verdict == "clear", text


def packed(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("Czech", "Greek"):
            archive.writestr(f"{name}.txt", "".join(f"{a}{b}{name}\n" for a in "abcdef" for b in "abcdef"))
    return path


def encrypted(content: bytes) -> bytes:
    """The same archive with the flag that says a password is needed, in both headers of its first member."""
    parts = bytearray(content)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + place
        struct.pack_into("<H", parts, at, struct.unpack_from("<H", parts, at)[0] | 1)
    return bytes(parts)


def of_unknown_method(content: bytes) -> bytes:
    parts = bytearray(content)
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", parts, content.index(signature) + place, 97)
    return bytes(parts)


ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "without its middle": lambda content: content[:50] + content[80:],
    "damaged inside": lambda content: content[:45] + b"\xff" * 20 + content[65:],
    "damaged at the end": lambda content: content[:-30] + bytes(30),
    "with a password": encrypted,
    "of an unknown method": of_unknown_method,
    "empty": lambda content: b"",
    "a zip of nothing": lambda content: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("what", ZIPS)
def test_a_zip_that_is_not_whole_is_refused(what: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "names.zip")
    assert len(read_languages(path)) == 72
    path.write_bytes(ZIPS[what](path.read_bytes()))
    verdict, text = judge_call(lambda: load(config("languages", path), 0), ["data.path"])
    record("names files", f"zip {what}", verdict)
    assert verdict == "clear", text


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED])
def test_any_byte_of_a_zip_may_be_wrong(method: int, tmp_path: Path) -> None:
    path = packed(tmp_path / "names.zip", method)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        answer(read_languages, path)  # such as another time stamp


def test_every_row_that_is_dropped_is_told_by_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(with_row(",x") + b"\nab,y\nq,\nzz,x\nzz,y\n")
    with caplog.at_level("INFO", logger="gradflow"):
        data = load(config("csv", path), 0)
    assert data.dropped == {"without a name": 1, "without a label": 1, "given twice": 1, "with several labels": 2}
    [said] = [message for message in caplog.messages if "dropped" in message]
    for words in ("without a name (line 21)", "without a label (line 68)", "with several labels (lines 69, 70)"):
        assert words in said


def test_rows_of_classes_are_told_by_file_and_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of_classes(tmp_path / "names")
    with (folder / "Greek.txt").open("a", encoding="utf-8") as file:
        file.write("\n王\naaGreek\n")
    with caplog.at_level("INFO", logger="gradflow"):
        load(config("languages", folder), 0)
    assert "without a name (line Greek.txt:38), 1 given twice (line Greek.txt:39)" in caplog.text
