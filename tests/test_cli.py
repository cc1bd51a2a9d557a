"""The command `gradflow`: its words, its help, its exit statuses, and that it starts at once."""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gradflow.commands import compare
from gradflow.commands.arguments import Look
from gradflow.commands.cli import COMMANDS, EXAMPLES, gradflow, main
from gradflow.commands.words import CONTEXTS, LANGUAGES, THEMES, Words, lang, out, runs_in

ROOT = Path(__file__).parents[1]
NAMES = [name for commands in COMMANDS.values() for name in commands]


@click.command("read", cls=Words)
@runs_in("path")
@lang
@out
@click.option("--force", is_flag=True)
def read(**values: object) -> None:
    """Says what it was given."""
    click.echo(repr(values))


def given(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(read, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return eval(done.output)


def wrong(*arguments: str) -> str:
    done = CliRunner().invoke(read, arguments)
    assert done.exit_code == 2
    return done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["a", "--lang", "zh"], ["--lang=zh", "a"], ["a", "lang=zh"], ["lang=zh", "path=a"], ["--lang", "zh", "--", "a"]],
)
def test_options_are_written_in_either_way(arguments):
    assert given(*arguments) == {"path": "a", "lang": "zh", "out": "", "force": False}


def test_what_is_given_arrives_as_it_is(tmp_path, monkeypatch):
    assert given("path=x=1", "out=", "--force") == {"path": "x=1", "lang": "en", "out": "", "force": True}
    assert given("a", "--out", "lang=zh")["out"] == "lang=zh"
    assert given("--", "-a")["path"] == "-a"
    monkeypatch.chdir(tmp_path)
    Path("cell=gru,clip=norm").mkdir()
    assert given("cell=gru,clip=norm")["path"] == "cell=gru,clip=norm"  # a folder called like a setting


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "lnag=zh"], "lnag: expected one of path, lang, out, got 'lnag=zh'; did you mean lang?"),
        (
            ["a", "--lnag=zh"],
            "--lnag: expected one of --lang, --out, --force, -h, --help, got '--lnag=zh'; did you mean --lang?",
        ),
        (["lang=zh"], "path: expected PATH, got nothing"),
        (["path="], "path: expected path=VALUE, got nothing"),
        ([" "], "path: expected path=VALUE, got nothing"),
        (["a", "lang="], "lang: expected lang=VALUE, got nothing"),
        (["a", "lang"], "lang: expected lang=VALUE, got nothing"),
        (["a", "--lang"], "lang: expected --lang VALUE, got nothing"),
        (["a", "lang=fr"], "lang: expected one of en, zh, got fr"),
        (["a", "b"], "path: expected one value, got 'a' and 'b'"),
        (["a", "lang=zh", "--lang", "en"], "lang: expected one value, got 'zh' and 'en'"),
        (["a" * 5000], "path: expected a value of at most 4,000 characters, got 'aaaa"),
    ],
)
def test_what_is_wrong_is_said_with_status_2(arguments, message):
    assert message in wrong(*arguments)


def test_the_words_are_those_of_the_figures():
    from gradflow.figures import theme

    assert (theme.LANGUAGES, tuple(theme.CONTEXTS), theme.THEMES) == (LANGUAGES, CONTEXTS, THEMES)


def test_help_names_every_command_with_what_it_does():
    done = CliRunner().invoke(gradflow, ["--help"])
    assert done.exit_code == 0
    for name in NAMES:
        assert f"\n  {name} " in done.output
    assert "2 wrong usage" in done.output


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("train", "sweep")])  # whose help is Hydra's
def test_every_command_has_help_with_examples_that_can_be_typed(name):
    done = CliRunner().invoke(gradflow, [name, "--help"], terminal_width=100)
    assert done.exit_code == 0, done.output
    command = gradflow.get_command(None, name)
    assert "Examples:" in done.output
    for line in command.examples:
        assert f"  {line}\n" in done.output
        program, first, *words = shlex.split(line.partition("    ")[0])
        assert (program, first) == ("gradflow", name)
        command.make_context(name, words)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_of_the_program_name_its_commands(line):
    assert line.split()[:2] in [["gradflow", name] for name in NAMES]


