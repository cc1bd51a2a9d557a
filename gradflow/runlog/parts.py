"""The parts of a table: Parquet files `part-<first>-<last>.parquet` that are complete from the moment they are seen.

A part is encoded in memory, written to `.tmp/` and renamed into its table's folder. Parts hold disjoint ranges of
iterations, and a name never changes its content. Many small parts are merged in an order that can be done again from
any point: the merged file, once renamed into `.merge/<table>/`, stands for its range; then the parts it replaces are
unlinked, newest first; then it moves into the table's folder. A part that is cut short, because a run goes on from an
earlier iteration, is replaced in the same order. A reader therefore lets a file in `.merge/` hide the parts that share
iterations with it, lists twice until both listings agree, and starts again if a file vanished under its hands. It never
writes.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradflow.runlog.schema import KEYS, SCHEMA_VERSION, TABLES, column_type
from gradflow.runlog.seal import check_seal, sealed
from gradflow.runlog.unreadable import Unreadable, check_is_file, unreadable

log = logging.getLogger(__name__)

_CHECKED = {"page_checksum_verification": True}  # for the parts of older logs, which are not sealed
_LARGE = 1 << 20  # bytes of a part to which several threads bring something
_NAME = re.compile(r"part-(\d{1,18})-(\d{1,18})\.parquet")
_READ_ATTEMPTS = 50  # a reader starts again when a merge takes a file away; a file missing this often is an error


class Part(NamedTuple):
    """One file and the iterations it holds, both ends included."""

    first: int
    last: int
    path: Path


def list_parts(root: Path, table: str) -> list[Part]:
    """The parts that make up a table at one moment, oldest first. `root` is the folder of the tables.

    Raises:
        Unreadable: a name that no part has, or two parts of the same iterations.
    """
    folders = (root / ".merge" / table, root / table)
    names, before = [_listing(folder) for folder in folders], None
    while names != before:
        names, before = [_listing(folder) for folder in folders], names
    merged, parts = ([_part(folder / name) for name in listed] for folder, listed in zip(folders, names, strict=True))
    whole = sorted(merged + [part for part in parts if not any(_overlap(part, whole) for whole in merged)])
    for one, other in pairwise(whole):
        if _overlap(one, other):
            raise unreadable(other.path, f"iterations that {one.path.name} does not hold", "some that it holds as well")
    return whole


def has_parts(root: Path) -> bool:
    """Whether any table has a part."""
    return any(_listing(folder / table) for folder in (root, root / ".merge") for table in TABLES)


def read_parts(root: Path, table: str, schema: pa.Schema, columns: list[str], where: object = None) -> pa.Table:
    """The rows of a table, in the order in which they were recorded.

    Args:
        root: the folder of the tables.
        table: the table's name.
        schema: of the columns to be known; a part that lacks one gives nulls.
        columns: what to read.
        where: a `pyarrow.compute` expression that rows must fulfil.

    Raises:
        Unreadable: a part is damaged, or of other contents.
    """
    for _ in range(_READ_ATTEMPTS):
        parts = list_parts(root, table)
        try:
            for part in parts:
                check_is_file(part.path)
            if not parts:
                return schema.empty_table().select(columns)
            return _rows_of(parts, table, schema, columns, where)
        except FileNotFoundError as error:
            missing = error
        except (OSError, ValueError, pa.ArrowException):
            try:
                for part in parts:
                    _check(part, table, schema)
            except FileNotFoundError as error:
                missing = error
                continue
            raise  # it is none of the files, so it is what was asked
    raise missing


def _rows_of(parts: list[Part], table: str, schema: pa.Schema, columns: list[str], where: object) -> pa.Table:
    """The rows of all parts; a ValueError if :func:`_check` will find something."""
    contents = [part.path.read_bytes() for part in parts]
    for content in contents:
        check_seal(content)
    files = [pq.ParquetFile(pa.BufferReader(content), **_CHECKED) for content in contents]
    if where is None and all(_as_wanted(file.schema_arrow, schema, columns) for file in files):
        sizes = map(len, contents)
        read = [file.read(columns, use_threads=size > _LARGE) for file, size in zip(files, sizes, strict=True)]
        rows = pa.concat_tables(part.select(columns).replace_schema_metadata(schema.metadata) for part in read)
    else:
        rows = _cast_rows_of(parts, schema, columns, where)
    newer = any(_version(file.metadata.metadata) > SCHEMA_VERSION for file in files)
    if newer or any(rows[key].null_count for key in KEYS[table]):
        raise pa.ArrowInvalid("a part of a newer gradflow, or a row without a key")
    return rows


def _as_wanted(own: pa.Schema, schema: pa.Schema, columns: list[str]) -> bool:
    return all(name in own.names and own.field(name).type == schema.field(name).type for name in columns)


def _cast_rows_of(parts: list[Part], schema: pa.Schema, columns: list[str], where: object) -> pa.Table:
    """Rows of parts of other columns or types, or some of their rows."""
    import pyarrow.dataset as ds

    checked = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(**_CHECKED))
    return ds.dataset([str(part.path) for part in parts], schema=schema, format=checked).to_table(columns, filter=where)


def _version(metadata: dict[bytes, bytes] | None) -> int:
    """The schema version that the metadata of a part state."""
    stated = (metadata or {}).get(b"gradflow_schema", b"0")
    return int(stated) if stated.isdigit() and len(stated) < 10 else 0


def check_parts(root: Path, table: str) -> None:
    """Open every part of a table, as far as its footer, which says what it holds and where.

    Raises:
        Unreadable: one is damaged, of a newer gradflow, or of other columns.
    """
    for part in list_parts(root, table):
        _check_schema(part, table, _opened(part, lambda file: file.schema_arrow, whole=False))


def _read(part: Part) -> pa.Table:
    """All of one part as it is.

    Raises:
        Unreadable: it is damaged.
    """
    return _opened(part, pq.ParquetFile.read)


def _opened(part: Part, ask: Callable[[pq.ParquetFile], Any], *, whole: bool = True) -> Any:
    check_is_file(part.path)
    try:
        if whole:
            check_seal(part.path.read_bytes())
        with pq.ParquetFile(part.path, **_CHECKED) as file:
            return ask(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        size = part.path.stat().st_size
        got = f"{size} bytes that cannot be read as such ({error})" if size else "an empty file"
        raise unreadable(part.path, "rows in Parquet as gradflow wrote them", got) from error


def _check(part: Part, table: str, schema: pa.Schema) -> None:
    """Raise if a part is not what its name and its table say.

    Raises:
        Unreadable: it is damaged, of a newer gradflow, or of other columns or iterations.
    """
    rows = _read(part)
    _check_schema(part, table, rows.schema)
    for key in KEYS[table]:
        if rows[key].null_count:
            raise unreadable(part.path, f"a value of {key} in every row", "rows without one")
    for name in rows.column_names:
        if name in schema.names:
            try:
                rows[name].cast(schema.field(name).type)
            except pa.ArrowException as error:
                raise unreadable(part.path, f"{schema.field(name).type} as {name}", str(rows[name].type)) from error


def _check_schema(part: Part, table: str, schema: pa.Schema) -> None:
    version = _version(schema.metadata)
    if version > SCHEMA_VERSION:
        expected = f"a schema version up to {SCHEMA_VERSION}"
        raise unreadable(part.path, expected, str(version), "install a newer gradflow")
    if missing := [key for key in KEYS[table] if key not in schema.names]:
        raise unreadable(part.path, f"the column {missing[0]}", f"others ({', '.join(schema.names[:5])})")
    for key in KEYS[table]:
        found, expected = schema.field(key).type, column_type(table, key)
        if found != expected and pa.types.is_integer(found) != pa.types.is_integer(expected):
            raise unreadable(part.path, f"{expected} as {key}", str(found))


def write_part(root: Path, table: str, rows: pa.Table, *, durable: bool = False) -> None:
    """Write rows, in order of iteration, as a new part."""
    _place(root, table, rows, root / table, durable)


def merge_parts(root: Path, table: str, large: int, *, durable: bool = False) -> None:
    """Merge neighbouring parts below `large` bytes into parts of about that size, and finish what was begun."""
    _finish_merges(root, table)
    for group in _mergeable(list_parts(root, table), large):
        try:
            rows = pa.concat_tables(map(_read, group))
        except Unreadable as damage:
            log.warning("parts are left as they are, unmerged: %s", damage)
            continue
        name = _place(root, table, rows.unify_dictionaries(), root / ".merge" / table, durable)
        _finish_merge(root, table, name)


def trim_parts(root: Path, table: str, iteration: int, *, durable: bool = False) -> None:
    """Remove all rows from an iteration on, and finish what was begun; can be done again from any point."""
    _finish_merges(root, table)
    for part in reversed(list_parts(root, table)):
        if part.first >= iteration:
            part.path.unlink()
        elif part.last >= iteration:
            rows = _read(part)
            kept = rows.slice(0, int(np.searchsorted(rows["iteration"].to_numpy(), iteration)))
            _finish_merge(root, table, _place(root, table, kept, root / ".merge" / table, durable))


def _finish_merges(root: Path, table: str) -> None:
    for name in _listing(root / ".merge" / table):
        _read(_part(root / ".merge" / table / name))  # before the parts go that it stands for
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


def _encode(table: str, rows: pa.Table) -> bytes:
    """Sealed Parquet: dictionaries for strings, deltas for integers, split byte streams for floats, zstd over all."""
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
        write_page_checksum=True,
        row_group_size=131_072,
    )
    return sealed(sink.getvalue().to_pybytes())


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
    if not (match := _NAME.fullmatch(path.name)):
        raise unreadable(path, "a name like part-000000000000-000000000009.parquet", path.name)
    return Part(int(match[1]), int(match[2]), path)


def _overlap(one: Part, other: Part) -> bool:
    return one.first <= other.last and other.first <= one.last
