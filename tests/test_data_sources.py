"""Files and folders as people really have them: csv, Chinese-Names-Corpus, languages, downloads."""

import hashlib
import logging
import random
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gradflow.config import DataConfig, Source
from gradflow.data import languages, load, names
from gradflow.data.corpus import URL, download_corpus, git_blob_id, read_corpus
from gradflow.data.languages import fold_to_ascii, read_languages
from gradflow.data.tables import read_csv

CORPUS = "By@someone\n2025.11.09\n\ndict,sex\n阿安,男\n阿彬,未知\n阿冰,女\n阿斌,男\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["", "name,sex\n", "\n姓名,性别\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_and_without_header_mark_blank_lines_and_spaces(
    tmp_path: Path, encoding: str, header: str, end: str
) -> None:
    path = tmp_path / "names.csv"
    text = f"{header} 王伟 , 男\n\n李娜,女\n   \n张敏,女\n孙强,男"
    path.write_bytes(text.replace("\n", end).encode(encoding))
    table = read_csv(path)
    assert table["name"].to_list() == ["王伟", "李娜", "张敏", "孙强"]
    assert table["label"].to_list() == ["男", "女", "女", "男"]


def test_csv_says_when_it_took_the_first_row_for_a_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "names.csv"
    path.write_text("name,sex\na,x\nb,x\n")
    with caplog.at_level(logging.INFO, logger="gradflow"):
        read_csv(path)
    assert f"{path}: the first row, 'name,sex', was taken for a header" in caplog.messages


def test_csv_keeps_names_that_look_like_missing_values_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text('Null,1\nNA,1\nNaN,0\n"Smith, Jr",0\n007,1\n')
    assert read_csv(path)["name"].to_list() == ["Null", "NA", "NaN", "Smith, Jr", "007"]
    assert read_csv(path)["label"].to_list() == ["1", "1", "0", "0", "1"]


@pytest.mark.parametrize("row", ["王伟", "王伟,男,1990", "王伟\t男"])
def test_csv_without_exactly_two_columns_is_an_error_that_shows_the_row(tmp_path: Path, row: str) -> None:
    path = tmp_path / "names.csv"
    path.write_text(f"李娜,女\n{row}\n张敏,女\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"expected two columns, name,label, in every row of .*; correct that row"
    ) as error:
        read_csv(path)
    assert repr(row) in str(error.value)


def test_csv_in_another_encoding_is_an_error_that_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "gbk.csv"
    path.write_bytes("王伟,男\n李娜,女\n".encode("gbk"))
    with pytest.raises(ValueError, match=r"expected a file in UTF-8, got byte 0x.*iconv -f GB18030 -t UTF-8"):
        read_csv(path)


