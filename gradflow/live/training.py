"""A training run that goes step by step, and the model that names are asked of: settings and a history in, tables out.

What a step shows follows from the cell, its start and the clipping of every step until then; the runs that were asked
for last are kept with all that they told, so that the next step of one of them costs no more than itself, and a page
that is opened again, or a second one, finds at once what is behind it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from gradflow.cells.facts import CELLS, bias_of_keeping_gate
from gradflow.checks import require
from gradflow.config import DataConfig, TrainConfig
from gradflow.data import SEPARATOR, load
from gradflow.flow.replay import trace
from gradflow.live.gradients import config_of
from gradflow.live.words import word
from gradflow.recording.start import record
from gradflow.remedies.clipping import clip_grad_norm_, measure_grad_norm
from gradflow.report.words import Text
from gradflow.runlog import open_run
from gradflow.training.loop import batches, on_device
from gradflow.training.model import SequenceModel, build_model
from gradflow.training.objective import right_answers
from gradflow.training.prediction import saliency

ITERATIONS, EVERY = 10, 5
"""Updates of a step, and between recordings."""
KEPT = 8
DATA = DataConfig(train_size=2_000, test_size=300, names_per_sequence=3)
TRAIN = TrainConfig(lr=3e-3, batch_size=64)
OTHERS = ("王伟", "李娜")
"""The names that follow the one that is asked for, as in the roll calls that the model was trained on."""
STATES = 64
"""Sequences of the test set whose hidden states are shown."""
QUANTITY = "log_relative_gradient"
GRADIENT = QUANTITY + "_q50"


class Run:
    """A classifier of roll calls, three generated names whose first is asked for, as it learns.

    Args:
        cell: of 64 units.
        start: as of :func:`gradflow.live.gradients.flow`.
    """

    def __init__(self, cell: str, start: float):
        self.cell, self.start = cell, start
        self.config = config_of(cell, start, data=DATA, train=TRAIN)
        self.names: Any = names(self.config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            task = self.names.task
            self.model = build_model(self.config, task.input_size, task.output_size)
            self._twin = build_model(self.config, task.input_size, task.output_size).double()  # which nobody watches
        self.clips: list[float | None] = []
        self.steps: list[dict[str, Any]] = []
        self.diverged = False
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=TRAIN.lr)
        self._batches, self._test = batches(self.names, self.config), on_device(self.names.test, "cpu")
        self._folder = TemporaryDirectory(prefix="gradflow-live-")
        self._recorder = record(
            self.model,
            self._folder.name + "/run",
            every=EVERY,
            spectrum_every=10**9,
            quantities=[QUANTITY],
            scalars=["accuracy"],
        )
        self._recorder.__enter__()

    def step(self, clip: float | None) -> dict[str, Any]:
        """Train some iterations and say what was recorded meanwhile, see :func:`training`."""
        first, states = self._recorder.iteration, self.states()
        if not self.diverged:
            self._train(clip)
        self.clips.append(clip)
        self.steps.append(self._told(first, states))
        return self.steps[-1]

    def _train(self, clip: float | None) -> None:
        for _ in range(ITERATIONS):
            batch = next(self._batches)
            answers = self.model(batch.inputs, batch.lengths)
            loss = F.cross_entropy(answers, batch.targets)
            self._optimizer.zero_grad()
            loss.backward()
            parameters = list(self.model.parameters())
            clipping = measure_grad_norm(parameters) if clip is None else clip_grad_norm_(parameters, clip)
            accuracy = right_answers(self.names.task, answers, batch.targets).mean().item()
            self._recorder.step(
                loss.item(),
                clipping,
                lengths=batch.ragged_lengths,
                targets=len(batch.targets),
                scalars={"accuracy": accuracy},
            )
            if not np.isfinite(loss.item()):
                self.diverged = True
                return
            self._optimizer.step()

    def _told(self, first: int, states: list[float]) -> dict[str, Any]:
        self._recorder.flush()
        run = open_run(self._recorder.path)
        scalars = run.scalars
        lag = run.frame("lag", columns=[GRADIENT])
        lag = lag[lag["iteration"] >= first]
        columns = [
            {"iteration": iteration, "values": (rows.sort_values("lag")[GRADIENT] / np.log(10)).tolist()}
            for iteration, rows in lag.groupby("iteration")
        ]
        last, own = scalars.iloc[-1], scalars.loc[min(first, len(scalars) - 1) :]
        told = {
            "iteration": len(scalars),
            "gradient": columns,
            "state": [{"iteration": column["iteration"], "values": states} for column in columns[:1]],
            "loss": float(last["loss"]),
            "accuracy": float(own["accuracy"].mean()),
            "norm": float(np.exp(last["log_grad_norm_before"])),
            "clipped": float((own["clipped"] > 0).mean()),
        }
        return told | {"headline": self._says(told), "setting": self._setting()}

    @torch.no_grad()
    def states(self) -> list[float]:
        """Root mean square of the hidden units by lag, over sequences of the test set; not those past an end."""
        inputs, lengths = self._test.inputs[:STATES], self._test.lengths[:STATES]
        model = self._asked()
        h = trace(model.recurrent, model.encode(inputs.transpose(0, 1)))[0, 0].states["h"]
        lags = lengths - 1 - torch.arange(len(h)).unsqueeze(1)
        squares = h.square().mean(-1)
        return [squares[lags == lag].mean().sqrt().item() for lag in range(int(lengths.max()))]

    def answer(self, name: str) -> dict[str, Any]:
        """What the model says of a name, see :func:`answer`."""
        unknown = sorted(set(name) - set(self.names.alphabet) | set(name) & {SEPARATOR})
        if unknown:
            characters = "".join(unknown)
            return {"bars": [], "probability": None, "headline": word("answer.unknown", characters=characters)}
        others = "".join(SEPARATOR + other for other in OTHERS)
        rows = saliency(self._asked(), self.names.vocabulary(), [name + others]).to_dict("records")
        bars = [
            {
                "place": place,
                "character": row["character"],
                "score": row["score"],
                "own": place < len(name),
            }
            for place, row in enumerate(rows)
        ]
        return {"bars": bars, "probability": rows[0]["probability"], "headline": _answers(name, rows)}

    def _asked(self) -> SequenceModel:
        """The model as it is now, in float64; what is asked of it the recorder does not see."""
        self._twin.load_state_dict(self.model.state_dict())
        return self._twin

    def close(self) -> None:
        """Ends the log, and removes it."""
        self._recorder.close()
        self._folder.cleanup()

    def _setting(self) -> Text:
        """What the run was trained with."""
        kind = bias_of_keeping_gate(self.cell) or "gain"
        return word(f"training.{kind}", cell=CELLS[self.cell].label, start=self.start)

    def _says(self, told: dict[str, Any]) -> Text:
        if self.diverged:
            return word("training.diverged", iteration=told["iteration"])
        final = told["gradient"][-1]["values"] if told["gradient"] else []
        known = [value for value in final if np.isfinite(value)]
        reached = 10.0 ** known[-1] if known else float("nan")
        return word(
            "training.clipped" if told["clipped"] else "training.says",
            iteration=told["iteration"],
            accuracy=100 * told["accuracy"],
            reached=reached,
            lag=len(known) - 1,
            clipped=100 * told["clipped"],
        )


@cache
def names(seed: int = 0) -> Any:
    """What all runs learn from; the first time it takes seconds."""
    return load(DATA, seed)


class Runs:
    """The runs that were asked for last, a few of them."""

    def __init__(self) -> None:
        self._kept: list[Run] = []

    def told(self, cell: str, start: float, clips: Sequence[float | None]) -> dict[str, Any]:
        """What the last of these steps told: at once, of a run that has been there."""
        wanted = list(clips)
        been = self._longest(cell, start, lambda run: run.clips[: len(wanted)] == wanted)
        return (been or self.at(cell, start, wanted)).steps[len(wanted) - 1]

    def at(self, cell: str, start: float, clips: Sequence[float | None]) -> Run:
        """The run with just these steps behind it: one that is on the way there goes on, else it is trained anew."""
        wanted = list(clips)
        run = self._longest(cell, start, lambda run: run.clips == wanted[: len(run.clips)]) or Run(cell, start)
        self._kept = [run, *(other for other in self._kept if other is not run)]
        for clip in wanted[len(run.clips) :]:
            run.step(clip)
        for old in self._kept[KEPT:]:
            old.close()
        self._kept = self._kept[:KEPT]
        return run

    def _longest(self, cell: str, start: float, fits: Callable[[Run], bool]) -> Run | None:
        fitting = [run for run in self._kept if (run.cell, run.start) == (cell, start) and fits(run)]
        return max(fitting, key=lambda run: len(run.clips), default=None)

    def close(self) -> None:
        """Ends all of them."""
        while self._kept:
            self._kept.pop().close()


def training(runs: Runs, cell: str, start: float, clips: Sequence[float | None]) -> dict[str, Any]:
    """The last step of a run: ten updates of Adam at rate 0.003, batches of 64, recorded at every fifth.

    Args:
        runs: those that are kept.
        cell: as of :func:`gradflow.live.gradients.flow`.
        start: the same.
        clips: the largest norm of all gradients, None for no clipping, of every step until then.

    Returns:
        `iteration`, how many updates there were; `gradient`, for each recorded iteration log₁₀ of the median of
        ‖dL/dh_{T-k}‖ / ‖dL/dh_T‖ by lag; `state`, before the step the root mean square of the hidden units by lag, on
        64 sequences of the test set; of the last iteration `loss` (nats) and `norm` (of all gradients, before
        clipping); over the step's `accuracy` on its batches and the share `clipped`; `headline` and `setting` say it.

    Raises:
        ValueError: there is no step.
    """
    require(len(clips) > 0, "clips", "one step or more", clips)
    return runs.told(cell, start, clips)


def answer(runs: Runs, cell: str, start: float, clips: Sequence[float | None], name: str) -> dict[str, Any]:
    """What the model of a run says of a name, after the steps given, and what each character does to it.

    Args:
        runs: those that are kept.
        cell: as of :func:`gradflow.live.gradients.flow`.
        start: the same.
        clips: as of :func:`training`.
        name: 1 to 12 characters; two names follow it, as in training.

    Returns:
        `bars`: the characters in order with their `score`, ⟨∂logit/∂e_t, e_t⟩ of the winning label as of
        :func:`gradflow.training.prediction.name_saliency`, and whether they are the name's `own`; `probability`;
        `headline`. A character that the model does not know is said there, and leaves no bars.
    """
    return runs.at(cell, start, clips).answer(name)


def _answers(name: str, rows: list[dict[Any, Any]]) -> Text:
    winner = rows[0]
    own = [row for row in rows if row["position"] < len(name)]
    strongest = max(own, key=lambda row: abs(row["score"]))
    total = sum(abs(row["score"]) for row in rows)
    share = 100 * sum(abs(row["score"]) for row in own) / total if total else float("nan")
    return word(
        "answer.says",
        label=winner["predicted"],
        probability=100 * winner["probability"],
        character=strongest["character"],
        score=strongest["score"],
        share=share,
    )
