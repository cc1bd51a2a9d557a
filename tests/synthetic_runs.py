"""Runs whose numbers are known beforehand, written with the real log writer."""

import atexit
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gradflow.config import CellConfig, ClipConfig, Config, DataConfig, InitConfig
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

QUANTITIES = ["log_state_gradient", "log_relative_gradient"]
OF_ALL = ["log_weight_gradient", "weight_gradient_share", "log_direct_gradient"]
OF_SPECTRA = ["log_jacobian_spectral"]
OF_ANCHORS = ["log_anchored_gradient"]
OF_CELLS = ["log_joint_gradient", "log_cell_gradient", "log_cell_path"]
GATES = {"lstm": "ifgo", "gru": "rzn", "gru_before": "rzn"}
FACTORS = {
    ("linear", "default"): 0.55,
    ("rnn", "default"): 0.57,
    ("lstm", "default"): 0.64,
    ("gru", "default"): 0.63,
    ("linear", "remember"): 1.0,
    ("rnn", "remember"): 0.9,
    ("lstm", "remember"): 1.015,
    ("gru", "remember"): 0.95,
}


@dataclass(frozen=True)
class Planted:
    """What a synthetic run shows."""

    factor: float = 0.57
    steps: int = 30
    iterations: int = 60
    examples: int = 32
    final_loss: float = 0.1
    accuracy: float = 0.93
    threshold: float = 1.0
    spike: float = 30.0
    hidden_size: int = 16
    state: str = "finished"
    anchored: float | None = None  # factor of the loss at single positions, recorded with the spectra
    residual: float | None = None  # of both identities of its proof; without one nothing is asked


def config_of(
    cell: str = "rnn",
    init: str = "default",
    clip: str = "none",
    seed: int = 0,
    names: int = 1,
    layers: int = 1,
    bidirectional: bool = False,
    **more,
) -> Config:
    return Config(
        cell=CellConfig(name=cell, hidden_size=16, num_layers=layers, bidirectional=bidirectional),
        init=InitConfig(name=init, **more),
        clip=ClipConfig(name=clip),
        data=DataConfig(names_per_sequence=names),
        seed=seed,
    )


_KEPT = TemporaryDirectory(prefix="synthetic_runs")
atexit.register(_KEPT.cleanup)
_WRITTEN: dict[str, Path] = {}


def write_run(path: Path, config: Config, planted: Planted) -> Path:
    """Writes a run, or copies the files of the same one that was written before."""
    key = repr((config, planted))
    if key not in _WRITTEN:
        _WRITTEN[key] = _write(Path(_KEPT.name, str(len(_WRITTEN))), config, planted)
    return Path(shutil.copytree(_WRITTEN[key], path, dirs_exist_ok=True))


def _write(path: Path, config: Config, planted: Planted) -> Path:
    meta = {"chance": 0.5, "classes": ["女", "男"], "proof_tolerance": 1e-4}
    scalars = ["accuracy", "test_accuracy", "test_loss"]
    quantities = QUANTITIES + OF_ALL + OF_SPECTRA + OF_CELLS * (config.cell.name == "lstm")
    quantities += OF_ANCHORS * (planted.anchored is not None)
    writer = RunWriter(
        path, meta=meta, config=asdict(config), seed=config.seed, scalars=scalars, quantities=labels(quantities)
    )
    random = np.random.default_rng(sum(map(ord, config.cell.name)))
    for iteration in range(planted.iterations):
        last = iteration == planted.iterations - 1
        spectra = iteration % 20 == 0 or last
        writer.append("scalars", iteration, scalar_row(config, planted, iteration, random))
        for place in places(config):
            if planted.residual is not None and iteration % 20 == 0:
                proof = {"forward_residual": planted.residual, "backward_residual": planted.residual}
                writer.append("proof", iteration, {"module": "recurrent", "call": 0} | proof | place)
            if iteration % 10 == 0 or last:
                rows = lag_rows(config, planted) | weight_rows(planted) | cell_rows(config, planted)
                rows |= jacobian_rows(planted, iteration) if spectra else {}
                rows = deeper(rows, config, planted, place["layer"]) | place
                writer.append("lag", iteration, rows | (anchored_rows(planted) if spectra else {}))
                writer.append("time", iteration, in_time(rows))
                for gate in GATES.get(config.cell.name, ""):
                    writer.append("gates", iteration, gate_rows(gate, config, planted, iteration) | place)
            if spectra:
                for gate in GATES.get(config.cell.name, "h"):
                    writer.append("spectrum", iteration, spectrum_rows(gate, planted, iteration) | place)
    writer.close(planted.state)
    return path


