"""The rows that one call of a recurrent layer adds to the log, beside the scalars."""

from collections.abc import Sequence
from typing import Any

from gradflow.flow.adjoint import descend
from gradflow.flow.calls import chosen, plain_arithmetic
from gradflow.flow.watching import Seen
from gradflow.recording.anchored import anchored_columns
from gradflow.recording.gates import gate_columns
from gradflow.recording.measuring import by_lag, by_time, measure
from gradflow.recording.quantities import QUANTITIES, quantities_of


def state_rows(
    seen: Seen, examples: int | str, quantities: Sequence[str], log_factor: float
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
    wanted = [name for name in quantities if name in has]
    of_positions = [name for name in wanted if QUANTITIES[name].of_anchors is None]
    trace = seen.trace(chosen(call.batch_size, examples))
    with plain_arithmetic(call.finals[0].device):
        of_anchors = anchored_columns(trace, call.gradients, [name for name in wanted if name not in of_positions])
        for (layer, direction), blocks in descend(trace, call.gradients):
            unrolled = trace[layer, direction]
            groups = measure(unrolled, blocks, of_positions, log_factor)
            where = {"layer": layer, "direction": direction}
            in_time = by_time(groups)
            in_lag = by_lag(groups, unrolled.reverse, in_time) | of_anchors.get((layer, direction), {})
            rows += [(table, where | found) for table, found in (("time", in_time), ("lag", in_lag)) if found]
            gates = gate_columns(unrolled)
            if gates:
                rows.append(("gates", where | gates))
    return rows
