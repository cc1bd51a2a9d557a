"""Ask a trained model: the answer for a name, what each character has to do with it, what the gates keep meanwhile."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradflow.cells.facts import CELLS, KEEPING_GATES
from gradflow.checks import check_path, listed
from gradflow.config import DataConfig
from gradflow.data import Names, Sequences, encode, load
from gradflow.flow.replay import trace
from gradflow.training.model import SequenceModel, one_hot_vectors
from gradflow.training.storage import load_run, settings_of, vocabulary_of


@dataclass(frozen=True)
class Prediction:
    """The answer for one name.

    Attributes:
        name: as it was asked.
        probabilities: label -> probability, most probable first.
        shares: (character, share) in order; the shares are not negative and sum to 1 (all 0 if no gradient arrives).
    """

    name: str
    probabilities: dict[str, float]
    shares: list[tuple[str, float]]


def predict(run_path: str | os.PathLike[str], names: Sequence[str]) -> list[Prediction]:
    """Ask the model of a finished run.

    The share of a character is the norm of the gradient of the winning score (logit) by its one-hot input, over the sum
    of these norms: how much the answer moves with that character. Scores are taken, not probabilities, whose gradients
    fade as the model gets sure.

    Args:
        run_path: a run folder that holds a saved model.
        names: names in characters that the model knows; for a roll call, names joined by its separator.

    Returns:
        One answer per name.

    Raises:
        FileNotFoundError: if the run saved no model, or one of another task than names.
        Unreadable: if a file of the run is damaged.
        ValueError: for a character that the model does not know, by name.
    """
    model, vocabulary, _ = _opened(run_path)
    names = names if isinstance(names, str) else listed("names", names, "a list of names")
    inputs, lengths = (torch.from_numpy(array) for array in encode(names, vocabulary["alphabet"]))
    answers = []
    for name, row, length in zip(names, inputs, lengths, strict=True):
        logits, shares = _explain(model, row[: int(length)])
        pairs = sorted(zip(vocabulary["classes"], logits.softmax(0).tolist(), strict=True), key=lambda pair: -pair[1])
        answers.append(Prediction(name, dict(pairs), list(zip(name, shares, strict=True))))
    return answers


def name_saliency(run_path: str | os.PathLike[str], names: Sequence[str]) -> pd.DataFrame:
    """What each character of a name does to the winning score (logit) of the model of a finished run; in float64.

    Args:
        run_path: a run folder that holds a saved model.
        names: as :func:`predict` takes them.

    Returns:
        A row per character. Columns cell, num_layers, bidirectional, source, names_per_sequence (as the run was
        trained), length (0, as in all tables of names), example (number of the name, from 0), name, position,
        character, predicted (the most probable label), probability, logit (its score), norm (‖∂logit/∂e_t‖ over all
        characters that could stand there), typical (the same as a root mean square over them), score
        (⟨∂logit/∂e_t, e_t⟩, the part of the one that does), rest (the logit of as long a sequence of zeros). A linear
        network is affine in its inputs: the scores of a name and the rest sum exactly to the logit.

    Raises:
        FileNotFoundError: if the run saved no model, or one of another task than names.
        Unreadable: if a file of the run is damaged.
        ValueError: for a character that the model does not know, by name.
    """
    model, vocabulary, same = _opened(run_path)
    rows = saliency(model, vocabulary, names)
    return rows.assign(**same)[[*same, *rows]]


def saliency(model: SequenceModel, vocabulary: Mapping[str, Any], names: Sequence[str]) -> pd.DataFrame:
    """The same of a model at hand.

    Args:
        model: a classifier of names, which becomes one of float64.
        vocabulary: its `alphabet` and `classes`, as of :meth:`gradflow.data.Names.vocabulary`.
        names: as :func:`predict` takes them.

    Returns:
        The columns of :func:`name_saliency` from `example` on.

    Raises:
        ValueError: for a character that is not in the alphabet, by name.
    """
    model = model.double()
    names = names if isinstance(names, str) else listed("names", names, "a list of names")
    inputs, lengths = (torch.from_numpy(array) for array in encode(names, vocabulary["alphabet"]))
    rows: list[dict[str, Any]] = []
    for example, (name, row, length) in enumerate(zip(names, inputs, lengths, strict=True)):
        encoded, logits, gradient = _differentiate(model, row[: int(length)])
        winner = int(logits.argmax())
        answer = {"predicted": vocabulary["classes"][winner], "probability": float(logits.softmax(0)[winner])}
        with torch.no_grad():
            answer |= {
                "logit": float(logits[winner]),
                "rest": float(model.scores(torch.zeros_like(encoded))[0, winner]),
            }
        norms, scores = gradient[:, 0].norm(dim=-1).tolist(), (gradient * encoded)[:, 0].sum(-1).tolist()
        for position, (norm, score) in enumerate(zip(norms, scores, strict=True)):
            size = {"norm": norm, "typical": norm * encoded.shape[-1] ** -0.5, "score": score}
            where = {"example": example, "name": name, "position": position, "character": name[position]}
            rows.append({**where, **answer, **size})
    return pd.DataFrame(rows)


def gate_map(run_path: str | os.PathLike[str], name: str) -> pd.DataFrame:
    """The gate that keeps (LSTM f, GRU z) of every unit while the model of a finished run reads a name; in float64.

    Args:
        run_path: a run folder that holds a saved model.
        name: one name, or a roll call; of the top layer the forward direction is asked.

    Returns:
        A row per unit and position, the units of the longest memory first. Columns cell, num_layers, bidirectional,
        source, names_per_sequence, length (as in :func:`name_saliency`), layer, direction, gate, name, rank (of the
        unit, from 0), unit, position, character, value (of the gate), time_scale (of the unit, in steps: -1 over the
        mean of ln gate over the positions; over the whole of T steps it keeps exp(-T / time_scale)).

    Raises:
        FileNotFoundError: if the run saved no model, or one of another task than names.
        Unreadable: if a file of the run is damaged.
        ValueError: for a character that the model does not know, or a cell without such a gate.
    """
    model, vocabulary, same = _opened(run_path)
    model = model.double()
    inputs = torch.from_numpy(encode([name], vocabulary["alphabet"])[0])
    layer = same["num_layers"] - 1
    with torch.no_grad():
        gates = trace(model.recurrent, model.encode(inputs.transpose(0, 1)))[layer, 0].gates
    if not set(KEEPING_GATES) & set(gates):
        keeping = [name for name, facts in CELLS.items() if facts.keeping_gate]
        raise ValueError(
            f"run: expected a model with a gate that keeps (cell={', '.join(keeping[:-1])} or {keeping[-1]}), got "
            f"cell={same['cell']}"
        )
    gate = next(gate for gate in KEEPING_GATES if gate in gates)
    values = gates[gate][:, 0].double().cpu().numpy()
    with np.errstate(divide="ignore"):
        scales = np.abs(1 / np.log(values).mean(0))
    order = np.argsort(-scales, kind="stable")
    steps, units = values.shape
    where = {"layer": layer, "direction": 0, "gate": gate, "name": name, "rank": np.repeat(np.arange(units), steps)}
    place = {"unit": np.repeat(order, steps), "position": np.tile(np.arange(steps), units)}
    shown = {"character": list(name) * units, "value": values.T[order].ravel()}
    return pd.DataFrame({**where, **place, **shown, "time_scale": np.repeat(scales[order], steps)}).assign(**same)[
        [*same, *where, *place, *shown, "time_scale"]
    ]


SLIDE = 0.979
"""Test accuracy of the lecture's classifier of Chinese names, of a test set that overlaps with its training set."""
SEXES = ["女", "男"]