def test_csv_that_is_empty_or_not_there_is_an_error(tmp_path: Path) -> None:
    blank = tmp_path / "blank.csv"
    blank.write_text(" \n\n")
    with pytest.raises(ValueError, match="expected rows of name,label, got nothing but white space"):
        read_csv(blank)
    with pytest.raises(
        FileNotFoundError, match=r"expected a file of labelled names, got .*none.csv, where there is nothing"
    ):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="where there is a folder"):
        read_csv(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_corpus_format_is_read_from_behind_its_header(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(CORPUS.encode(encoding))
    dataset = load(DataConfig(source=Source.corpus, path=str(path), train_size=2, test_size=1), seed=0)
    assert dataset.classes == ("女", "男")
    assert dataset.dropped == {"of label 未知 (unknown)": 1}
    assert sorted(dataset.alphabet) == sorted("阿安冰斌")


def test_corpus_with_another_label_or_header_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS + "阿呆,男性\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected the labels 女, 未知, 男 in .*'男性' in line 9 .*by data=csv"):
        read_corpus(path)
    path.write_text("阿安,男\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected a line dict,sex before the names.*by data=csv"):
        read_corpus(path)


@pytest.mark.shared
def test_corpus_excerpt(shared_data: Path) -> None:
    path = shared_data / "corpus_excerpt.txt"
    dataset = load(DataConfig(source=Source.corpus, path=str(path), train_size=40, test_size=10), seed=0)
    assert dataset.dropped == {"of label 未知 (unknown)": 6}
    assert (len(dataset.train), len(dataset.test)) == (40, 10)


@pytest.mark.slow
def test_corpus_of_full_size_loads(tmp_path: Path) -> None:
    characters = [chr(0x4E00 + k) for k in range(600)]
    draw = random.Random(0).choice
    rows = (
        "".join((draw(characters), draw(characters), draw(characters), ",", draw("男女"))) for _ in range(1_140_000)
    )
    path = tmp_path / "corpus.txt"
    path.write_text("By@x\n\ndict,sex\n" + "\n".join(rows), encoding="utf-8")
    dataset = load(DataConfig(source=Source.corpus, path=str(path), train_size=500_000), seed=0)
    assert len(dataset.train) == 500_000
    assert dataset.task.input_size == 500


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Address of a web server on this machine, and the pages it serves."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = pages.get(self.path)
            self.send_response(404 if content is None else 200)
            cut = 1000 if self.path.endswith("cut") else 0
            self.send_header("Content-Length", str(len(content or b"") + cut))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", pages
    http.shutdown()
    thread.join()
    http.server_close()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def test_blob_ids_are_those_of_git(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"what is up, doc?")
    assert git_blob_id(path) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # from the book Pro Git, section 10.2


def test_corpus_is_downloaded_once_checked_and_kept(
    server: tuple[str, dict[str, bytes]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address, pages = server
    pages["/corpus"] = CORPUS.encode()
    path = download_corpus(f"{address}/corpus", blob_id(CORPUS.encode()), tmp_path)
    assert read_corpus(path)["name"].to_list() == ["阿安", "阿彬", "阿冰", "阿斌"]
    assert "100%" in capfd.readouterr().err
    pages.clear()
    assert download_corpus(f"{address}/corpus", blob_id(CORPUS.encode()), tmp_path) == path


def test_a_download_that_is_another_file_is_removed(server: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    address, pages = server
    pages["/corpus"] = b"<html>please log in</html>"
    with pytest.raises(
        ValueError, match=r"git blob id 57a588f.*and removed it; try once more, give a file.*data.path=FILE"
    ):
        download_corpus(f"{address}/corpus", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["/missing", "/cut"])
def test_no_download_names_the_two_other_ways(server: tuple[str, dict[str, bytes]], tmp_path: Path, page: str) -> None:
    address, pages = server
    pages["/cut"] = CORPUS.encode()
    with pytest.raises(ConnectionError, match=r"could not fetch http.*data.path=FILE, or use data=generated"):
        download_corpus(address + page, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_names_the_two_other_ways(server: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/corpus"
    with pytest.raises(ConnectionError, match=r"could not fetch http.*data.path=FILE, or use data=generated"):
        download_corpus(nobody, cache=tmp_path)


def test_corpus_without_a_path_is_the_downloaded_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS, encoding="utf-8")
    monkeypatch.setattr(names, "download_corpus", lambda: path)
    assert len(load(DataConfig(source=Source.corpus, train_size=2, test_size=1), seed=0).train) == 2
    assert URL.isascii()


LANGUAGES = {"Polish": "Ślusàrski\nZając\n\n王\n", "Scottish": "Ross\nAu-Yong\n", "English": "Ross\nRoss\nO'Neal \n"}


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in LANGUAGES.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def pack(path: Path, prefix: str, **others: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in LANGUAGES.items():
            archive.writestr(f"{prefix}{name}.txt", content)
        for name, content in others.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("below", ["", "names", "data/names"])
def test_languages_are_found_in_the_folder_or_below(tmp_path: Path, below: str) -> None:
    fill(tmp_path / "root" / below)
    if below:
        (tmp_path / "root" / "eng-fra.txt").write_text("Go.\tVa !\n")
    table = read_languages(tmp_path / "root")
    assert list(zip(table["label"], table["name"], strict=True)) == [
        ("English", "Ross"),
        ("English", "Ross"),
        ("English", "O'Neal"),
        ("Polish", "Slusarski"),
        ("Polish", "Zajac"),
        ("Polish", ""),
        ("Scottish", "Ross"),
        ("Scottish", "AuYong"),
    ]


@pytest.mark.parametrize("prefix", ["", "languages/", "data/names/"])
def test_a_zip_reads_as_its_folder_does(tmp_path: Path, prefix: str) -> None:
    others = {"data/eng-fra.txt": "Go.\tVa !\n", "__MACOSX/._English.txt": "\0", "__MACOSX/._Polish.txt": "\0"}
    path = pack(tmp_path / "data.zip", prefix, **others)
    assert read_languages(path).equals(read_languages(fill(tmp_path / "folder")))


def test_a_hostile_zip_writes_nothing(tmp_path: Path) -> None:
    path = pack(tmp_path / "data.zip", "../")
    assert len(read_languages(path)) == 8
    assert [file.name for file in tmp_path.rglob("*")] == ["data.zip"]


def test_a_zip_that_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "MAX_BYTES", 1_000_000)
    path = pack(tmp_path / "data.zip", "", **{"Bomb.txt": "a" * 1_000_001})
    with pytest.raises(ValueError, match=r"expected at most 1,000,000 bytes of names in .*got 1,000,"):
        read_languages(path)


def test_languages_from_something_else_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected a folder or \.zip of \*\.txt files, got .*where there is nothing"
    ):
        read_languages(tmp_path / "none")
    path = tmp_path / "one.txt"
    path.write_text("Ross\n")
    with pytest.raises(ValueError, match=r"expected a folder or \.zip.*read a file of name,label by data=csv"):
        read_languages(path)
    with pytest.raises(ValueError, match=r"expected two or more \*\.txt files, one per class, in one folder"):
        read_languages(tmp_path)
    (tmp_path / "two.txt").write_bytes("Müller\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"expected a file in UTF-8, got byte 0xfc at 1 of .*two\.txt"):
        read_languages(tmp_path)


def test_a_surname_of_two_languages_is_on_one_side_of_the_split_only(tmp_path: Path) -> None:
    path = fill(tmp_path / "names")
    for seed in range(20):
        dataset = load(DataConfig(source=Source.languages, path=str(path), train_size=3, test_size=2), seed)
        train, test = (
            {tuple(row[:length]) for row, length in zip(part.inputs, part.lengths, strict=True)}
            for part in (dataset.train, dataset.test)
        )
        assert not train & test
        assert dataset.dropped == {"without a name": 1, "given twice": 1}


def test_folding_keeps_letters_and_little_else() -> None:
    assert fold_to_ascii("Éà-ß Ł.,;'1") == "Ea .,;'"


@pytest.mark.shared
def test_the_eighteen_languages(shared_data: Path) -> None:
    dataset = load(DataConfig(source=Source.languages, path=str(shared_data / "languages")), seed=0)
    assert len(dataset.classes) == 18
    assert (len(dataset.train), len(dataset.test)) == (10_000, 1_000)
    assert dataset.dropped == {"given twice": 2057}
    assert set("".join(dataset.alphabet)) <= languages.LETTERS


def test_git_itself_agrees_on_the_blob_id(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS, encoding="utf-8")
    try:
        answer = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True, cwd=tmp_path)
    except FileNotFoundError:
        pytest.skip("needs git")
    assert git_blob_id(path) == answer.stdout.strip()
