"""The rows that one call of a recurrent layer adds to the log, beside the scalars."""

from collections.abc import Sequence
from typing import Any

from gradflow.flow.calls import plain_arithmetic
from gradflow.flow.examples import chosen
from gradflow.flow.joining import Chain
from gradflow.flow.parts import Parts
from gradflow.flow.watching import Seen
from gradflow.recording.gates import gate_columns
from gradflow.recording.measuring import by_lag, by_time, measure
from gradflow.recording.quantities import quantities_of


def state_rows(
    seen: Seen | Chain | Parts, examples: int | str, quantities: Sequence[str], log_factor: float
) -> list[tuple[str, dict[str, Any]]]:
    """Replay a call and summarise it: pairs of a table (time, lag, gates) and its columns.

    Args:
        seen: a call, with the gradients that have arrived at its outputs, and at its steps if they were read.
        examples: how many of the batch, at positions ⌊iB/n⌋, or "all".
        quantities: names; those that the layer's cell lacks are left out.
        log_factor: added to the natural logs of gradients.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    call = seen.call
    has = quantities_of(call.layer)
    with plain_arithmetic(call.device):
        for (layer, direction), unrolled, blocks, _ in seen.descend(chosen(call.batch_size, examples)):
            groups = measure(unrolled, blocks, [name for name in quantities if name in has], log_factor)
            where = {"layer": layer, "direction": direction}
            in_time = by_time(groups)
            rows.append(("time", where | in_time))
            rows.append(("lag", where | by_lag(groups, unrolled.reverse, in_time)))
            gates = gate_columns(unrolled)
            if gates:
                rows.append(("gates", where | gates))
    return rows
