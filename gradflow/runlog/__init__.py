"""The run log on disk: the writer, and the readers that need no torch.

A run is one folder. `run.json` describes it (written once), `status.json` says how it stands (replaced atomically),
`.lock` is held by the process that records, and `gradients/<table>/` holds the rows as Parquet parts whose content
never changes. See :mod:`gradflow.runlog.schema` for the tables and their columns, and :mod:`gradflow.runlog.parts` for
why a killed run still opens.
"""

from gradflow.runlog.documents import config_hash, write_status
from gradflow.runlog.reader import Run, open_run
from gradflow.runlog.sweep import Sweep, open_sweep
from gradflow.runlog.unreadable import Unreadable
from gradflow.runlog.writer import FlushPolicy, RunWriter

__all__ = [
    "FlushPolicy",
    "Run",
    "RunWriter",
    "Sweep",
    "Unreadable",
    "config_hash",
    "open_run",
    "open_sweep",
    "write_status",
]
