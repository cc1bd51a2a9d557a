"""The rows that one call of a recurrent layer adds to the log, beside the scalars."""

from collections.abc import Sequence
from typing import Any

from gradflow.flow.adjoint import kept
from gradflow.flow.anchors import StepsFromAnchors
from gradflow.flow.calls import plain_arithmetic
from gradflow.flow.examples import chosen
from gradflow.flow.joining import Chain
from gradflow.flow.parts import Parts
from gradflow.flow.recursion import Block
from gradflow.flow.seen import Seen
from gradflow.recording.anchored import anchored_columns, columns_of
from gradflow.recording.gates import gate_columns
from gradflow.recording.measuring import by_lag, by_time, measure
from gradflow.recording.quantities import QUANTITIES, quantities_of


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
    wanted = [name for name in quantities if name in has]
    of_positions = [name for name in wanted if QUANTITIES[name].of_anchors is None]
    of_anchors = [name for name in wanted if name not in of_positions]
    with plain_arithmetic(call.device):
        picked = chosen(call.batch_size, examples)
        trace = seen.trace(picked) if isinstance(seen, Seen) else None
        anchored = {} if trace is None else anchored_columns(trace, call.gradients, of_anchors)
        descent = seen.through(trace) if isinstance(seen, Seen) and trace is not None else seen.descend(picked)
        of_steps, of_top = StepsFromAnchors(), list[Block]()
        for (layer, direction), unrolled, blocks, _ in descent:
            steps_only = trace is None and bool(of_anchors)
            groups = measure(unrolled, kept(blocks, of_top, keep=steps_only and not rows), of_positions, log_factor)
            found = of_steps.down(unrolled, of_top) if steps_only else None
            if found is not None and of_steps.anchors is not None:
                anchored[layer, direction] = columns_of(*found, of_anchors, of_steps.anchors, reverse=False)
            where = {"layer": layer, "direction": direction}
            in_time = by_time(groups)
            in_lag = by_lag(groups, unrolled.reverse, in_time) | anchored.get((layer, direction), {})
            rows += [(table, where | part) for table, part in (("time", in_time), ("lag", in_lag)) if part]
            gates = gate_columns(unrolled)
            if gates:
                rows.append(("gates", where | gates))
    return rows
