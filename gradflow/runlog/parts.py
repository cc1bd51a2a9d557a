"""The parts of a table: Parquet files `part-<first>-<last>.parquet` that are complete from the moment they are seen.

A part is encoded in memory, written to `.tmp/` and renamed into its table's folder. Parts hold disjoint ranges of
iterations, and a name never changes its content. Many small parts are merged in an order that can be done again from
any point: the merged file, once renamed into `.merge/<table>/`, stands for its range; then the parts it replaces are
unlinked, newest first; then it moves into the table's folder. A part that is cut short, because a run goes on from an
earlier iteration, is replaced in the same order. A reader therefore lets a file in `.merge/` hide the parts that share
iterations with it, lists twice until both listings agree, and starts again if a file vanished under its hands. It never
writes.
"""

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradflow.runlog.schema import KEYS, TABLES

_READ_ATTEMPTS = 50  # a reader starts again when a merge takes a file away; a file missing this often is an error


class Part(NamedTuple):
    """One file and the iterations it holds, both ends included."""

    first: int
    last: int
    path: Path


def list_parts(root: Path, table: str) -> list[Part]:
    """The parts that make up a table at one moment, oldest first. `root` is the folder of the tables."""
    folders = (root / ".merge" / table, root / table)
    names, before = [_listing(folder) for folder in folders], None
    while names != before:
        names, before = [_listing(folder) for folder in folders], names
    merged, parts = ([_part(folder / name) for name in listed] for folder, listed in zip(folders, names, strict=True))
    return sorted(merged + [part for part in parts if not any(_overlap(part, whole) for whole in merged)])


def has_parts(root: Path) -> bool:
    """Whether any table has a part."""
    return any(list_parts(root, table) for table in TABLES)


def read_parts(root: Path, table: str, schema: pa.Schema, columns: list[str], where: object = None) -> pa.Table:
    """The rows of a table, in the order in which they were recorded.

    Args:
        root: the folder of the tables.
        table: the table's name.
        schema: of the columns to be known; a part that lacks one gives nulls.
        columns: what to read.
        where: a `pyarrow.compute` expression that rows must fulfil.
    """
    import pyarrow.dataset as ds

    for _ in range(_READ_ATTEMPTS):
        paths = [str(part.path) for part in list_parts(root, table)]
        try:
            if paths:
                return ds.dataset(paths, schema=schema, format="parquet").to_table(columns, filter=where)
            return schema.empty_table().select(columns)
        except FileNotFoundError as error:
            missing = error
    raise missing


def write_part(root: Path, table: str, rows: pa.Table, *, durable: bool = False) -> None:
    """Write rows, in order of iteration, as a new part."""
    _place(root, table, rows, root / table, durable)


def merge_parts(root: Path, table: str, large: int, *, durable: bool = False) -> None:
    """Merge neighbouring parts below `large` bytes into parts of about that size, and finish what was begun."""
    _finish_merges(root, table)
    for group in _mergeable(list_parts(root, table), large):
        rows = pa.concat_tables(pq.ParquetFile(part.path).read() for part in group)
        name = _place(root, table, rows.unify_dictionaries(), root / ".merge" / table, durable)
        _finish_merge(root, table, name)


def trim_parts(root: Path, table: str, iteration: int, *, durable: bool = False) -> None:
    """Remove all rows from an iteration on, and finish what was begun; can be done again from any point."""
    _finish_merges(root, table)
    for part in reversed(list_parts(root, table)):
        if part.first >= iteration:
            part.path.unlink()
        elif part.last >= iteration:
            rows = pq.ParquetFile(part.path).read()
            kept = rows.slice(0, int(np.searchsorted(rows["iteration"].to_numpy(), iteration)))
            _finish_merge(root, table, _place(root, table, kept, root / ".merge" / table, durable))


def _finish_merges(root: Path, table: str) -> None:
    for name in _listing(root / ".merge" / table):
        _finish_merge(root, table, name)


def _finish_merge(root: Path, table: str, name: str) -> None:
    merged = _part(root / ".merge" / table / name)
    replaced = [_part(root / table / part) for part in _listing(root / table)]
    for part in sorted(replaced, reverse=True):
        if _overlap(part, merged):
            part.path.unlink()
    os.replace(merged.path, root / table / name)


def _mergeable(parts: list[Part], large: int) -> Iterator[list[Part]]:
    for small, run in groupby(parts, key=lambda part: part.path.stat().st_size < large):
        group: list[Part] = []
        size = 0
        for part in run if small else ():
            group.append(part)
            size += part.path.stat().st_size
            if size >= large:
                yield group
                group, size = [], 0
        if len(group) > 1:
            yield group


def _place(root: Path, table: str, rows: pa.Table, folder: Path, durable: bool) -> str:
    """Write a file to `.tmp/`, then rename it into the folder; its name."""
    first, last = rows["iteration"][0].as_py(), rows["iteration"][-1].as_py()
    name = f"part-{first:012d}-{last:012d}.parquet"
    content = _encode(table, rows)
    partial = root / ".tmp" / f"{table}-{name}"
    for place in (partial.parent, folder.parent, folder):
        place.mkdir(exist_ok=True)  # never `root`, in which the first lies: a log that is gone is not begun anew
    try:
        with open(partial, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, folder / name)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(folder)
    return name


def _encode(table: str, rows: pa.Table) -> pa.Buffer:
    """Parquet bytes: dictionaries for strings, deltas for integers, split byte streams for floats, zstd over all."""
    strings = [field.name for field in rows.schema if pa.types.is_dictionary(field.type)]
    encodings = {
        field.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(field.type) else "DELTA_BINARY_PACKED"
        for field in rows.schema
        if field.name not in strings
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=strings,
        column_encoding=encodings,
        write_statistics=list(KEYS[table]),
        row_group_size=131_072,
    )
    return sink.getvalue()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith("part-") and name.endswith(".parquet"))
    except FileNotFoundError:
        return []


def _part(path: Path) -> Part:
    _, first, last = path.stem.split("-")
    return Part(int(first), int(last), path)


def _overlap(one: Part, other: Part) -> bool:
    return one.first <= other.last and other.first <= one.last
