"""What the straight path of the gradient through an LSTM and a residual network must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_least, named, only

TOLERANCES = {"residual": 1e-12, "lstm": 0.005, "rnn": 0.02}
"""Of a factor per step: the residual path is exact, gates spread around σ(b_f), and the RNN is mean-field theory's."""
KEPT = 0.5  # of a gradient, from which on it counts as kept
_PROTOCOL = "as torch starts them, H = 64, 19 steps back; 8 networks of 16 examples"


def residual_analogy_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the straight path is multiplied by 1, or by the forget gate, per step; and that the gates add other paths.

    Args:
        data: What :func:`gradflow.theory.additive_paths` returned.
    """
    data = data.assign(where=data["system"].str.cat(named(data, forget_bias="b_f", lag="k"), sep=", "))
    known = data[data["expected"].notna() & (data["lag"] > 0)]
    lstm = only(data, system="lstm")
    far = only(data, lag=data["lag"].max(), path="whole")
    kept = far[(far["system"] == "residual") | (far["forget_bias"] == data["forget_bias"].max())]
    return [
        at_least(
            "straight_path_keeps",
            kept.assign(measured=np.exp(kept["measured"]), expected=KEPT, tolerance=0.0),
            what="of the gradient half or more is left where a straight path is open",
            protocol=_PROTOCOL,
            **_left(data),
        ),
        agreement(
            "straight_path_remains",
            known.assign(
                measured=np.exp(known["measured"] / known["lag"]),
                expected=np.exp(known["expected"] / known["lag"]),
                tolerance=known["system"].map(TOLERANCES),
            ),
            what="factor per step: 1 (residual path), σ(b_f) (through the cells), √(E[tanh'²]/3) (RNN)",
            protocol=_PROTOCOL,
        ),
        at_least(
            "gates_add_paths",
            _excess(lstm[lstm["lag"] > 1]).assign(expected=0.0, tolerance=0.0),
            what="the whole gradient of c exceeds the product of the forget gates",
            protocol=f"LSTM {_PROTOCOL}, every lag from 2",
        ),
        agreement(
            "one_path_one_step_back",
            _excess(only(lstm, lag=1)).assign(expected=0.0, tolerance=1e-12),
            what="one step back the forget gate is all there is",
            protocol=f"LSTM {_PROTOCOL}",
        ),
    ]


def _left(data: pd.DataFrame) -> dict[str, float]:
    """What all paths leave at the last lag, and what the gates of the LSTMs leave on the straight one per step."""
    far = only(data, lag=data["lag"].max())
    whole, lag = only(far, path="whole"), float(far["lag"].iloc[0])
    straight = only(far, path="straight", system="lstm").set_index("forget_bias")["measured"]
    lstm = only(whole, system="lstm").sort_values("forget_bias")
    logs = {system: only(whole, system=system)["measured"].iloc[0] for system in ("residual", "rnn")}
    biases = {"low_bias": lstm["forget_bias"].iloc[0], "high_bias": lstm["forget_bias"].iloc[-1]}
    for end, own in {"low": lstm.iloc[0], "high": lstm.iloc[-1]}.items():
        logs |= {end: own["measured"], f"{end}_gate": straight[own["forget_bias"]] / lag}
    return {name: float(np.exp(value)) for name, value in logs.items()} | biases | {"lag": lag}


def _excess(lstm: pd.DataFrame) -> pd.DataFrame:
    """By how many nats the whole gradient exceeds the straight path, at every lag and bias."""
    keys = ["forget_bias", "lag"]
    straight = only(lstm, path="straight").set_index(keys)["measured"]
    whole = only(lstm, path="whole").set_index(keys)
    return whole.assign(measured=whole["measured"] - straight).reset_index()
