"""`open_run`: one recorded run, read lazily; running, killed and empty runs open like any other."""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from gradflow.checks import check_flags, check_name, check_path, listed, require, shown
from gradflow.runlog.documents import read_description, read_status
from gradflow.runlog.lock import is_alive
from gradflow.runlog.parts import list_parts, read_parts
from gradflow.runlog.proof import tolerance_in, verdict
from gradflow.runlog.schema import KEYS, TABLES, Label, arrow_schema, table_columns
from gradflow.runlog.unreadable import check_depth, check_is_file, unreadable

if TYPE_CHECKING:
    import xarray as xr


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run."""
    return (path / "run.json").is_file() or (path / "status.json").is_file()


def open_run(path: str | os.PathLike[str]) -> "Run":
    """Open the folder of a run, whatever its state; no row is read before it is asked for.

    Raises:
        FileNotFoundError: there is no run at `path`.
    """
    check_path("path", path, "the folder of a run")
    if not is_run(Path(path)):
        raise FileNotFoundError(
            f"path: expected the folder of a run (one that holds run.json or status.json), got {path}; "
            f"{_near(Path(path))}"
        )
    return Run(Path(path))


def _near(path: Path) -> str:
    """What to do where a folder is that of no run: there may be some below it."""
    if not path.exists():
        return absent(path)
    below = (file.parent for pattern in ("*/", "*/*/", "*/*/*/") for file in path.glob(f"{pattern}status.json"))
    first = next(below, None)
    if first is None:
        return "gradflow.open_sweep finds the runs below a folder"
    return f"below it are runs, such as {first}; give one of them, or all to gradflow.open_sweep"


def absent(path: Path) -> str:
    """That there is nothing at a path, and what is meant where `DATE` was typed as it stands: the newest beside it."""
    newest, last = "", -1.0
    for folder in path.parent.glob("*/"):
        runs = (run for pattern in ("", "*/") for run in folder.glob(f"{pattern}status.json"))
        with suppress(OSError):  # it may go while one looks
            if (time := folder.stat().st_mtime) > last and next(runs, None):
                newest, last = f"; the newest runs beside it are in {folder}", time
    return f"there is nothing at that path{newest}"


@dataclass(frozen=True)
class Run:
    """A recorded run. Every access reads what the disk holds at that moment; nothing is written.

    A file of it that is damaged, not gradflow's or of a newer gradflow raises :class:`Unreadable`, a ValueError that
    names the file, wherever it is needed.
    """

    path: Path

    @property
    def meta(self) -> dict[str, Any]:
        """`run.json` without settings and columns: seed, versions, git commit, host, device, dtype, reduction, ..."""
        return {key: value for key, value in self.description.items() if key not in ("config", "columns")}

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings; of a run that failed before it recorded, those in `.hydra/config.yaml`, if any."""
        return config_in(self.description, self.path)

    @property
    def columns(self) -> dict[str, dict[str, Label]]:
        """For each table its columns with unit and long name (of one an older log lacks, those of every log)."""
        description = self.description
        return {table: columns_in([description], table) for table in TABLES}

    @property
    def status(self) -> str:
        """One of running, finished, diverged, failed, interrupted, lost.

        A run is `lost` if it says `running` but no process holds the lock of its folder any more. Where the lock
        says nothing (older logs, file systems without locks, runs on another host) it is lost if its process is gone
        from this host, or nothing was written for longer than two minutes and three flush intervals.
        """
        state = self._state.get("state", "lost")
        return "lost" if state == "running" and not self._is_alive(self._state) else state

    @property
    def error(self) -> str | None:
        """What went wrong, in one line, if anything did."""
        return self._state.get("error")

    @property
    def proof(self) -> str:
        """Whether the record is proved: "proved", "unproved" or "failed", see :func:`gradflow.runlog.proof.verdict`.

        "failed": some recorded gradients or states are not those of the training. "unproved": that was not asked of
        every layer and direction, as in any log that is older than the table `proof`, whose rows say more.
        """
        return verdict(self.table("proof"), tolerance_in(self.meta))

    @property
    def iteration(self) -> int | None:
        """The last iteration, or the one that diverged; while the run goes on, the last on disk."""
        last = self._state.get("iteration")
        if last is None:
            ends = [parts[-1].last for parts in (list_parts(self._root, table) for table in TABLES) if parts]
            last = max(ends, default=None)
        return last

    @property
    def scalars(self) -> pd.DataFrame:
        """The table `scalars`, indexed by iteration."""
        return self.frame("scalars").set_index("iteration")

    def table(self, table: str, columns: Iterable[str] | None = None, where: Any = None) -> pa.Table:
        """Rows of a table in order of iteration; only what is asked for is read.

        Args:
            table: "scalars", "time", "lag", "gates", "spectrum" or "proof".
            columns: value columns (the key columns always come along); all if not given.
            where: a `pyarrow.compute` expression over any columns of the table that rows must fulfil.

        Returns:
            A table with the types of :mod:`gradflow.runlog.schema`, without rows if none were recorded.

        Raises:
            ValueError: an unknown table or column; names near to it are listed.
            Unreadable: a part of the table is damaged.
        """
        check_name("table", table, KEYS)
        known = columns_in([self.description], table)
        schema = arrow_schema(table, known)
        check_where(where, table, schema)
        return read_parts(self._root, table, schema, select(table, columns, known), where)

    def frame(
        self, table: str, columns: Iterable[str] | None = None, where: Any = None, long: bool = False
    ) -> pd.DataFrame:
        """As :meth:`table`, in pandas.

        With `long`, one row per value: the key columns, `quantity` (its column) and `value`, as seaborn takes it.
        """
        check_flags(long=long)
        frame = to_frame(self.table(table, columns, where))
        return to_long(frame, KEYS[table]) if long else frame

    def dataset(self, table: str = "time", columns: Iterable[str] | None = None, where: Any = None) -> "xr.Dataset":
        """As :meth:`table`, as an `xarray.Dataset` whose dimensions are the table's key columns (NaN where no row is).

        Variables carry `units` and `long_name`.
        """
        return to_dataset(self.frame(table, columns, where), KEYS[table], self.columns[table])

    @property
    def description(self) -> dict[str, Any]:
        """`run.json` as it is, empty if there is none yet."""
        return read_description(self.path)

    @property
    def _state(self) -> dict[str, Any]:
        """`status.json` as it is, empty if there is none yet."""
        return read_status(self.path)

    @property
    def _root(self) -> Path:
        return self.path / "gradients"

    def _is_alive(self, status: dict[str, Any]) -> bool:
        written = [self.path / "status.json", *(self._root / table for table in TABLES)]
        return is_alive(self.path, status, written, max(120, 3 * self.meta.get("flush_seconds", 0)))


