"""Runs whose numbers are known beforehand, written with the real log writer."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gradflow.config import CellConfig, ClipConfig, Config, DataConfig, InitConfig
from gradflow.runlog import RunWriter

QUANTITIES = ["log_state_gradient", "log_relative_gradient"]
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


def config_of(
    cell: str = "rnn", init: str = "default", clip: str = "none", seed: int = 0, names: int = 1, **more
) -> Config:
    return Config(
        cell=CellConfig(name=cell, hidden_size=16),
        init=InitConfig(name=init, **more),
        clip=ClipConfig(name=clip),
        data=DataConfig(names_per_sequence=names),
        seed=seed,
    )


def write_run(path: Path, config: Config, planted: Planted) -> Path:
    meta = {"chance": 0.5, "classes": ["女", "男"]}
    scalars = ["accuracy", "test_accuracy", "test_loss"]
    quantities = QUANTITIES + ["log_joint_gradient"] * (config.cell.name == "lstm")
    writer = RunWriter(path, meta=meta, config=asdict(config), seed=config.seed, scalars=scalars, quantities=quantities)
    random = np.random.default_rng(sum(map(ord, config.cell.name)))
    for iteration in range(planted.iterations):
        last = iteration == planted.iterations - 1
        writer.append("scalars", iteration, scalar_row(config, planted, iteration, random))
        if iteration % 10 == 0 or last:
            writer.append("lag", iteration, lag_rows(config, planted))
        if iteration % 20 == 0 or last:
            for gate in {"lstm": "ifgo", "gru": "rzn"}.get(config.cell.name, "h"):
                writer.append("spectrum", iteration, spectrum_rows(gate, planted, iteration))
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


def spectrum_rows(gate: str, planted: Planted, iteration: int) -> dict[str, object]:
    """Singular values from 1.1 down to 0.01 at first, the largest growing by 1 % per iteration."""
    values = np.linspace(1.1, 0.01, planted.hidden_size)
    values[0] *= 1 + 0.01 * iteration
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