def overlap(run_paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """How often the models of finished runs are right about names that they learnt from, and about others.

    The names are read or drawn anew as the runs did: all of the training set, and all of the test set, which shares
    none with it.

    Args:
        run_paths: run folders that hold a saved model of names each.

    Returns:
        Two rows per run. Columns cell, num_layers, bidirectional, source, names_per_sequence, length (as in
        :func:`name_saliency`), start (the initialisation, empty if it is torch's own), seed, quantity (`seen`,
        `unseen`), value (share of right answers), count (of names), slide (the lecture's result where the labels are
        its own, else NaN).

    Raises:
        FileNotFoundError: if a run saved no model, or one of another task than names, or the file of names is gone.
        Unreadable: if a file of a run is damaged.
        ValueError: where the names are not those that a run learnt from.
    """
    rows: list[dict[str, Any]] = []
    known: dict[str, Names] = {}
    for run_path in listed("run_paths", run_paths, "a list of folders of runs"):
        model, vocabulary, same = _opened(run_path)
        settings = settings_of(Path(run_path))
        key = repr((settings["data"], settings["seed"]))
        if key not in known:
            known[key] = _names_of(settings, vocabulary, Path(run_path))
        same |= {"start": settings["init"]["name"].replace("default", ""), "seed": settings["seed"]}
        slide = SLIDE if vocabulary["classes"] == SEXES and same["names_per_sequence"] == 1 else np.nan
        for quantity, part in (("seen", known[key].train), ("unseen", known[key].test)):
            found = {"quantity": quantity, "value": _share_right(model, part), "count": len(part), "slide": slide}
            rows.append(same | found)
    return pd.DataFrame(rows)


def _names_of(settings: dict[str, Any], vocabulary: dict[str, Any], path: Path) -> Names:
    """The names that a run learnt from and was tested on."""
    names = load(DataConfig(**settings["data"]), settings["seed"])
    assert isinstance(names, Names)
    if list(names.alphabet) != vocabulary["alphabet"] or list(names.classes) != vocabulary["classes"]:
        raise ValueError(
            f"data.path: expected the names that {path} learnt from, got others in {settings['data']['path']}; put "
            f"the file back, or train anew"
        )
    return names


@torch.no_grad()
def _share_right(model: SequenceModel, sequences: Sequences, size: int = 1000) -> float:
    """The share of sequences whose class has the largest score."""
    right = 0
    for start in range(0, len(sequences), size):
        part = slice(start, start + size)
        answers = model(torch.from_numpy(sequences.inputs[part]), torch.from_numpy(sequences.lengths[part]))
        right += int((answers.argmax(-1) == torch.from_numpy(sequences.targets[part])).sum())
    return right / len(sequences)


def _opened(run_path: str | os.PathLike[str]) -> tuple[SequenceModel, dict[str, Any], dict[str, Any]]:
    """The model of a run, its vocabulary, and what figures say of it."""
    check_path("run_path", run_path, "the folder of a finished run")
    path = Path(run_path)
    model, settings = load_run(path), settings_of(path)
    same = {"cell": settings["cell"]["name"], "length": 0}
    same |= {key: settings["cell"][key] for key in ("num_layers", "bidirectional")}
    same |= {key: settings["data"][key] for key in ("source", "names_per_sequence")}
    return model, vocabulary_of(path, model), same


def _explain(model: SequenceModel, indices: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Scores [C] of one sequence [T], and the share of each of its T positions."""
    _, logits, gradient = _differentiate(model, indices)
    norms = gradient[:, 0].double().norm(dim=-1)
    return logits, (norms / norms.sum().clamp_min(torch.finfo(torch.float64).tiny)).tolist()


def _differentiate(model: SequenceModel, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One-hot inputs [T, 1, D] of one sequence [T], scores [C], and the gradient of the largest by the inputs."""
    size, dtype = model.recurrent.input_size, model.read_out.weight.dtype
    encoded = one_hot_vectors(indices.unsqueeze(1), size, dtype).requires_grad_()
    logits = model.scores(encoded)[0]
    (gradient,) = torch.autograd.grad(logits.max(), encoded)
    return encoded.detach(), logits.detach(), gradient