def scalar_row(config: Config, planted: Planted, iteration: int, random: np.random.Generator) -> dict[str, float]:
    share = iteration / max(planted.iterations - 1, 1)
    norm = 0.5 * np.exp(0.3 * random.standard_normal()) + planted.spike * (iteration % 25 == 24)
    coefficient = min(1.0, planted.threshold / (norm + 1e-6)) if config.clip.name != "none" else 1.0
    row = {"loss": np.log(2) * (1 - share) + planted.final_loss * share + 0.02 * random.standard_normal()}
    row |= {"log_grad_norm_after": np.log(norm * coefficient), "non_finite": 0}
    if config.clip.name != "none":
        row |= {"log_grad_norm_before": np.log(norm), "coefficient": coefficient, "clipped": coefficient < 1}
    if iteration == planted.iterations - 1:
        row |= {"test_accuracy": planted.accuracy, "test_loss": planted.final_loss}
    return row


def lag_rows(config: Config, planted: Planted) -> dict[str, object]:
    """Exact exponential decay from a last gradient of 0.01, ±0.5 nats for the quantiles."""
    lag = np.arange(planted.steps)
    relative = lag * np.log(planted.factor)
    rows: dict[str, object] = {"module": "recurrent", "call": 0, "layer": 0, "direction": 0, "lag": lag}
    rows["valid"] = np.full(planted.steps, planted.examples)
    values = {"log_relative_gradient": relative, "log_state_gradient": relative + np.log(0.01)}
    if config.cell.name == "lstm":
        values["log_joint_gradient"] = values["log_state_gradient"]
        values["log_state_gradient"] = values["log_state_gradient"] - 0.1 * lag  # h alone fades faster than (h, c)
    for name, value in values.items():
        for statistic, offset in (("mean", 0), ("q10", -0.5), ("q50", 0), ("q90", 0.5)):
            rows[f"{name}_{statistic}"] = value + offset * (lag > 0)
        rows[f"{name}_zeros"] = rows[f"{name}_non_finite"] = 0
    return rows


def places(config: Config) -> list[dict[str, int]]:
    directions = (0, 1) if config.cell.bidirectional else (0,)
    return [{"layer": i, "direction": d} for i in range(config.cell.num_layers) for d in directions]


def statistics(name: str, value: np.ndarray, zero: np.ndarray, planted: Planted) -> dict[str, object]:
    """One value of all examples; nothing but zeros where it is zero."""
    values = {f"{name}_{statistic}": np.where(zero, np.nan, value) for statistic in ("mean", "q10", "q50", "q90")}
    return values | {f"{name}_zeros": np.where(zero, planted.examples, 0), f"{name}_non_finite": 0}


def weight_rows(planted: Planted) -> dict[str, object]:
    """Shares of dL/dW_hh that fade as the gradient does, none of the first step; and a loss at the last step alone."""
    lag = np.arange(planted.steps)
    terms = np.where(lag < planted.steps - 1, planted.factor ** lag.astype(float), 0)
    with np.errstate(divide="ignore"):
        rows = statistics("log_weight_gradient", np.log(terms), terms == 0, planted)
    rows |= statistics("log_direct_gradient", np.full(len(lag), np.log(0.01)), lag > 0, planted)
    return rows | statistics("weight_gradient_share", terms.cumsum() / terms.sum(), np.zeros(len(lag), bool), planted)


def anchored_rows(planted: Planted) -> dict[str, object]:
    """Of 16 pairs of an example and a position, and of 4 in the last two steps."""
    if planted.anchored is None:
        return {}
    lag = np.arange(planted.steps)
    rows = statistics(OF_ANCHORS[0], lag * np.log(planted.anchored), np.zeros(len(lag), bool), planted)
    return rows | {f"{OF_ANCHORS[0]}_valid": np.where(lag < planted.steps - 2, 16, 4)}


def keep_bias_of(config: Config) -> float:
    given = config.init.forget_bias if config.cell.name == "lstm" else config.init.update_bias
    return given if given is not None else 3.0 if config.init.name == "remember" else 0.0


