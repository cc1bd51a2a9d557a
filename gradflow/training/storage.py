"""A trained model on disk: what :func:`gradflow.training.loop.train` leaves beside the log, and how it comes back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as encoded

from gradflow.config import CellConfig, CellName, Config, Dtype
from gradflow.data import Dataset, Names
from gradflow.files import write_files
from gradflow.runlog.documents import read_description
from gradflow.runlog.seal import FIELD, check_weights, sealed_weights
from gradflow.runlog.unreadable import Fields, check_fields, check_is_file, read_json, unreadable
from gradflow.training.model import SequenceModel, build_model

WEIGHTS, VOCABULARY = "model.safetensors", "vocabulary.json"

_GROUPS: Fields = {"cell": (dict,), "data": (dict,), "dtype": (str,)}
_CELL: Fields = {"name": (str,), "hidden_size": (int,), "num_layers": (int,)}
_DATA: Fields = {"source": (str,), "names_per_sequence": (int,)}


def save(model: SequenceModel, dataset: Dataset, path: Path) -> None:
    """Write ``model.safetensors`` and, of a model of names, ``vocabulary.json`` into a run folder, both or none.

    Raises:
        OSError: they cannot be written.
    """
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    contents = {path / WEIGHTS: sealed_weights(encoded(weights, {FIELD: "00000000"}))}
    if isinstance(dataset, Names):
        contents[path / VOCABULARY] = json.dumps(dataset.vocabulary(), ensure_ascii=False).encode()
    write_files(contents)


def load_run(path: str | os.PathLike[str]) -> SequenceModel:
    """The trained model of a run folder, on the CPU.

    Raises:
        FileNotFoundError: the run saved no model.
        Unreadable: its weights or its `run.json` are damaged, or do not belong together.
    """
    path = Path(path)
    weights, settings = _weights(path / WEIGHTS), settings_of(path)
    file = path / "run.json"
    try:
        cell = CellConfig(**{**settings["cell"], "name": CellName(settings["cell"]["name"])})
        config = Config(cell=cell, dtype=Dtype(settings["dtype"]))
    except (ValueError, TypeError) as error:
        raise unreadable(file, "the settings of a cell that gradflow knows", str(error)) from error
    _check_size(path / WEIGHTS, weights, cell)
    input_size, outputs = weights["recurrent.weight_ih_l0"].shape[1], len(weights["read_out.weight"])
    model = build_model(config, input_size, outputs, read_description(path).get("answers") == "everywhere")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise unreadable(path / WEIGHTS, f"the weights of the model in {file}", str(error)) from error
    return model.eval()


def settings_of(path: Path) -> dict[str, Any]:
    """The settings that a model was trained with, those that say what it is.

    Raises:
        Unreadable: one is missing, or of another type.
    """
    file = path / "run.json"
    settings = read_description(path).get("config", {})
    for group, fields in {"": _GROUPS, "cell": _CELL, "data": _DATA}.items():
        own = settings[group] if group else settings
        where = f"config.{group}." if group else "config."
        if missing := [name for name in fields if name not in own]:
            raise unreadable(file, f"{where}{missing[0]}, as of a run of `gradflow train`", "nothing")
        check_fields(file, own, fields, where)
    both = settings["cell"].get("bidirectional")
    if not isinstance(both, bool):
        raise unreadable(file, "true or false as config.cell.bidirectional", repr(both))
    return settings


def vocabulary_of(path: Path, model: SequenceModel) -> dict[str, Any]:
    """The characters and labels of a model of names, as :meth:`gradflow.data.Names.vocabulary` gives them.

    Raises:
        FileNotFoundError: the run is none of names.
        Unreadable: they are damaged, or not as many as the model has.
    """
    file = path / VOCABULARY
    if not file.exists():
        raise FileNotFoundError(
            f"run: expected the folder of a model of names, which has a vocabulary.json, got {path}; train one with "
            f"`gradflow train data=generated`"
        )
    vocabulary = read_json(file)
    for name in ("alphabet", "classes"):
        words = vocabulary.get(name)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise unreadable(file, f"a list of texts as {name}", "something else")
    if any(len(character) != 1 for character in vocabulary["alphabet"]):
        raise unreadable(file, "single characters in alphabet", "others")
    sizes = len(vocabulary["alphabet"]), len(vocabulary["classes"])
    own = model.recurrent.input_size, model.read_out.out_features
    if sizes != own:
        raise unreadable(file, "{} characters and {} labels, as the model has".format(*own), "{} and {}".format(*sizes))
    return vocabulary


def _weights(file: Path) -> Mapping[str, torch.Tensor]:
    try:
        check_is_file(file)
        content = file.read_bytes()
        check_weights(content)
        return load(content)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"path: expected the folder of a finished run with {WEIGHTS}, got {file.parent}; "
            f"train one with `gradflow train`"
        ) from None
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable(file, "weights in safetensors", str(error)) from error


def _check_size(file: Path, weights: Mapping[str, torch.Tensor], cell: CellConfig) -> None:
    """Raise before a model is built that would not fit, however large.

    Raises:
        Unreadable: the weights are of another number of layers or units, or none of a model.
    """
    for name in ("recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "read_out.weight"):
        if name not in weights or weights[name].dim() != 2:
            raise unreadable(file, f"the matrix {name}", "none")
    layers = sum(name.startswith("recurrent.weight_hh_l") and "reverse" not in name for name in weights)
    found = layers, weights["recurrent.weight_hh_l0"].shape[1]
    if found != (cell.num_layers, cell.hidden_size):
        expected = f"{cell.num_layers} layers of {cell.hidden_size} units, as run.json says"
        raise unreadable(file, expected, "{} of {}".format(*found))
