"""The rows that one call of a recurrent layer adds to the log, beside the scalars."""

from collections.abc import Sequence
from typing import Any

from gradflow.flow.adjoint import descend
from gradflow.flow.calls import LayerCall, plain_arithmetic
from gradflow.flow.replay import Trace
from gradflow.recording.gates import gate_columns
from gradflow.recording.measuring import by_lag, by_time, measure
from gradflow.recording.quantities import quantities_of


def state_rows(
    call: LayerCall, examples: int | str, quantities: Sequence[str], log_factor: float
) -> list[tuple[str, dict[str, Any]]]:
    """Replay a call and summarise it: pairs of a table (time, lag, gates) and its columns.

    Args:
        call: with the gradients that have arrived at its outputs.
        examples: how many of the batch, at positions ⌊iB/n⌋, or "all".
        quantities: names; those that the layer's cell lacks are left out.
        log_factor: added to the natural logs of gradients.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    has = quantities_of(call.layer)
    batch = call.batch_size
    count = batch if examples == "all" else min(int(examples), batch)
    trace = Trace(call, None if count == batch else [i * batch // count for i in range(count)])
    with plain_arithmetic(call.finals[0].device):
        for (layer, direction), blocks in descend(trace, call.gradients):
            unrolled = trace[layer, direction]
            groups = measure(unrolled, blocks, [name for name in quantities if name in has], log_factor)
            where = {"layer": layer, "direction": direction}
            in_time = by_time(groups)
            rows.append(("time", where | in_time))
            rows.append(("lag", where | by_lag(groups, unrolled.reverse, in_time)))
            gates = gate_columns(unrolled)
            if gates:
                rows.append(("gates", where | gates))
    return rows
