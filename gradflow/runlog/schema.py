"""The tables of a run log: their columns, in what unit, under which long name and of which type.

| table | one row per | values |
|---|---|---|
| `scalars` | iteration | loss, learning rate, declared scalars, gradient norms before and after clipping |
| `time` | iteration, module, call, layer, direction, time | statistics over the examples valid at that position |
| `lag` | iteration, module, call, layer, direction, lag | the same, aligned by each example's own end |
| `gates` | iteration, module, call, layer, direction, time, gate | activity and time scale of a gate |
| `spectrum` | iteration, module, layer, direction, gate, index | singular values and eigenvalues of W_hh |
| `proof` | iteration, module, call, layer, direction | residuals of the identities that prove the record |

A quantity of `lag` alone has a count of its own: its steps back are from something else than the end.

Types: `iteration` is int64 and the other numbered keys int32; `module` and `gate` are dictionary-encoded strings;
counts of examples are int32. Values are float64 in `scalars`, `spectrum` and `proof`, and float32 in `time`, `lag` and
`gates`: there norms are stored as natural logarithms, which float32 holds to a relative 6e-8 over the whole range of a
float64 norm. A value that was not given is NaN, a count that was not given is null.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 1
"""Rises where a column changes its meaning; one more table or column, which older readers pass over, leaves it."""


class Label(NamedTuple):
    """What a column holds: its unit ("1" if it has none, "" for a key) and its name in words."""

    unit: str
    long_name: str


class LagLabel(Label):
    """Of a quantity that the table `lag` alone has, with a count `valid` of its own: not one number per position."""


STATISTICS = {
    "mean": "mean over examples",
    "q10": "10% quantile over examples",
    "q50": "median over examples",
    "q90": "90% quantile over examples",
}
"""Taken over the finite, non-zero values of the examples: means of logarithms, not logarithms of means."""

VALID = "valid"
"""How many were counted, whatever their values."""

COUNTS = {"zeros": "examples where it is exactly zero", "non_finite": "examples where it is NaN or infinite"}

KEYS = {
    "scalars": ("iteration",),
    "time": ("iteration", "module", "call", "layer", "direction", "time"),
    "lag": ("iteration", "module", "call", "layer", "direction", "lag"),
    "gates": ("iteration", "module", "call", "layer", "direction", "time", "gate"),
    "spectrum": ("iteration", "module", "layer", "direction", "gate", "index"),
    "proof": ("iteration", "module", "call", "layer", "direction"),
}
"""The key columns of each table."""

TABLES = tuple(KEYS)

_KEY_NAMES = {
    "iteration": "optimiser update, from 0",
    "module": "dotted name of the recurrent layer in the model",
    "call": "use of the module within one forward pass, from 0",
    "layer": "layer of a stacked module, from 0",
    "direction": "0 forward, 1 reverse",
    "time": "position in the sequence, from 0",
    "lag": "recurrent steps back from the last state of its direction",
    "gate": "gate, in torch's letters",
    "index": "rank, largest first",
}

_SCALARS = {
    "loss": Label("1", "loss as it was reduced"),
    "lr": Label("1", "learning rate"),
    "log_grad_norm_before": Label("nats", "ln of the norm of all gradients before clipping"),
    "log_grad_norm_after": Label("nats", "ln of the norm of all gradients after clipping"),
    "coefficient": Label("1", "factor applied by clipping, 1 without; NaN where it is not one for all"),
    "clipped": Label("1", "1 where clipping changed the gradients, 0 where nothing did, NaN where nobody knows"),
    "clipping_reported": Label("1", "1 where the script said what was clipped; else it is told from the norms alone"),
    "non_finite": Label("1", "1 where a gradient was NaN or infinite, else 0"),
    "wall_time": Label("s", "time since recording started"),
}

_GATES = {
    "mean": Label("1", "mean of the gate over examples and units"),
    "q10": Label("1", "10% quantile of the gate"),
    "q90": Label("1", "90% quantile of the gate"),
    "saturated_low": Label("1", "share below 0.05"),
    "saturated_high": Label("1", "share above 0.95"),
    "time_scale_q50": Label("steps", "median time scale"),
    "time_scale_q90": Label("steps", "90% quantile of the time scale"),
}

_SPECTRUM = {
    "singular_value": Label("1", "singular value of the recurrent weights"),
    "eigenvalue_re": Label("1", "real part of an eigenvalue of the recurrent weights"),
    "eigenvalue_im": Label("1", "imaginary part of an eigenvalue of the recurrent weights"),
}

_PROOF = {
    "forward_residual": Label("1", "relative distance of a step of the cell from the state that was seen"),
    "backward_residual": Label("1", "relative distance of the summed gradients from that of the recurrent weights"),
    "steps_read": Label("1", "1: gradients were read from the backward pass; 0: found from those at the outputs"),
}

RESERVED = frozenset().union(_KEY_NAMES, _SCALARS, _GATES, _SPECTRUM, _PROOF, {VALID})
"""Names that every log uses for itself."""


def table_columns(
    parameters: Sequence[str] = (), scalars: Sequence[str] = (), quantities: Mapping[str, Label] | None = None
) -> dict[str, dict[str, Label]]:
    """All columns of a log, keys first, by table.

    Args:
        parameters: names of the parameters whose gradient norms are recorded.
        scalars: names of further scalars, such as `accuracy`.
        quantities: name -> unit and long name of what is recorded per position.

    Raises:
        ValueError: a scalar's name is taken, or names of quantities come alone.
    """
    own = {*RESERVED, "run", *_parameter_columns(parameters)}
    taken = [name for name in scalars if name in own]
    if taken or len(set(scalars)) < len(scalars):
        raise ValueError(
            f"scalars: expected distinct names that no log has anyway ({', '.join(_SCALARS)}, ...); got "
            f"{taken or list(scalars)}; call it otherwise"
        )
    if quantities and not isinstance(quantities, Mapping):
        raise ValueError(
            f"quantities: expected a mapping from names to units and long names, got {quantities!r}; "
            f"gradflow.recording.quantities.labels makes it of names"
        )
    in_lag = quantities or {}
    in_time = {name: label for name, label in in_lag.items() if not isinstance(label, LagLabel)}
    values = {
        "scalars": _SCALARS | {name: Label("1", name) for name in scalars} | _parameter_columns(parameters),
        "time": _position_columns(in_time),
        "lag": _position_columns(in_lag),
        "gates": _GATES,
        "spectrum": _SPECTRUM,
        "proof": _PROOF,
    }
    return {table: {key: Label("", _KEY_NAMES[key]) for key in KEYS[table]} | values[table] for table in TABLES}


def _parameter_columns(parameters: Sequence[str]) -> dict[str, Label]:
    return {
        f"log_grad_{when}.{name}": Label("nats", f"ln of the norm of the gradient of {name} {when} clipping")
        for when in ("before", "after")
        for name in parameters
    }


def _position_columns(quantities: Mapping[str, Label]) -> dict[str, Label]:
    columns = {VALID: Label("examples", "examples counted")}
    for name, label in quantities.items():
        unit, long_name = label
        if isinstance(label, LagLabel):
            columns[f"{name}_{VALID}"] = Label("1", f"{long_name}: values counted")
        columns |= {f"{name}_{key}": Label(unit, f"{long_name}: {text}") for key, text in STATISTICS.items()}
        columns |= {f"{name}_{key}": Label("examples", f"{long_name}: {text}") for key, text in COUNTS.items()}
    return columns


def column_type(table: str, name: str) -> pa.DataType:
    """The Arrow type of a column.

    >>> column_type("time", "log_state_gradient_q50"), column_type("time", "valid"), column_type("scalars", "loss")
    (DataType(float), DataType(int32), DataType(double))
    """
    if name == "iteration":
        return pa.int64()
    if name in ("module", "gate"):
        return pa.dictionary(pa.int32(), pa.string())
    counts = (VALID, *(f"_{count}" for count in COUNTS))
    if name in KEYS[table] or (table in ("time", "lag") and name.endswith(counts)):
        return pa.int32()
    return pa.float64() if table in ("scalars", "spectrum", "proof") else pa.float32()


def arrow_schema(table: str, columns: Collection[str]) -> pa.Schema:
    """The Arrow schema of a table that has these columns."""
    return _schema(table, tuple(columns))


@lru_cache(maxsize=64)
def _schema(table: str, columns: tuple[str, ...]) -> pa.Schema:
    fields = [pa.field(name, column_type(table, name)) for name in columns]
    return pa.schema(fields, metadata={"gradflow_schema": str(SCHEMA_VERSION)})
