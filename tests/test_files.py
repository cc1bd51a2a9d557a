"""Files are replaced whole or not at all: on a full disk whatever was there is as before."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import gradflow as gf
from gradflow.commands import reproduce
from gradflow.commands.deck import Drawn, Slide
from gradflow.commands.lecture import replaced
from gradflow.commands.page import write_page
from gradflow.commands.slides import write_slides
from gradflow.config import DataConfig
from gradflow.data import load
from gradflow.figures.animation import Animation, save_animation
from gradflow.files import write_files
from gradflow.runlog.documents import write_json


@pytest.fixture
def full(monkeypatch):
    """A disk that takes some files more and then none: what is written stays in memory until fsync says so."""

    def fill(more: int) -> None:
        original, left = os.fsync, [more]

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_written_in_place_of_others(tmp_path):
    (tmp_path / "a").write_text("old")
    write_files({tmp_path / "a": b"new", tmp_path / "b": b""})
    assert contents(tmp_path) == {"a": b"new", "b": b""}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("more", [0, 1])
def test_all_are_written_or_none(tmp_path, full, more):
    (tmp_path / "a").write_text("old")
    full(more)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); free .* as before: '/.*"):
        write_files({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert contents(tmp_path) == {"a": b"old"}


def test_the_error_names_the_path_and_keeps_its_kind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"cannot be written \(Is a directory\).*folder'"):
        write_files({tmp_path / "a": b"", tmp_path / "folder": b""})
    with pytest.raises(FileNotFoundError, match=r"cannot be written \(No such file or directory\).*gone/a'"):
        write_files({tmp_path / "gone" / "a": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a.csv").symlink_to(tmp_path / "precious")
    write_files({tmp_path / "a.csv": b"new"})
    assert contents(tmp_path) == {"precious": b"mine", "a.csv": b"new"}


def figure(title: str) -> Figure:
    drawn = Figure(figsize=(1, 1))
    drawn.text(0, 0, title)
    return drawn


def write_figure(folder: Path, title: str) -> None:
    gf.figures.save(figure(title), folder / "x", data=pd.DataFrame({"title": [title]}), claims=[{"claim": title}])


def write_deck(folder: Path, title: str) -> None:
    with gf.figures.deck(folder / "deck.pdf") as add_page:
        add_page(figure(title))


def write_animation(folder: Path, title: str) -> None:
    moving = Animation(figure(title), [], [0, 1], title, "en", "paper")
    save_animation(moving, folder / "x", data=pd.DataFrame({"title": [title]}))


def write_model(folder: Path, title: str) -> None:
    import torch

    from gradflow.training.storage import save

    dataset = load(DataConfig(train_size=64, test_size=16, vocabulary_size=100 + len(title)), 0)
    save(torch.nn.Linear(2, len(title)), dataset, folder)


def write_verdicts(folder: Path, title: str) -> None:
    reproduce.keep(pd.DataFrame({"result": [title]}), folder / "verdicts.csv")


def one_slide(folder: Path, title: str) -> dict[Slide, Drawn]:
    picture = folder.parent / f"{title}.png"
    Image.new("RGB", (16, 9), "black" if title == "before" else "red").save(picture)
    picture.with_suffix(".svg").write_text(f"<svg>{title}</svg>")
    slide = Slide("names", "one_hot", lambda folder: pd.DataFrame(), title)
    return {slide: Drawn(picture, (), title, 0.1)}


WRITERS = {
    write_figure: 5,
    write_deck: 1,
    write_animation: 3,
    write_model: 2,
    write_verdicts: 1,
    lambda folder, title: write_page(folder, one_slide(folder, title), "en"): 1,
    lambda folder, title: write_slides(folder / "deck.pptx", one_slide(folder, title), "en"): 1,
    lambda folder, title: write_json(folder / "status.json", {"state": title}): 1,
}


@pytest.mark.parametrize(("write", "files"), WRITERS.items(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_full_disk_leaves_what_was_there(tmp_path, full, write, files):
    write(tmp_path, "before")
    before = contents(tmp_path)
    assert len(before) == files
    full(files - 1)
    with pytest.raises(OSError, match=r"No space left on device.*as before: '/"):
        write(tmp_path, "afterwards")
    assert contents(tmp_path) == before


def test_a_deck_that_fails_half_way_leaves_the_one_before(tmp_path):
    write_deck(tmp_path, "before")
    before = contents(tmp_path)
    with suppress(KeyError), gf.figures.deck(tmp_path / "deck.pdf") as add_page:
        add_page(figure("half"))
        raise KeyError
    with gf.figures.deck(tmp_path / "deck.pdf"):
        pass
    assert contents(tmp_path) == before


def test_a_folder_is_put_back_where_the_new_one_does_not_come(tmp_path, monkeypatch):
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "deck.pdf").write_text("old")
    original = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "en" and self.name == "en":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"), replaced(tmp_path / "en") as new:
        new.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["en"]
    assert contents(tmp_path / "en") == {"deck.pdf": b"old"}


def test_verdicts_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "verdicts.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"verdicts\.csv: expected earlier verdicts, got other contents .*; move"):
        write_verdicts(tmp_path, "x")
    assert (tmp_path / "verdicts.csv").read_text() == "a,b\n1,2\n"
