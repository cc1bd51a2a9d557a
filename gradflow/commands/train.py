"""Trains and records one run; with `-m`, or by an experiment that says so, a sweep. `--help` lists the choices."""

import os
import sys
from unittest.mock import patch

import hydra

from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.command_line import read_command_line
from gradflow.commands.sweeping.job import job
from gradflow.commands.sweeping.launchers import name_missing_plugins
from gradflow.commands.sweeping.sweeper import in_place_of_hydras
from gradflow.commands.sweeping.told import is_of_hydra, told


def main() -> None:
    """The command line: one run, or with `-m` or an experiment of its own a sweep."""
    name_missing_plugins()
    try:
        sys.argv[1:] = read_command_line(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
    whole_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        # errors come here: Hydra has one line for its own, but a traceback for a full disk
        with patch.dict(os.environ, HYDRA_FULL_ERROR="1"), in_place_of_hydras():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what was recorded until now can be read.\n")
        sys.exit(130)
    except Exception as error:
        ours = not isinstance(error, (OSError, ValueError)) and not is_of_hydra(error)
        if whole_tracebacks or ours:
            raise
        sys.exit(told(error))


if __name__ == "__main__":
    main()
