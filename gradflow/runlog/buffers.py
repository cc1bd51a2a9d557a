"""Rows of one table that wait in memory for the next flush."""

import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from gradflow.checks import check_name
from gradflow.runlog.schema import KEYS, arrow_schema


class ScalarBuffer:
    """Rows of the table `scalars`, one per iteration, as plain floats: cheap enough for every iteration.

    Args:
        columns: all columns of the table.
        elapsed: seconds that count as recorded already, in `wall_time`.
    """

    def __init__(self, columns: Collection[str], elapsed: float = 0.0) -> None:
        self._schema = arrow_schema("scalars", columns)
        self._values = frozenset(columns) - {"iteration"}
        self._started = time.monotonic() - elapsed
        self.clear()

    def clear(self) -> None:
        """Forget the rows."""
        self._rows: dict[int, dict[str, float]] = {}
        self.nbytes = 0

    @property
    def last(self) -> int:
        """The last iteration that rows are waiting of."""
        return next(reversed(self._rows))

    def append(self, iteration: int, row: Mapping[str, Any]) -> None:
        """Add the row of an iteration; `wall_time` is filled in."""
        if iteration in self._rows:
            raise ValueError(f"iteration: expected one row of scalars per iteration, got a second one for {iteration}")
        if not row.keys() <= self._values:
            _reject_unknown("scalars", row, self._values)
        try:
            values = {"wall_time": time.monotonic() - self._started} | {n: float(value) for n, value in row.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"rows: expected one number per scalar, got {dict(row)}; leave out what is missing"
            ) from error
        self._rows[iteration] = values
        self.nbytes += 8 * len(self._schema)

    def to_table(self) -> pa.Table:
        """The rows; NaN where a scalar was not given."""
        rows = self._rows.values()
        arrays = [pa.array([row.get(name, np.nan) for row in rows]) for name in self._schema.names[1:]]
        return pa.Table.from_arrays([pa.array(list(self._rows), pa.int64()), *arrays], schema=self._schema)


class RowBuffer:
    """Rows of any other table, in chunks of arrays."""

    def __init__(self, table: str, columns: Collection[str]) -> None:
        self._table = table
        self._schema = arrow_schema(table, columns)
        self._dtypes = {field.name: _dtype(field.type) for field in self._schema if field.name != "iteration"}
        self._keys = frozenset(KEYS[table][1:])
        self.clear()

    def clear(self) -> None:
        """Forget the rows."""
        self._iterations: list[int] = []
        self._lengths: list[int] = []
        self._chunks: list[dict[str, np.ndarray]] = []
        self.nbytes = 0

    @property
    def last(self) -> int:
        """The last iteration that rows are waiting of."""
        return self._iterations[-1]

    def append(self, iteration: int, rows: Mapping[str, Any]) -> None:
        """Add rows of an iteration: one-dimensional arrays of one length, or scalars that hold for all of them."""
        if not rows.keys() <= self._dtypes.keys():
            _reject_unknown(self._table, rows, self._dtypes)
        if not rows.keys() >= self._keys:
            missing = sorted(self._keys - rows.keys())
            raise ValueError(f"rows: expected every key column of table {self._table!r}, got none of {missing}")
        length = next((len(value) for value in rows.values() if np.ndim(value)), 1)
        with np.errstate(over="ignore"):
            chunk = {name: self._column(name, value, length) for name, value in rows.items()}
        if length:
            self._iterations.append(iteration)
            self._lengths.append(length)
            self._chunks.append(chunk)
            self.nbytes += sum(values.nbytes for values in chunk.values())

    def to_table(self) -> pa.Table:
        """The rows; NaN where a value was not given, null where a count was not."""
        iterations = pa.array(np.repeat(self._iterations, self._lengths), pa.int64())
        return pa.Table.from_arrays([iterations, *map(self._joined, self._dtypes)], schema=self._schema)

    def _column(self, name: str, value: Any, length: int) -> np.ndarray:
        if isinstance(value, np.ndarray) and value.dtype == self._dtypes[name] and value.shape == (length,):
            return value  # kept, not copied
        try:
            values = np.asarray(value).astype(self._dtypes[name], casting="same_kind")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"rows: expected {self._dtypes[name].name} values in {name!r}, got others: {error}"
            ) from error
        if values.ndim == 0:
            return np.full(length, values)
        if values.shape != (length,):
            raise ValueError(
                f"rows: expected {length} values in {name!r} as in the columns before, got shape {values.shape}"
            )
        return values

    def _joined(self, name: str) -> pa.Array:
        dtype, kind = self._dtypes[name], self._schema.field(name).type
        filler = np.array(np.nan if dtype.kind == "f" else 0, dtype)
        present = [name in chunk for chunk in self._chunks]
        chunks = (chunk.get(name) for chunk in self._chunks)
        values = np.concatenate(
            [np.broadcast_to(filler, n) if c is None else c for c, n in zip(chunks, self._lengths, strict=True)]
        )
        if pa.types.is_dictionary(kind):
            return pa.array(values, kind.value_type).dictionary_encode()
        absent = None if dtype.kind == "f" or all(present) else ~np.repeat(present, self._lengths)
        return pa.array(values, kind, mask=absent)


def _dtype(kind: pa.DataType) -> np.dtype:
    return np.dtype(str) if pa.types.is_dictionary(kind) else np.dtype(kind.to_pandas_dtype())


def _reject_unknown(table: str, rows: Mapping[str, Any], known: Collection[str]) -> None:
    """Columns are fixed when the run starts: one that came later would be dropped unseen by most Parquet readers."""
    name = next(name for name in rows if name not in known)
    try:
        check_name(f"rows of table {table!r}", name, known)
    except ValueError as error:
        way_out = "columns are fixed when recording starts: name it there (scalars=, quantities=, parameters=)"
        raise ValueError(f"{error} Otherwise, {way_out}") from None
