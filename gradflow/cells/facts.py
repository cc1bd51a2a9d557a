"""What is known of each cell of the experiments by its name alone: every fact once, and no torch.

A new cell of the experiments is its own file beside this one, a row of `CELLS`, and its ``conf/cell/<name>.yaml``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SIGMOID_GATES = ("i", "f", "o", "r", "z")
"""Gates between 0 and 1, in torch's letters."""

KEEPING_GATES = ("f", "z")
"""Of these the ones that multiply the old state: they have a time scale, -1/ln gate."""

GATE_NAMES = {"f": "forget", "z": "update"}
"""What the settings call the gates that keep: ``init.forget_bias``, ``init.update_bias``."""

REMEMBER_BIAS = 3.0
"""Bias of the gate that keeps where the weights start to remember: the gate starts at σ(3) = 0.95."""

CANDIDATE_GATES = ("g", "n")
"""Gates that make what is new: their weights play the part of an RNN's W_hh."""


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """The facts of one cell.

    Attributes:
        layer: its layer, as "module:class", which takes indices or numbers.
        options: what the layer takes beside sizes.
        kernel: torch's layer that does the same faster where the inputs are numbers; None: there is none.
        states: names of its states.
        gates: letters in torch's order; none for h_t = φ(W_ih x_t + W_hh h_{t-1} + b).
        colour: in figures.
        marker: in figures.
        label: language -> its name in figures.
    """

    layer: str
    options: Mapping[str, str] = field(default_factory=dict)
    kernel: str | None = None
    states: tuple[str, ...] = ("h",)
    gates: tuple[str, ...] = ()
    colour: str
    marker: str
    label: Mapping[str, str]

    @property
    def sigmoid_gates(self) -> tuple[str, ...]:
        """Its gates between 0 and 1."""
        return tuple(gate for gate in self.gates if gate in SIGMOID_GATES)

    @property
    def keeping_gate(self) -> str | None:
        """The gate that multiplies the old state; None: it has none."""
        return next((gate for gate in self.gates if gate in KEEPING_GATES), None)

    @property
    def candidate_gate(self) -> str | None:
        """The gate whose weights play the part of an RNN's W_hh; None: it has one matrix only."""
        return next((gate for gate in self.gates if gate in CANDIDATE_GATES), None)


CELLS: dict[str, CellFacts] = {
    "linear": CellFacts(
        layer="gradflow.cells.layers:LinearRNN",
        colour="#000000",
        marker="s",
        label={"en": "linear RNN", "zh": "线性 RNN"},
    ),
    "rnn": CellFacts(layer="gradflow.cells.layers:RNN", colour="#D55E00", marker="o", label={"en": "RNN", "zh": "RNN"}),
    "rnn_relu": CellFacts(
        layer="gradflow.cells.layers:RNN",
        options={"nonlinearity": "relu"},
        colour="#6E6E6E",
        marker="v",
        label={"en": "ReLU RNN", "zh": "ReLU RNN"},
    ),
    "rnn_sigmoid": CellFacts(
        layer="gradflow.cells.layers:RNN",
        options={"nonlinearity": "sigmoid"},
        colour="#D55E00",
        marker="X",
        label={"en": "sigmoid RNN", "zh": "sigmoid RNN"},
    ),
    "lstm": CellFacts(
        layer="gradflow.cells.layers:LSTM",
        kernel="torch.nn:LSTM",
        states=("h", "c"),
        gates=("i", "f", "g", "o"),
        colour="#0072B2",
        marker="^",
        label={"en": "LSTM", "zh": "LSTM"},
    ),
    "gru": CellFacts(
        layer="gradflow.cells.layers:GRU",
        options={"reset": "after"},
        kernel="torch.nn:GRU",
        gates=("r", "z", "n"),
        colour="#009E73",
        marker="D",
        label={"en": "GRU", "zh": "GRU"},
    ),
    "gru_before": CellFacts(
        layer="gradflow.cells.layers:GRU",
        gates=("r", "z", "n"),
        colour="#009E73",
        marker="P",
        label={"en": "GRU (reset before)", "zh": "GRU（先重置）"},
    ),
}
"""Name -> facts, in the order in which tables and figures show them. Colours are told apart by the colour-blind; the
forms of one cell share theirs and differ in their marks."""

GATED = tuple(name for name, facts in CELLS.items() if facts.gates)
"""Cells with gates."""

WITHOUT_GATES = tuple(name for name in CELLS if name not in GATED)
"""Cells h_t = φ(W_ih x_t + W_hh h_{t-1} + b)."""


def bias_of_keeping_gate(cell: str) -> str | None:
    """The setting of `init` for the bias of a cell's gate that keeps; None: it has no such gate, or is not known.

    >>> bias_of_keeping_gate("lstm"), bias_of_keeping_gate("gru"), bias_of_keeping_gate("rnn")
    ('forget_bias', 'update_bias', None)
    """
    gate = CELLS[cell].keeping_gate if cell in CELLS else None
    return None if gate is None else f"{GATE_NAMES[gate]}_bias"
