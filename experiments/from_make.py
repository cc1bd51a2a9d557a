"""What `make compare` and `make lecture` run; the settings come in the variable ARGS, which no shell reads.

    ARGS="data=csv data.path='my names.csv'" python experiments/from_make.py compare

Words are split as in a shell, at spaces outside quotes, but nothing in them is executed.
"""

import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from gradflow.commands.arguments import own_folder
from gradflow.commands.sweeping.signals import patiently

HERE = Path(__file__).parent
FOLDER = "hydra.sweep.dir="


def words(text: str) -> list[str]:
    """The words of ARGS.

    Raises:
        SystemExit: With a line for a quote that does not close.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        sys.exit(f"ARGS: expected KEY=VALUE KEY=VALUE ..., got {text} ({str(error).lower()}); close the quote")


def compare(arguments: list[str]) -> int:
    """Trains the main job and then compares its runs; the exit status."""
    train = [sys.executable, str(HERE / "train.py"), "experiment=compare"]
    if any(word.startswith("-") and word not in ("-m", "--multirun") for word in arguments):  # such as --help
        return patiently([*train, *arguments])
    given = [word.removeprefix(FOLDER).strip("'\"") for word in arguments if word.startswith(FOLDER)]
    folder = Path(given[-1] if given else own_folder(datetime.now().strftime("outputs/compare/%Y-%m-%d_%H-%M-%S")))
    status = patiently([*train, *([] if given else [f"{FOLDER}{folder}"]), *arguments], stdout=subprocess.DEVNULL)
    if not folder.is_dir() or not any(folder.iterdir()):
        return status
    return patiently([sys.executable, str(HERE / "compare.py"), f"path={folder}"]) or status


def main() -> None:
    """The command line: the target."""
    [target] = sys.argv[1:]
    arguments = words(os.environ.get("ARGS", ""))
    try:
        if target == "compare":
            sys.exit(compare(arguments))
        sys.exit(patiently([sys.executable, str(HERE / f"{target}.py"), *arguments]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
