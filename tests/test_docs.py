"""Every snippet of the documentation runs, every command it shows is there, and nothing public is left out."""

import gc
import re
import shlex
import tomllib
from pathlib import Path
from unittest import SkipTest

import click
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from sybil.document import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

import gradflow as gf
import gradflow.commands.sweeping.settings
from gradflow.commands.arguments import CONF, LAUNCHERS
from gradflow.commands.cli import gradflow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
WORDS = 800


def blocks(page: Path, language: str) -> list[str]:
    """The code of the blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would; what a page shows of other packages runs where they are installed."""
    monkeypatch.chdir(tmp_path)
    document = Document.parse(str(page), SkipParser(), PythonCodeBlockParser())
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue
    document.namespace.clear()
    gc.collect()  # logs end with their models, while the folder is there


def commands(page: Path) -> list[list[str]]:
    """The words of every command line that a page shows."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [command for command in words if command]


SHOWN = {shlex.join(command): command for page in PAGES for command in commands(page)}


@pytest.mark.parametrize("command", SHOWN.values(), ids=SHOWN)
def test_commands_are_there(command):
    """What a page tells its reader to type: a target of make, a script, an extra, a command with its settings."""
    program, *arguments = command
    if program in ("git", "cd", "source"):
        return
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert arguments[0] in targets
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    elif program == "pip":
        assert arguments[0] == "install"
        if arguments[1] == "torch":  # another build of it, first
            return
        name, *extras = re.split(r"[\[\],]", arguments[-1].removesuffix("]"))
        assert name == "gradflow-rnn"
        assert set(extras) <= EXTRAS.keys()
    else:
        assert program == "gradflow"
        check_command(*arguments)


def check_command(name: str, *arguments: str) -> None:
    """Raise unless the installed command has this one, and takes these words."""
    found = gradflow.get_command(click.Context(gradflow), name)
    assert found is not None, f"gradflow has no command {name}"
    if "--help" not in arguments:
        parsed = found.make_context(name, list(arguments)).params
        words = parsed.get("overrides", parsed.get("words", ()))
        check_settings([word for word in words if "=" in word])


def check_settings(words: list[str]) -> None:
    """Raise unless Hydra takes them: of a sweep the first run's, and no launcher, whose plugin may not be there."""
    chosen = []
    for override in OverridesParser.create().parse_overrides(words):
        if override.key_or_group == "launcher":
            assert override.value() in LAUNCHERS
        elif not override.key_or_group.startswith("hydra."):
            first = next(override.sweep_string_iterator()) if override.is_sweep_override() else None
            chosen.append(str(override.input_line) if first is None else f"{override.key_or_group}={first}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", overrides=chosen)


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_readme_is_short(name):
    """Words of English, and Chinese characters as a word each two, without the code and what is hidden."""
    text = re.sub(r"<!---.*?--->", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    assert len(re.sub(r"[\u4e00-\u9fff]", " ", text).split()) + chinese / 2 <= WORDS


def test_links_lead_somewhere():
    """Files that pages link to are there, or are made when the site is built."""
    made = [ROOT / "docs" / name for name in ("figures", "api", "diagnosis.md")]
    made += [ROOT / "docs" / file.relative_to(ROOT) for file in (ROOT / "notebooks").glob("*.ipynb")]
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            assert path.exists() or any(path.is_relative_to(folder) for folder in made), f"{page.name} links to {path}"


def test_every_public_name_has_its_entry():
    """Of `gradflow`; those of its wings are listed from the code."""
    told = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, *(ROOT / "docs/api").glob("*.md")])
    modules = {"__version__", "figures", "testing", "theory", "analysis"}
    missing = [name for name in gf.__all__ if name not in modules and f":: gradflow.{name}\n" not in told]
    assert not missing, f"docs/ has no entry for {', '.join(missing)}"


def test_pictures_are_of_every_part_of_the_lecture():
    from gradflow.commands.deck import PARTS

    text = (ROOT / "docs" / "extensions" / "pictures.py").read_text(encoding="utf-8")
    assert all(f'"{part}": ["experiment={experiment}"' in text for part, experiment in PARTS.items())
