"""`open_sweep`: all the runs below a folder, side by side."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gradflow.checks import check_flags, check_name, check_path, listed
from gradflow.runlog.documents import read_description
from gradflow.runlog.parts import read_parts
from gradflow.runlog.reader import (
    Run,
    check_where,
    columns_in,
    config_in,
    is_run,
    select,
    to_dataset,
    to_frame,
    to_long,
)
from gradflow.runlog.schema import KEYS, RESERVED, arrow_schema

if TYPE_CHECKING:
    import xarray as xr

_RUN_COLUMNS = ("run", "path", "status", "iteration", "proof", "error")
_NOT_SEARCHED = ("gradients", "figures")


def open_sweep(path: str | os.PathLike[str]) -> "Sweep":
    """Find every run below a folder (a folder that holds `run.json` or `status.json`); no row is read.

    Raises:
        FileNotFoundError: there is none.
    """
    check_path("path", path, "a folder with runs below it")
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
        """A row per run: run (path below the sweep), path, status, last iteration, proof, error, settings that vary."""
        rows = [(str(run.path), run.status, run.iteration, run.proof, run.error) for run in self.members]
        frame = pd.DataFrame(rows, columns=_RUN_COLUMNS[1:]).astype({"iteration": "Int64"})
        settings = self._settings(None, self._descriptions())
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
            table: "scalars", "time", "lag", "gates", "spectrum" or "proof".
            columns: value columns (the key columns always come along; NaN in runs that lack one); all if not given.
            params: settings, such as ["cell", "clip"]; those that vary if not given.
            where: a `pyarrow.compute` expression over the columns of the table that rows must fulfil.
            long: one row per value, in columns `quantity` and `value`.

        Raises:
            ValueError: an unknown table, column or setting; names near to it are listed.
        """
        check_name("table", table, KEYS)
        check_flags(long=long)
        check_where(where)
        descriptions = self._descriptions()
        settings, known = self._settings(params, descriptions), columns_in(descriptions, table)
        wanted, schema = select(table, columns, known), arrow_schema(table, known)
        with ThreadPoolExecutor() as readers:
            tables = list(
                readers.map(lambda run: read_parts(run.path / "gradients", table, schema, wanted, where), self.members)
            )
        owners = np.repeat(np.arange(len(tables)), [rows.num_rows for rows in tables])
        labels = settings.iloc[owners].reset_index(drop=True)
        frame = pd.concat([labels, to_frame(pa.concat_tables(tables))], axis=1)
        return to_long(frame, [*labels, *KEYS[table]]) if long else frame

    def dataset(
        self,
        table: str = "time",
        columns: Iterable[str] | None = None,
        params: Iterable[str] | None = None,
        where: Any = None,
    ) -> "xr.Dataset":
        """As :meth:`frame`, with dimension `run` before the table's keys; the settings are coordinates of `run`."""
        frame = self.frame(table, columns, [], where)
        descriptions = self._descriptions()
        dataset = to_dataset(frame, ("run", *KEYS[table]), columns_in(descriptions, table))
        settings = self._settings(params, descriptions).set_index("run").loc[dataset["run"].to_index()]
        return dataset.assign_coords({name: ("run", settings[name].to_numpy()) for name in settings})

    def _descriptions(self) -> list[dict[str, Any]]:
        """The `run.json` of every run, read once."""
        return [read_description(run.path) for run in self.members]

    def _settings(self, params: Iterable[str] | None, descriptions: list[dict[str, Any]]) -> pd.DataFrame:
        """A row per run: its name, and the settings that were asked for, or that vary."""
        if isinstance(params, str):
            raise ValueError(f"params: expected a list of names, got the text {params!r}; write [{params!r}]")
        settings = [_settings_in(*pair) for pair in zip(descriptions, self.members, strict=True)]
        shorts = _short_names(dict.fromkeys(key for row in settings for key in row))
        keys = {short: key for key, short in shorts.items()} | {key: key for key in shorts}
        if params is None:
            params = [short for key, short in shorts.items() if _varies(key, settings)]
        params = listed("params", params, "a list of names")
        for name in params:
            check_name("params", name, keys)
        columns = {name: [row.get(keys[name]) for row in settings] for name in params}
        return pd.DataFrame({"run": [os.path.relpath(run.path, self.path) for run in self.members], **columns})


def _settings_in(description: dict[str, Any], run: Run) -> dict[str, Any]:
    """The settings under dotted names, and the seed where the settings do not name it."""
    seed = description.get("seed")
    return ({} if seed is None else {"seed": seed}) | _flatten(config_in(description, run.path))


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted name to the shortest clear one.

    >>> _short_names(["seed", "cell.name", "clip.threshold", "a.gain", "b.gain", "train.lr", "time"])
    {'seed': 'seed', 'cell.name': 'cell', 'clip.threshold': 'threshold', 'a.gain': 'a.gain', 'b.gain': 'b.gain', \
'train.lr': 'train.lr', 'time': 'config.time'}
    """
    shorts = {key: key.removesuffix(".name").rsplit(".", 1)[-1] for key in keys}
    uses = Counter(shorts.values())
    taken = RESERVED.union(_RUN_COLUMNS)
    clear = {key: short if uses[short] == 1 and short not in taken else key for key, short in shorts.items()}
    return {key: f"config.{name}" if name in taken else name for key, name in clear.items()}


def _varies(key: str, settings: list[dict[str, Any]]) -> bool:
    """Whether a setting differs between runs, left aside those of which no setting is known."""
    return len({repr(row.get(key)) for row in settings if row}) > 1