def cell_rows(config: Config, planted: Planted) -> dict[str, object]:
    """Of an LSTM: the path as the forget gates say; the cell's gradient leaves it one step back, fading as the rest."""
    if config.cell.name != "lstm":
        return {}
    lag = np.arange(planted.steps)
    log_gate = -np.log1p(np.exp(-keep_bias_of(config)))
    path = np.log(0.01) + lag * log_gate
    cell = np.log(0.01) + log_gate + (lag - 1) * np.log(planted.factor)
    never = np.zeros(len(lag), bool)
    return statistics("log_cell_path", path, never, planted) | statistics("log_cell_gradient", cell, lag == 0, planted)


def gate_rows(gate: str, config: Config, planted: Planted, iteration: int) -> dict[str, object]:
    """A time scale as the bias of the gate says, two thirds and one and a half of it; training makes it up to twice."""
    scale = (1 + iteration / max(planted.iterations - 1, 1)) / np.log1p(np.exp(-keep_bias_of(config)))
    low, high = np.exp(-1.5 / scale), np.exp(-1 / (1.5 * scale))
    times = {"time_scale_q50": scale, "time_scale_q90": 1.5 * scale} if gate in "fz" else {}
    rows = {"module": "recurrent", "call": 0, "time": np.arange(planted.steps), "gate": gate, **times}
    return rows | {"mean": np.exp(-1 / scale), "q10": low, "q90": high, "saturated_low": 0.0, "saturated_high": 0.0}


def deeper(rows: dict[str, object], config: Config, planted: Planted, layer: int) -> dict[str, object]:
    """Every layer below the top has the gradient of the state multiplied once more by the factor."""
    shift = (config.cell.num_layers - 1 - layer) * np.log(planted.factor)
    moved = {f"log_state_gradient_{statistic}" for statistic in ("mean", "q10", "q50", "q90")}
    return {name: value + shift if name in moved else value for name, value in rows.items()}


def in_time(rows: dict[str, object]) -> dict[str, object]:
    """The rows of a direction by position: forward the last is lag 0, in reverse the first."""
    if rows["direction"] == 0:
        rows = {name: value[::-1] if isinstance(value, np.ndarray) else value for name, value in rows.items()}
    times = np.arange(len(rows["lag"]))
    return {name: value for name, value in rows.items() if name != "lag"} | {"time": times}


def largest_singular_value(iteration: int) -> float:
    """Of the recurrent weights: 1.1 at first, growing by 1 % per iteration."""
    return 1.1 * (1 + 0.01 * iteration)


def jacobian_rows(planted: Planted, iteration: int) -> dict[str, object]:
    """Largest singular values of the Jacobian: that of the weights at the last step, half of it at the first."""
    norms = largest_singular_value(iteration) * np.linspace(1, 0.5, planted.steps)
    return statistics("log_jacobian_spectral", np.log(norms), np.zeros(planted.steps, bool), planted)


def spectrum_rows(gate: str, planted: Planted, iteration: int) -> dict[str, object]:
    """Singular values from 1.1 down to 0.01, of which the largest grows."""
    values = np.linspace(1.1, 0.01, planted.hidden_size)
    values[0] = largest_singular_value(iteration)
    rows = {"module": "recurrent", "layer": 0, "direction": 0, "gate": gate, "index": np.arange(planted.hidden_size)}
    return rows | {"singular_value": values, "eigenvalue_re": 0.6 * values, "eigenvalue_im": 0.0 * values}


def write_sweep(
    path: Path, *, inits: tuple[str, ...] = ("default",), names: int = 1, steps: int = 30, **changes
) -> Path:
    """4 cells x initialisations x {no clipping, clipping by norm}; default runs of a roll call stay at chance."""
    for (cell, init), factor in FACTORS.items():
        for clip in ("none", "norm"):
            if init in inits:
                stuck = names > 1 and init == "default"
                results = {"final_loss": 0.69, "accuracy": 0.51} if stuck else {}
                planted = Planted(**{"factor": factor, "steps": steps, **results, **changes})
                folder = path / f"cell={cell},clip={clip},init={init},names={names}"
                write_run(folder, config_of(cell, init, clip, names=names), planted)
    return path
