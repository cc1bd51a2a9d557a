"""Trains and records one run; with `-m`, or by an experiment that says so, a sweep. `--help` lists the choices."""

import os
import sys
from unittest.mock import patch

import hydra
from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.sweeping.job import job
from experiments.sweeping.launchers import name_missing_plugins
from experiments.sweeping.settings import CONF, as_hydra_reads
from experiments.sweeping.sweeper import in_place_of_hydras


def main() -> None:
    """The command line: one run, or with `-m` or an experiment of its own a sweep."""
    name_missing_plugins()
    sys.argv[1:] = map(as_hydra_reads, sys.argv[1:])
    whole_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        # errors come here: Hydra has one line for its own, but a traceback for a full disk
        with patch.dict(os.environ, HYDRA_FULL_ERROR="1"), in_place_of_hydras():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what was recorded until now can be read.\n")
        sys.exit(130)
    except (CompactHydraException, OmegaConfBaseException, OSError) as error:
        if whole_tracebacks:
            raise
        causes = [error, error.__cause__] if isinstance(error.__cause__, OmegaConfBaseException) else [error]
        sys.exit("\n".join(map(str, causes)))


if __name__ == "__main__":
    main()
