"""Wrong settings, made from the settings themselves: each is refused in one line that names it."""

import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest
from hostile import judge, record
from hostile_calls import judge_call
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.command_line import GROUPS, SETTINGS, UNSEEN, read_command_line
from gradflow.commands.sweeping.settings import USES, check_presets, to_config
from gradflow.commands.sweeping.told import told
from gradflow.config import CellConfig, Config

ROOT = Path(__file__).parents[1]
ANYWHERE = ["''", "[1,2]", "{a:1}", "interval(0,1)", "range(0)", "glob(x)", "range(0,3,0)"]
OF_NUMBERS = ["' '", "'a' b", "a=b=[", "(", "abc", "nan", "inf", "-inf", "true", "1e400", "'64'", "1_x", "-1"]
WRONG = {
    int: [*OF_NUMBERS, "1.5", "1e12", "-3", "99999999999999999999"],
    float: OF_NUMBERS,
    bool: ["2", "1", "0", "maybe", "null", "1.0"],
    str: ["true", "[]"],  # any other text may be meant
    StrEnum: ["foo", "3", "null", "true"],
}


def kind_of(name: str) -> type:
    kind = (get_args(SETTINGS[name].type) or (SETTINGS[name].type,))[0]
    return StrEnum if issubclass(kind, StrEnum) else kind


def wrong_values(name: str) -> Iterator[str]:
    kind, limits = kind_of(name), SETTINGS[name].metadata
    free = kind is float and not limits  # a bias may be negative
    yield from (value for value in WRONG[kind] if not (free and value == "-1"))
    yield from ANYWHERE
    if not get_args(SETTINGS[name].type):
        yield "null"
    if limits.get("least") == 1 or "above" in limits:
        yield "0"


