"""What `make compare` and `make lecture` run: `gradflow` with the settings in ARGS, which no shell reads.

    ARGS="data=csv data.path='my names.csv'" python experiments/from_make.py compare

Words are split as in a shell, at spaces outside quotes, but nothing in them is executed.
"""

import os
import shlex
import sys

from gradflow.commands.cli import main


def words(text: str) -> list[str]:
    """The words of ARGS.

    Raises:
        SystemExit: With a line for a quote that does not close.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        sys.exit(f"ARGS: expected KEY=VALUE KEY=VALUE ..., got {text} ({str(error).lower()}); close the quote")


if __name__ == "__main__":
    main([*sys.argv[1:], *words(os.environ.get("ARGS", ""))])
