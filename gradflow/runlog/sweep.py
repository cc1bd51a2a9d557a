"""`open_sweep`: all the runs below a folder, side by side."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gradflow.runlog.parts import read_parts
from gradflow.runlog.reader import Run, is_run, select, to_dataset, to_frame
from gradflow.runlog.schema import KEYS, RESERVED, Label, arrow_schema, check_name

if TYPE_CHECKING:
    import xarray as xr

_RUN_COLUMNS = ("run", "path", "status", "iteration", "error")
_NOT_SEARCHED = ("gradients", "figures")


def open_sweep(path: str | os.PathLike[str]) -> "Sweep":
    """Find every run below a folder (a folder that holds `run.json` or `status.json`); no row is read.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = []
    for folder, below, _ in os.walk(path):
        below[:] = sorted(name for name in below if name not in _NOT_SEARCHED and not name.startswith("."))
        if is_run(Path(folder)):
            folders.append(Path(folder))
    if not folders:
        raise FileNotFoundError(
            f"path: expected a folder with runs below it (each holds run.json or status.json), got {path}; "
            f"give the folder of a sweep, or record a run first"
        )
    return Sweep(Path(path), tuple(Run(folder) for folder in folders))


@dataclass(frozen=True)
class Sweep:
    """The runs found below a folder. Every access reads what the disk holds at that moment; nothing is written.

    Settings go by the shortest clear name: that of the group for its `name` (`cell.name` is `cell`), else the last part
    (`clip.threshold` is `threshold`), but all of it (`train.lr`) where two settings would share a name or a column of
    the log has it already. `params` takes short and full names.
    """

    path: Path
    members: tuple[Run, ...]

    @property
    def runs(self) -> pd.DataFrame:
        """A row per run: run (its path below the sweep), path, status, last iteration, error, the settings that vary."""
        rows = [(str(run.path), run.status, run.iteration, run.error) for run in self.members]
        frame = pd.DataFrame(rows, columns=_RUN_COLUMNS[1:]).astype({"iteration": "Int64"})
        settings = self._settings(None)
        return pd.concat([settings[["run"]], frame, settings.drop(columns="run")], axis=1)

    def frame(
        self,
        table: str,
        columns: Iterable[str] | None = None,
        params: Iterable[str] | None = None,
        where: Any = None,
        long: bool = False,
    ) -> pd.DataFrame:
        """The rows of a table from every run, with `run` and the settings as further columns.

        Args:
            table: "scalars", "time", "lag", "gates" or "spectrum".
            columns: value columns (the key columns always come along; NaN in runs that lack one); all if not given.
            params: settings, such as ["cell", "clip"]; those that vary if not given.
            where: a `pyarrow.compute` expression over the columns of the table that rows must fulfil.
            long: one row per value, in columns `quantity` and `value`.

        Raises:
            ValueError: an unknown table, column or setting; names near to it are listed.
        """
        settings = self._settings(params)
        frame, counts = self._rows(table, columns, where)
        labels = settings.iloc[np.repeat(np.arange(len(counts)), counts)].reset_index(drop=True)
        frame = pd.concat([labels, frame], axis=1)
        return frame.melt(id_vars=[*labels, *KEYS[table]], var_name="quantity") if long else frame

    def dataset(
        self,
        table: str = "time",
        columns: Iterable[str] | None = None,
        params: Iterable[str] | None = None,
        where: Any = None,
    ) -> "xr.Dataset":
        """As :meth:`frame`, with the dimension `run` before the table's key columns; settings are coordinates of `run`."""
        frame = self.frame(table, columns, [], where)
        dataset = to_dataset(frame, ("run", *KEYS[table]), self._columns(table))
        settings = self._settings(params).set_index("run").loc[dataset["run"].to_index()]
        return dataset.assign_coords({name: ("run", settings[name].to_numpy()) for name in settings})
