"""What the straight path of the gradient through an LSTM and a residual network must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_least, named, only

TOLERANCES = {"residual": 1e-12, "lstm": 0.005, "rnn": 0.02}
"""Of a factor per step: the residual path is exact, gates spread around σ(b_f), and the RNN is mean-field theory's."""
_PROTOCOL = "as torch starts them, H = 64, 19 steps back; 8 networks of 16 examples"


def residual_analogy_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the straight path is multiplied by 1, or by the forget gate, per step; and that the gates add other paths.

    Args:
        data: What :func:`gradflow.theory.additive_paths` returned.
    """
    data = data.assign(where=data["system"].str.cat(named(data, forget_bias="b_f", lag="k"), sep=", "))
    known = data[data["expected"].notna() & (data["lag"] > 0)]
    lstm = only(data, system="lstm")
    return [
        agreement(
            "straight_path_remains",
            known.assign(
                measured=np.exp(known["measured"] / known["lag"]),
                expected=np.exp(known["expected"] / known["lag"]),
                tolerance=known["system"].map(TOLERANCES),
            ),
            what="factor per step: 1 (residual path), σ(b_f) (through the cells), √(E[tanh'²]/3) (RNN)",
            protocol=_PROTOCOL,
            **_left(data),
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
    """What is left at the last lag."""
    far = only(data, lag=data["lag"].max())
    straight = only(far, path="straight")
    lstm = only(straight, system="lstm").sort_values("forget_bias")
    (low, high) = lstm.iloc[0], lstm.iloc[-1]
    left = {
        "residual": only(straight, system="residual")["measured"].iloc[0],
        "low": low["measured"],
        "high": high["measured"],
        "rnn": only(far, system="rnn")["measured"].iloc[0],
    }
    biases = {"low_bias": low["forget_bias"], "high_bias": high["forget_bias"], "lag": float(far["lag"].iloc[0])}
    return {name: float(np.exp(value)) for name, value in left.items()} | biases


def _excess(lstm: pd.DataFrame) -> pd.DataFrame:
    """By how many nats the whole gradient exceeds the straight path, at every lag and bias."""
    keys = ["forget_bias", "lag"]
    straight = only(lstm, path="straight").set_index(keys)["measured"]
    whole = only(lstm, path="whole").set_index(keys)
    return whole.assign(measured=whole["measured"] - straight).reset_index()
