"""`open_sweep`: all the runs below a folder, side by side."""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gradflow.checks import check_flags, check_name, check_path, listed
from gradflow.runlog.kept import KeptRun
from gradflow.runlog.parts import check_parts, read_parts
from gradflow.runlog.reader import (
    Run,
    absent,
    check_where,
    columns_in,
    config_in,
    is_run,
    select,
    to_dataset,
    to_frame,
    to_long,
)
from gradflow.runlog.schema import KEYS, RESERVED, TABLES, arrow_schema
from gradflow.runlog.unreadable import Unreadable

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

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
        nothing = "" if Path(path).exists() else f"{absent(Path(path))}; "
        raise FileNotFoundError(
            f"path: expected a folder with runs below it (each holds run.json or status.json), got {path}; {nothing}"
            f"give the folder of a sweep, or record a run first"
        )
    return Sweep(Path(path), tuple(Run(folder) for folder in folders))


@dataclass(frozen=True)
class Sweep:
    """The runs found below a folder. Every access reads what the disk holds at that moment; nothing is written.

    ``for run in sweep`` goes through them, ``len(sweep)`` counts them.

    A run with a file that cannot be read is `unreadable` in :attr:`runs`, where `error` says which and why. Tables
    leave it out and say so in the log (WARNING); only where no run can be read, they raise :class:`Unreadable`.

    Settings go by the shortest clear name: that of the group for its `name` (`cell.name` is `cell`), else the last part
    (`clip.threshold` is `threshold`), but all of it (`train.lr`) where two settings would share a name or a column of
    the log has it already. `params` takes short and full names.
    """

    path: Path
    members: tuple[Run, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} runs)"

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.members)

    def kept(self) -> "Sweep":
        """The same runs for who asks them many things at one moment: what is small of each is read once."""
        return Sweep(self.path, tuple(run if isinstance(run, KeptRun) else KeptRun(run.path) for run in self.members))

    @property
    def runs(self) -> pd.DataFrame:
        """A row per run: run (path below the sweep), path, status, last iteration, proof, error, settings that vary."""
        frame = pd.DataFrame(map(_row, self.members), columns=_RUN_COLUMNS[1:]).astype({"iteration": "Int64"})
        described = {run: _or_damage(_described, run) for run in self.members}
        settings = self._settings({run: {} if isinstance(d, Unreadable) else d for run, d in described.items()}, None)
        return pd.concat([settings[["run"]], frame, settings.drop(columns="run")], axis=1)

    @property
    def readable(self) -> "Sweep":
        """The sweep without the runs that cannot be read, which are named in the log.

        Documents and scalars are read, and every part of the other tables is opened; what is damaged further inside
        of these is found when it is read.

        Raises:
            Unreadable: none can be read.
        """
        return Sweep(self.path, tuple(_sieved(self.members, _looked_at)))

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
            Unreadable: no run can be read.
        """
        check_flags(long=long)
        frame, labels = self._frame(self._described(), table, columns, params, where)
        return to_long(frame, [*labels, *KEYS[table]]) if long else frame

    def dataset(
        self,
        table: str = "time",
        columns: Iterable[str] | None = None,
        params: Iterable[str] | None = None,
        where: Any = None,
    ) -> "xr.Dataset":
        """As :meth:`frame`, with dimension `run` before the table's keys; the settings are coordinates of `run`."""
        described = self._described()
        frame, _ = self._frame(described, table, columns, [], where)
        dataset = to_dataset(frame, ("run", *KEYS[table]), columns_in(described.values(), table))
        settings = self._settings(described, params).set_index("run").loc[dataset["run"].to_index()]
        return dataset.assign_coords({name: ("run", settings[name].to_numpy()) for name in settings})

    def _described(self) -> dict[Run, dict[str, Any]]:
        """The runs that can be read, each with its `run.json`, read once."""
        return _sieved(self.members, _described)

    def _frame(
        self, described: dict[Run, dict[str, Any]], table: str, columns: Any, params: Any, where: Any
    ) -> tuple[pd.DataFrame, list[str]]:
        """Rows with run and settings, and the names of the latter."""
        check_name("table", table, KEYS)
        known = columns_in(described.values(), table)
        wanted, schema = select(table, columns, known), arrow_schema(table, known)
        check_where(where, table, schema)
        read = _sieved(described, lambda run: read_parts(run.path / "gradients", table, schema, wanted, where))
        settings = self._settings({run: described[run] for run in read}, params)
        owners = np.repeat(np.arange(len(read)), [rows.num_rows for rows in read.values()])
        labels = settings.iloc[owners].reset_index(drop=True)
        return pd.concat([labels, to_frame(pa.concat_tables(read.values()))], axis=1), [str(name) for name in labels]

    def _settings(self, described: dict[Run, dict[str, Any]], params: Iterable[str] | None) -> pd.DataFrame:
        """A row per run: its name, and the settings that were asked for, or that vary."""
        if isinstance(params, str):
            raise ValueError(f"params: expected a list of names, got the text {params!r}; write [{params!r}]")
        settings = [_settings_in(description) for description in described.values()]
        shorts = _short_names(dict.fromkeys(key for row in settings for key in row))
        keys = {short: key for key, short in shorts.items()} | {key: key for key in shorts}
        if params is None:
            params = [short for key, short in shorts.items() if _varies(key, settings)]
        params = listed("params", params, "a list of names")
        for name in params:
            check_name("params", name, keys)
        columns = {name: [row.get(keys[name]) for row in settings] for name in params}
        return pd.DataFrame({"run": [os.path.relpath(run.path, self.path) for run in described], **columns})


def _sieved(runs: Iterable[Run], read: Callable[[Run], Any]) -> dict[Run, Any]:
    """What is read of each run; one that cannot be read is left out and named in the log.

    Raises:
        Unreadable: none can be read.
    """
    runs = list(runs)
    with ThreadPoolExecutor() as readers:
        found = dict(zip(runs, readers.map(partial(_or_damage, read), runs), strict=True))
    damages = [result for result in found.values() if isinstance(result, Unreadable)]
    if damages and len(damages) == len(runs):
        raise damages[0]
    for damage in damages:
        log.warning("left out: %s", damage)
    return {run: result for run, result in found.items() if not isinstance(result, Unreadable)}


def _or_damage(read: Callable[[Run], Any], run: Run) -> Any:
    try:
        return read(run)
    except Unreadable as damage:
        return damage


def _looked_at(run: Run) -> None:
    """Raises Unreadable where a look at every file of a run's log finds damage; at one that is kept, the first."""
    found = getattr(run, "found", {})
    if "damage" not in found:
        found["damage"] = _or_damage(_look, run)
    if found["damage"] is not None:
        raise found["damage"]


def _look(run: Run) -> None:
    _ = run.status, run.table("scalars")
    for table in TABLES:
        check_parts(run.path / "gradients", table)


def _row(run: Run) -> tuple[Any, ...]:
    """What :attr:`Sweep.runs` says of a run."""
    try:
        return str(run.path), run.status, run.iteration, run.proof, run.error
    except Unreadable as damage:
        return str(run.path), "unreadable", None, "unproved", str(damage)


def _described(run: Run) -> dict[str, Any]:
    """Its `run.json` with the settings, which an earlier end may have left to Hydra's file."""
    description = run.description
    return description if description else {"config": config_in(description, run.path)}


def _settings_in(description: dict[str, Any]) -> dict[str, Any]:
    """The settings under dotted names, and the seed where the settings do not name it."""
    seed = description.get("seed")
    return ({} if seed is None else {"seed": seed}) | _flatten(description.get("config", {}))


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