def test_wrong_usage_is_said_once_and_ends_with_2(capsys):
    with pytest.raises(SystemExit, match=r"lang: expected one of en, zh, got fr; `gradflow figures --help`") as ended:
        main(["figures", "outputs", "lang=fr"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("expected one of en, zh") == 1
    with pytest.raises(
        SystemExit,
        match=r"expected a command \(compare, .*\), got 'figurs'; did you mean figures\? `gradflow --help` s",
    ):
        main(["figurs"])
    with pytest.raises(SystemExit, match=r"cell: expected one of .*, got 'lstmm'; did you mean lstm") as ended:
        main(["train", "cell=lstmm"])
    assert ended.value.code == 2


def test_starting_loads_nothing_heavy():
    heavy = ("torch", "pandas", "numpy", "matplotlib", "hydra", "rich", "pyarrow")
    code = "import sys\nfrom gradflow.commands.cli import main\nmain(['--help'])\n"
    code += f"sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


# --- compare ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """Has `gradflow compare` say what it would train and show; the exit status of training may be set."""
    monkeypatch.chdir(tmp_path)
    said: dict[str, object] = {"status": 0}

    def patiently(command: list[str], stdout: int | None = None) -> int:
        said["trained"] = [word for word in command if "=" in word or word.startswith("--")]
        for word in command:
            if word.startswith(compare.FOLDER):
                Path(word.removeprefix(compare.FOLDER).strip("'"), "run").mkdir(parents=True)
        return int(str(said["status"]))

    monkeypatch.setattr(compare, "patiently", patiently)
    monkeypatch.setattr(compare, "show", lambda *shown: said.update(shown=shown) or True)

    def run(*words: str, status: int = 0) -> dict[str, object]:
        said["status"] = status
        done = CliRunner().invoke(gradflow, ["compare", *words], catch_exceptions=False)
        return {"ended": done.exit_code, "err": done.stderr, **said}

    return run


def test_compare_trains_and_shows(compared):
    done = compared("cell=lstm", "lang=zh", "--out", "x")
    assert done["ended"] == 0
    experiment, folder, cell = done["trained"]
    assert (experiment, cell) == ("experiment=compare", "cell=lstm")
    assert done["shown"] == (Path(folder.removeprefix(compare.FOLDER)), Look("zh", "slide", "light", "paths"), "x")


def test_compare_uses_the_folder_that_is_given(compared):
    done = compared("hydra.sweep.dir='over there'", status=1)
    assert done["ended"] == 1  # some run failed, and the rest is shown
    assert done["shown"][0] == Path("over there")
    assert done["trained"] == ["experiment=compare", "hydra.sweep.dir='over there'"]


@pytest.mark.parametrize("word", ["runs", "path=runs", "cell=gru,clip=norm"])
def test_compare_trains_nothing_where_a_folder_is_given(compared, word):
    Path("cell=gru,clip=norm").mkdir()
    done = compared(word, "context=paper")
    assert "trained" not in done
    assert done["shown"] == (Path(word.removeprefix("path=")), Look("en", "paper", "light", "paths"), "")


def test_compare_passes_hydras_own_options_on_and_shows_nothing(compared):
    assert compared("cell=lstm", "--cfg", "job")["trained"] == ["experiment=compare", "cell=lstm", "--cfg"]
    assert "shown" not in compared("--info")


def test_compare_takes_a_folder_or_settings(compared):
    done = compared("runs", "cell=lstm")
    assert done["ended"] == 2
    assert "path: expected the folder of runs alone, got runs cell=lstm" in done["err"]


def test_a_reader_that_has_seen_enough_is_no_error():
    words = [sys.executable, "-m", "gradflow", "train", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        done.stdout.close()
        assert done.stderr.read() == ""


def test_without_arguments_it_says_what_there_is(capsys):
    with contextlib.suppress(SystemExit):
        main([])
    assert "Examples:" in capsys.readouterr().out
