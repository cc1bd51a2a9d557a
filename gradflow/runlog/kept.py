"""A run that is asked many things at one moment: what is small of it is read once."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa

from gradflow.checks import check_flags
from gradflow.runlog.reader import Run, select, to_frame
from gradflow.runlog.schema import Label

_SMALL = ("scalars", "proof")  # the tables that everything asks for
_LARGEST = 1 << 19  # bytes of such a table that is kept, twice; a thousand runs fit into memory


class KeptRun(Run):
    """As :class:`Run`, but description, status, proof and small tables stay as they were when first asked for."""

    @cached_property
    def found(self) -> dict[Any, Any]:
        """What others found out about this run, under keys of their own, so that they need not do it again."""
        return {}

    @cached_property
    def description(self) -> dict[str, Any]:
        """See :attr:`Run.description`."""
        return super().description

    @cached_property
    def meta(self) -> dict[str, Any]:
        """See :attr:`Run.meta`."""
        return super().meta

    @cached_property
    def config(self) -> dict[str, Any]:
        """See :attr:`Run.config`."""
        return super().config

    @cached_property
    def columns(self) -> dict[str, dict[str, Label]]:
        """See :attr:`Run.columns`."""
        return super().columns

    @cached_property
    def status(self) -> str:
        """See :attr:`Run.status`."""
        return super().status

    @cached_property
    def _state(self) -> dict[str, Any]:
        return super()._state

    @cached_property
    def proof(self) -> str:
        """See :attr:`Run.proof`."""
        return super().proof

    @cached_property
    def _tables(self) -> dict[str, pa.Table | None]:
        return {}

    @cached_property
    def _frames(self) -> dict[Any, pd.DataFrame]:
        return {}

    @property
    def scalars(self) -> pd.DataFrame:
        """See :attr:`Run.scalars`."""
        if "by iteration" not in self._frames:
            whole = super().scalars
            if self._kept("scalars") is None:
                return whole
            self._frames["by iteration"] = whole
        return self._frames["by iteration"].copy(deep=False)

    def table(self, table: str, columns: Iterable[str] | None = None, where: Any = None) -> pa.Table:
        """See :meth:`Run.table`."""
        kept = self._kept(table) if where is None else None
        if kept is None:
            return super().table(table, columns, where)
        return kept.select(select(table, columns, self.columns[table]))

    def frame(
        self, table: str, columns: Iterable[str] | None = None, where: Any = None, long: bool = False
    ) -> pd.DataFrame:
        """See :meth:`Run.frame`."""
        check_flags(long=long)
        kept = self._kept(table) if where is None and not long else None
        if kept is None:
            return super().frame(table, columns, where, long)
        chosen = tuple(select(table, columns, self.columns[table]))
        if (table, chosen) not in self._frames:
            self._frames[table, chosen] = to_frame(kept.select(chosen))
        return self._frames[table, chosen].copy(deep=False)

    def _kept(self, table: str) -> pa.Table | None:
        """A table that is small enough to be kept, which it is from now on."""
        if table not in _SMALL:
            return None
        if table not in self._tables:
            whole = super().table(table)
            self._tables[table] = whole if whole.nbytes <= _LARGEST else None
        return self._tables[table]