def config_in(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings in the `run.json` of the run at `path`, or, before there is one, those composed by Hydra."""
    return description.get("config", {}) if description else _composed(path / ".hydra" / "config.yaml")


def _composed(file: Path) -> dict[str, Any]:
    try:
        check_is_file(file)
        settings = yaml.safe_load(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise unreadable(file, "settings in YAML", str(error)) from error
    if not isinstance(settings, dict | NoneType):
        raise unreadable(file, "settings in YAML", type(settings).__name__)
    check_depth(file, settings or {})
    return json.loads(json.dumps(settings or {}, default=str))  # names are text and values JSON's, as in run.json


def columns_in(descriptions: Iterable[dict[str, Any]], table: str) -> dict[str, Label]:
    """The columns of a table named in any of these `run.json`; those of every log where none names the table."""
    labels: dict[str, Label] = {}
    for description in descriptions:
        if "columns" in description:
            labels |= description["columns"].labels.get(table, {})
    return labels or table_columns()[table]


def select(table: str, columns: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """The key columns of a table, then the columns that were asked for, each checked against the known ones."""
    known = list(known)
    if isinstance(columns, str):
        raise ValueError(f"columns: expected a list of names, got the text {columns!r}; write [{columns!r}]")
    wanted = known if columns is None else listed("columns", columns, "a list of names")
    if wanted is not known:
        for name in wanted:
            check_name(f"columns of table {table!r}", name, known)
    return list(dict.fromkeys([*KEYS[table], *wanted]))


def check_where(where: Any, table: str, schema: pa.Schema) -> None:
    """Raise a ValueError unless rows of a table can be chosen by it."""
    if where is None:
        return
    fits = isinstance(where, pc.Expression)
    require(fits, "where", 'a pyarrow expression, such as pyarrow.compute.field("layer") == 0', where)
    try:
        schema.empty_table().filter(where)
    except pa.ArrowException as error:
        unknown = re.match(r"No match for FieldRef\.Name\((.*?)\) in ", str(error))
        if unknown:
            check_name(f"where, columns of table {table!r}", unknown[1], schema.names)
        raise ValueError(
            f'where: expected a condition on columns of table {table!r}, such as pyarrow.compute.field("layer") == 0, '
            f"got {shown(str(where))} ({str(error).splitlines()[0]}); compare numbers with numbers, names with texts"
        ) from error


_LARGE = 1 << 20  # bytes of a table to which several threads bring something


def to_frame(rows: pa.Table) -> pd.DataFrame:
    """A pandas frame with plain strings, which, unlike categories, bring no empty groups along."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            rows = rows.set_column(place, field.name, rows.column(place).cast(field.type.value_type))
    return rows.to_pandas(use_threads=rows.nbytes > _LARGE)


def to_long(frame: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """One row per value, with the name of its column as `quantity`."""
    return frame.melt(id_vars=list(keys), var_name="quantity", value_name="value")


def to_dataset(frame: pd.DataFrame, dims: Iterable[str], labels: dict[str, Label]) -> "xr.Dataset":
    """A dataset with these dimensions; its variables carry unit and long name."""
    import xarray as xr

    dataset = xr.Dataset.from_dataframe(frame.set_index(list(dims)))
    for name, variable in dataset.data_vars.items():
        variable.attrs = {"units": labels[str(name)].unit, "long_name": labels[str(name)].long_name}
    return dataset
