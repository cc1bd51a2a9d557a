"""What is shared between two processes comes out as in one, also where the second is killed."""

import os
from pathlib import Path

from synthetic_runs import Planted, config_of, write_run

from gradflow.figures.drawing import in_processes


def pid_unless_it_must_die(own: int, dies: bool) -> int:
    if dies and os.getpid() != own:
        os._exit(9)
    return os.getpid()


def test_the_first_is_done_here_the_next_beside_it_and_what_was_lost_here_after_all():
    own = os.getpid()
    with in_processes(2) as share:
        answers = [share(pid_unless_it_must_die, own, False) for _ in range(2)]
        here, beside = (answer() for answer in answers)
        lost = [share(pid_unless_it_must_die, own, True) for _ in range(3)]
        assert (here, beside != own) == (own, True)
        assert [answer() for answer in lost] == [own] * 3


def test_what_is_needed_later_is_done_beside_and_a_block_within_has_the_same_second_process():
    own = os.getpid()
    with in_processes(2) as share, in_processes(2) as within:
        ahead = share.ahead(pid_unless_it_must_die, own, False)
        beside = ahead()
        assert beside != own
        assert within(pid_unless_it_must_die, own, False)() == beside
    with in_processes(1) as alone:
        assert alone.ahead(pid_unless_it_must_die, own, False)() == own


def test_figures_of_two_processes_are_those_of_one(tmp_path: Path):
    from gradflow import figures, open_sweep

    write_run(tmp_path / "run", config_of(), Planted(steps=4, iterations=3))
    only = ["comparison", "gradient_by_lag", "stacked_lattice"]
    one, two = (
        figures.draw_all(source, tmp_path / str(n), only=only, context="paper", processes=n)
        for n, source in ((1, tmp_path / "run"), (2, open_sweep(tmp_path / "run")))
    )
    assert [file.name for file in one] == [file.name for file in two]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_fonts_in_a_pdf_go_without_rules_of_typesetting(tmp_path: Path):
    from fontTools import subset
    from matplotlib.figure import Figure

    from gradflow.figures import save
    from gradflow.figures.output import lean_fonts

    with lean_fonts():
        assert {"GDEF", "GPOS", "GSUB"} <= set(subset.Options().drop_tables)
    assert "GPOS" not in subset.Options().drop_tables
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "office $x^2$")
    save(figure, tmp_path / "words")
    assert (tmp_path / "words.pdf").stat().st_size < 20_000
