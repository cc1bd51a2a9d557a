"""A run that is asked many things at one moment: what is small of it is read once."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import pyarrow as pa

from gradflow.runlog.reader import Run, select
from gradflow.runlog.schema import Label

_SMALL = ("scalars", "proof")  # the tables that everything asks for
_LARGEST = 1 << 20  # bytes of such a table that is kept; a thousand runs fit into memory


class KeptRun(Run):
    """As :class:`Run`, but description, status, proof and small tables stay as they were when first asked for."""

    @cached_property
    def _description(self) -> dict[str, Any]:
        return super()._description

    @cached_property
    def columns(self) -> dict[str, dict[str, Label]]:
        """See :attr:`Run.columns`."""
        return super().columns

    @cached_property
    def status(self) -> str:
        """See :attr:`Run.status`."""
        return super().status

    @cached_property
    def proof(self) -> str:
        """See :attr:`Run.proof`."""
        return super().proof

    @cached_property
    def _tables(self) -> dict[str, pa.Table | None]:
        return {}

    def table(self, table: str, columns: Iterable[str] | None = None, where: Any = None) -> pa.Table:
        """See :meth:`Run.table`."""
        if where is None and table in _SMALL:
            if table not in self._tables:
                whole = super().table(table)
                self._tables[table] = whole if whole.nbytes <= _LARGEST else None
            kept = self._tables[table]
            if kept is not None:
                return kept.select(select(table, columns, self.columns[table]))
        return super().table(table, columns, where)