def asked(*arguments: str) -> None:
    """What `train.py` does before training; raises a ValueError or leaves with what it would say."""
    given = read_command_line(arguments)
    overrides = [argument for argument in given if not argument.startswith("-")]
    try:
        settings = compose("config", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(told(error))
    check_presets(overrides, settings)
    to_config(settings)


@pytest.fixture(scope="module", autouse=True)
def conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def tried(names: list[str], *arguments: str) -> str:
    """What is said to wrong arguments; fails unless it is one line that holds one of the names."""
    verdict, text = judge_call(lambda: asked(*arguments), names)
    record("settings", " ".join(arguments)[:200], verdict)
    assert verdict == "clear", (arguments, text)
    assert len(text.splitlines()) == 1, (arguments, text)
    assert len(text) < 500, (arguments, text)
    return text


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_value_of_a_setting_is_refused_in_a_line_that_names_it(name: str) -> None:
    for value in wrong_values(name):
        for multirun in ([], ["-m"]):
            said = tried([name], *multirun, f"{name}={value}")
            assert "expected" in said
    for argument in (f"~{name}", f"{name}", f"{name}x=1", f"+{name}x=1", f"{name}.x=1", f"{name}@x=1"):
        tried([name.rpartition(".")[2]], argument)


@pytest.mark.parametrize("group", GROUPS)
def test_a_wrong_choice_is_refused_in_a_line_that_names_it(group: str) -> None:
    for value in (
        "foo",
        "3",
        "1.5",
        "null",
        "true",
        "[1,2]",
        "{a:1}",
        "''",
        "range(3)",
        "interval(0,1)",
    ):
        tried([group], f"{group}={value}")
        tried([group], "-m", f"{group}={value},{GROUPS[group][0]}")
    for argument in (f"~{group}", f"+{group}={GROUPS[group][0]}", group, f"{group}@x={GROUPS[group][0]}"):
        tried([group], argument)


@pytest.mark.parametrize("name", UNSEEN)
def test_folders_cannot_tell_apart_what_is_not_in_their_names(name: str) -> None:
    values = GROUPS.get(name, ["1", "2"])[:2]
    if len(values) == 2:
        assert "as folders of runs are not named after it" in tried([name], "-m", f"{name}={','.join(values)}")


@pytest.mark.parametrize("name", USES)
def test_a_setting_without_effect_is_refused(name: str) -> None:
    of_names = name in ("data.names_per_sequence", "data.vocabulary_size", "data.train_size", "data.path")
    said = tried([name], f"{name}=7", *(["data=adding"] if of_names else []))
    assert "which uses it, got" in said
    assert "; drop one of the two" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["GROUP=3"], "GROUP: expected a setting or a choice, got 'GROUP=3'; `gradflow"),
        (["lr=1"], "did you mean flossing.lr, train.lr?"),
        (["name=a/b"], "name: expected the name of one folder"),
        (["name=.."], "name: expected the name of one folder"),
        (["hydra_logging=disabled"], "expected a setting or a choice"),
        (["--resolve"], "--resolve: expected --cfg job beside it, got none; add it"),
        (["--mutlirun"], "unrecognized arguments: --mutlirun; `gradflow train --hydra-help` lists"),
        (["--cfg", "foo"], "invalid choice: 'foo'"),
        (["seed=0", "seed=1"], "seed: expected one value, got seed=0 and seed=1; leave out one of them"),
        (["seed=0,1"], "seed: expected one value, got seed=0,1; add -m for a sweep over its values"),
        (["-m", "seed=range(0,100000000000)"], "seed: expected 1 to 100,000 values, got more"),
        (["hydra.run.dir="], "hydra.run.dir: expected the path of a folder, got ''"),
        (["hydra.sweep.dir=' '"], "hydra.sweep.dir: expected the path of a folder, got ' '"),
        (["hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs: expected a whole number of at least 1, or -1"),
        (["hydra.launcher.batch_size=0"], "hydra.launcher.batch_size: expected a whole number"),
        (["hydra.sweeper.max_batch_size=-1"], "max_batch_size: expected a whole number of at least 1, or null, got -1"),
        (["hydra.foo=1"], "hydra.foo"),
        (["hydra/launcher=jobib"], "hydra/launcher: expected one of"),
        (["network=lstm", "cell.name=rnn"], "network: expected no cell and no init beside network=lstm"),
        (["cell=lstm", "cell.name=rnn"], "cell.name: expected none beside cell=lstm, got rnn; drop one of the two"),
        (["cell.num_layers=1000000000000"], "cell.num_layers: expected a whole number from 1 to 1,000"),
        (["cell.hidden_size=50000"], "expected at most 1,000,000,000 numbers at once, got 50000² weights in 1 layers"),
        (["data=adding", "data.length=10000000"], "data.test_size: expected at most 1,000,000,000 numbers at once"),
        (["cell.hidden_size=${foo}"], "cell.hidden_size: Interpolation key 'foo' not found; `gradflow"),
        (["data.path=${oc.env:NO_SUCH}"], "data.path: "),
        (["train.lr=${train.lr}"], "train.lr: Recursive interpolation"),
        (["cell.hidden_size=${name}"], "cell.hidden_size"),
    ],
)
def test_what_is_wrong_is_said_with_the_next_move(arguments: list[str], words: str) -> None:
    assert words in tried([], *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cell=lstm", "-m", "seed=0,1"],
        ["-m", "seed=range(3)", "cell=glob(*)", "train.lr=1e-3,0"],
        ["data.path=姓名 (1).csv", "data=csv"],
        ["--cfg", "job", "cell=lstm"],
        ["network=irnn", "cell.hidden_size=32"],
        ["++cell.hidden_size=32"],
        ["data=adding", "data.length=100", "data.names_per_sequence=1"],
        ["device=3"],
    ],
)
def test_what_is_right_stays_right(arguments: list[str]) -> None:
    assert len(read_command_line(arguments)) == len(arguments)


def test_settings_of_python_are_checked_alike() -> None:
    for name, value in {"hidden_size": "64", "num_layers": 1.5, "bidirectional": 2, "name": "lstmm"}.items():
        verdict, text = judge_call(lambda name=name, value=value: CellConfig(**{name: value}), [f"cell.{name}"])
        assert verdict == "clear", text
    with pytest.raises(ValueError, match="cell: expected a CellConfig, got 'lstm'"):
        Config(cell="lstm")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["cell=foo"], ["-m", "cell=foo,rnn"], ["hydra.foo=1"], ["seed=0,1"], ["threads=0"], ["hydra.mode=x"]]
)
def test_the_command_says_the_same(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), *arguments]
    verdict, text = judge(command, tmp_path, [arguments[-1].partition("=")[0]], timeout=120)
    record("settings", " ".join(arguments), verdict)
    assert verdict == "clear", text
    assert not list(tmp_path.iterdir())


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), "cell.hiden_size=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "cell.hiden_size: expected a setting or a choice, got 'cell.hiden_size=3'; did you mean cell.hidden_size?"
    ]
    assert not done.stdout
