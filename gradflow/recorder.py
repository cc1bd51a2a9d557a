"""`record`: watch the gradient flow of an unmodified model while it trains.

Forward hooks see the inputs and outputs of every recurrent layer, tensor hooks the gradients that autograd leaves on
its outputs; nothing is patched, and nothing computed but for a few examples of the iterations that are recorded.
"""

import logging
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from gradflow.adjoint import descend
from gradflow.cells import has_closed_form
from gradflow.clipping import Clipping, gradient_norms
from gradflow.dropout import Dropout, active_dropout
from gradflow.quantities import OPT_IN, by_lag, by_time, gate_columns, measure, quantities_of
from gradflow.recurrent import Recurrent
from gradflow.replay import SUPPORTED, LayerCall, Trace, cell_class, check_supported, plain_arithmetic, watch
from gradflow.runlog import RunWriter
from gradflow.spectrum import spectrum_columns

log = logging.getLogger(__name__)


def record(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    every: int = 10,
    examples: int = 32,
    spectrum_every: int = 100,
    reduction: str = "mean",
    quantities: Collection[str] | None = None,
    modules: Sequence[str] | None = None,
    scalars: Sequence[str] = (),
    config: dict | None = None,
    seed: int | None = None,
    about: dict | None = None,
) -> "Recorder":
    """Record the gradient flow of every recurrent layer of a model; use as a context manager.

    Args:
        model: holds torch.nn.RNN, LSTM or GRU, gradflow.LinearRNN, GRU or Recurrent (cells of your own).
        path: the run folder, made if missing.
        every: iterations between recordings of state gradients and Jacobians; the first and the last are always there.
        examples: examples of the batch that are recorded, at positions ⌊iB/n⌋.
        spectrum_every: iterations between singular values and eigenvalues of W_hh.
        reduction: of the loss over the batch: with ``"mean"`` state gradients are multiplied by the number of targets,
            so that a row is per example; ``"sum"`` leaves them.
        quantities: names of what is recorded per position; None: all that the cells have.
        modules: dotted names of the layers; None: all recurrent layers.
        scalars: names of further numbers that :meth:`Recorder.step` will be given.
        config: settings, stored beside the log.
        seed: stored beside the log.
        about: further facts to store in the log's metadata.

    Returns:
        The recorder; call its :meth:`~Recorder.step` after ``backward`` and before ``optimizer.step()``.

    Raises:
        ValueError: for a model without recurrent layers, an unknown module or quantity, or a bad schedule.
        NotImplementedError: for layers with ``proj_size``; in the forward pass, for dropout between the layers of
            torch's kernels but on a CPU.
        FileExistsError: if the folder already holds a recorded run.
    """
    for name, number in (("every", every), ("examples", examples), ("spectrum_every", spectrum_every)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction: expected "mean" or "sum", got {reduction!r}')
    layers = _recurrent_layers(model, modules)
    known = list(dict.fromkeys(name for layer in layers.values() for name in quantities_of(layer)))
    unknown = [name for name in quantities or () if name not in known]
    if unknown:
        raise ValueError(f"quantities: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    default = [name for name in known if name not in OPT_IN]
    chosen = default if quantities is None else [name for name in known if name in quantities]
    parameter = next(model.parameters())
    meta = {
        **(about or {}),
        "every": every,
        "examples": examples,
        "spectrum_every": spectrum_every,
        "reduction": reduction,
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": str(parameter.device),
        "threads": torch.get_num_threads(),
        "modules": {name: repr(layer) for name, layer in layers.items()},
        "jacobian": {
            name: "closed form" if has_closed_form(cell_class(layer)) else "automatic differentiation"
            for name, layer in layers.items()
        },
    }
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    writer = RunWriter(path, meta=meta, config=config, seed=seed, parameters=names, scalars=scalars, quantities=chosen)
    return Recorder(model, layers, writer, chosen, every, examples, spectrum_every, reduction)


def _recurrent_layers(model: nn.Module, modules: Sequence[str] | None) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, SUPPORTED)
    }
    if not found:
        raise ValueError(
            f"model: expected a recurrent layer (torch.nn.RNN, LSTM, GRU, gradflow.LinearRNN, GRU, Recurrent) in "
            f"{type(model).__name__}, found none; there would be nothing to record"
        )
    for name in modules or ():
        if name not in found:
            raise ValueError(f"modules: expected some of {', '.join(found)}, got {name!r}")
    chosen = found if modules is None else {name: found[name] for name in modules}
    for name, layer in chosen.items():
        check_supported(layer, name or type(layer).__name__)
    return chosen


class Recorder:
    """Made by :func:`record`.

    Attributes:
        iteration: number of :meth:`step` calls so far.
        path: the run folder.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        writer: RunWriter,
        quantities: list[str],
        every: int,
        examples: int,
        spectrum_every: int,
        reduction: str,
    ):
        self.iteration = 0
        self.path = writer.path
        self._layers, self._writer = layers, writer
        self._parameters = list(model.named_parameters())
        self._weights = {name: dict(layer.named_parameters()) for name, layer in layers.items()}
        self._quantities, self._every, self._examples = quantities, every, examples
        self._spectrum_every, self._reduction = spectrum_every, reduction
        self._calls: list[tuple[str, LayerCall, list[int]]] = []
        self._latest: list[tuple[str, int, LayerCall, float]] = []  # kept in case it is the last iteration
        self._hooks: list[Any] = []
        self._dropout: dict[str, Dropout | None] = {}  # of the forward pass that runs
        self._diverged_at: int | None = None
        self._listeners: list[Callable[[int, dict[str, float]], None]] = []

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            if cast(int, layer.num_layers) > 1:
                self._hooks.append(layer.register_forward_pre_hook(self._about_to_run(name)))
            self._hooks.append(layer.register_forward_hook(self._saw(name), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._calls.clear()
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        try:
            last = self.iteration - 1
            if self._writer.iteration == last:  # not so if the next step was interrupted half way
                if last % self._every:
                    self._record(last)
                if last % self._spectrum_every:
                    self._record_spectrum(last)
        finally:
            if isinstance(error, KeyboardInterrupt):
                self._writer.close("interrupted")
            elif error is not None:
                self._writer.close("failed", error=f"{type(error).__name__}: {error}")
            elif self._diverged_at is not None:
                self._writer.close("diverged", iteration=self._diverged_at)
            else:
                self._writer.close("finished")

    def _about_to_run(self, name: str) -> Any:
        def hook(layer: nn.Module, args: tuple) -> None:
            self._dropout[name] = active_dropout(layer, name)

        return hook

    def _saw(self, name: str) -> Any:
        weights = self._weights[name]

        def hook(layer: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
            if not torch.is_grad_enabled():
                return
            x = args[0] if args else kwargs["input"]
            hx = args[1] if len(args) > 1 else kwargs.get("hx")
            finals = output[1] if isinstance(output[1], tuple) else (output[1],)
            call = LayerCall(layer, x, hx, output[0], finals, dropout=self._dropout.get(name), weights=weights)
            watch(call)
            self._calls.append((name, call, _versions(weights)))

        return hook

    def step(
        self,
        loss: float | Tensor | None = None,
        clipping: Clipping | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        targets: int | None = None,
        loss_scale: float = 1.0,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """Record one iteration: after ``backward`` (and clipping), before ``optimizer.step()``.

        Args:
            loss: its value, as it was reduced.
            clipping: what gradflow's clipping returned.
            lengths: [B], where the layers took a padded tensor of ragged examples (packed ones say it themselves).
            targets: number of terms in a mean-reduced loss; the batch size if not given.
            loss_scale: factor on the loss during backward (a GradScaler's scale), divided out of state gradients.
            scalars: the further numbers declared in :func:`record`; those left out are NaN.

        Raises:
            TypeError: if `clipping` is not gradflow's.
            ValueError: if a gradient came through padding, such as that of h_n where `lengths` are given.
            RuntimeError: if no recurrent layer ran since the last call, if it ran but no gradient has come back
                (``step`` before ``backward``), or if its parameters have changed since (``step`` after
                ``optimizer.step``).
        """
        if clipping is not None and not isinstance(clipping, Clipping):
            raise TypeError(
                f"clipping: expected what gradflow.clip_grad_norm_ (or another gradflow.clip_*) returned, got "
                f"{type(clipping).__name__}; clip with gradflow, or leave clipping out"
            )
        calls = self._arrived()
        if lengths is not None:
            for _, _, call in calls:
                call.lengths = torch.as_tensor(lengths)
        iteration = self.iteration
        row = self._scalar_row(loss, clipping, scalars or {})
        self._writer.append("scalars", iteration, row)
        for listener in self._listeners:
            listener(iteration, row)
        self._latest = [
            (name, index, call, self._log_factor(call, targets) - math.log(loss_scale)) for name, index, call in calls
        ]
        if iteration % self._spectrum_every == 0:
            self._record_spectrum(iteration)
        if iteration % self._every == 0:
            self._record(iteration)
        for _, _, call, _ in self._latest:
            call.settle()
        self.iteration += 1

    def subscribe(self, callback: Callable[[int, dict[str, float]], None]) -> None:
        """Call `callback(iteration, row)` with every row of scalars from now on."""
        self._listeners.append(callback)

    def _arrived(self) -> list[tuple[str, int, LayerCall]]:
        """The calls since the last step, numbered within each module."""
        seen, self._calls = self._calls, []
        if not seen:
            raise RuntimeError(
                "step: no recurrent layer of the model ran with gradients since the last step; run the forward pass "
                "inside the `with gf.record(...)` block, outside torch.no_grad"
            )
        if not any(call.gradients for _, call, _ in seen):
            raise RuntimeError(
                "step: no gradient has arrived at any recurrent layer; call loss.backward() before recorder.step(...)"
            )
        for name, _, versions in seen:
            if _versions(self._weights[name]) != versions:
                raise RuntimeError(
                    f"step: the parameters of {name!r} changed since its forward pass; call recorder.step(...) before "
                    f"optimizer.step()"
                )
        counts: dict[str, int] = {}
        numbered = []
        for name, call, _ in seen:
            numbered.append((name, counts.get(name, 0), call))
            counts[name] = counts.get(name, 0) + 1
        return [entry for entry in numbered if entry[2].gradients]

    def _log_factor(self, call: LayerCall, targets: int | None) -> float:
        return 0.0 if self._reduction == "sum" else math.log(call.batch_size if targets is None else targets)

    def _scalar_row(
        self, loss: float | Tensor | None, clipping: Clipping | None, scalars: Mapping[str, float]
    ) -> dict[str, float]:
        row = dict(scalars)
        if loss is not None:
            row["loss"] = float(loss)
            self._note_divergence(row["loss"])
        if clipping is None:
            names = [name for name, p in self._parameters if p.grad is not None]
            after = gradient_norms(p for _, p in self._parameters)
            row |= {f"log_grad_after.{name}": _log(norm) for name, norm in zip(names, after, strict=True)}
            row["log_grad_norm_after"] = _log(math.hypot(*after))
            row["non_finite"] = not math.isfinite(row["log_grad_norm_after"]) and any(after)
        else:
            norms = zip(clipping.parameter_norms_before, clipping.parameter_norms_after, strict=True)
            found = dict(zip(clipping.parameter_ids, norms, strict=False))
            for name, parameter in self._parameters:
                if id(parameter) in found:
                    before, afterwards = found[id(parameter)]
                    row[f"log_grad_before.{name}"], row[f"log_grad_after.{name}"] = _log(before), _log(afterwards)
            row |= {
                "log_grad_norm_before": _log(clipping.norm_before),
                "log_grad_norm_after": _log(clipping.norm_after),
                "coefficient": clipping.coefficient,
                "clipped": clipping.clipped,
                "non_finite": clipping.non_finite,
            }
        return row

    def _note_divergence(self, loss: float) -> None:
        if math.isfinite(loss):
            self._diverged_at = None
        elif self._diverged_at is None:
            self._diverged_at = self.iteration

    def _record(self, iteration: int) -> None:
        for name, index, call, log_factor in self._latest:
            batch = call.batch_size
            count = min(self._examples, batch)
            chosen = None if count == batch else [i * batch // count for i in range(count)]
            with plain_arithmetic(call.finals[0].device):
                self._write(iteration, {"module": name, "call": index}, Trace(call, chosen), log_factor)

    def _write(self, iteration: int, key: dict[str, Any], trace: Trace, log_factor: float) -> None:
        for (layer, direction), blocks in descend(trace, trace.call.gradients):
            step = trace[layer, direction]
            has = quantities_of(trace.call.layer)
            names = [name for name in self._quantities if name in has]
            groups = measure(step, blocks, names, log_factor)
            where = {**key, "layer": layer, "direction": direction}
            in_time = by_time(groups)
            self._writer.append("time", iteration, where | in_time)
            self._writer.append("lag", iteration, where | by_lag(groups, step.reverse, in_time))
            gates = gate_columns(step)
            if gates:
                self._writer.append("gates", iteration, where | gates)

    def _record_spectrum(self, iteration: int) -> None:
        for name, index, call, _ in self._latest:
            if index == 0 and not isinstance(call.layer, Recurrent):
                columns: dict[str, np.ndarray | str] = {"module": name, **spectrum_columns(call.layer, call.weights)}
                self._writer.append("spectrum", iteration, columns)


def _versions(weights: Mapping[str, Tensor]) -> list[int]:
    return [weight._version for weight in weights.values()]


def _log(number: float) -> float:
    if number > 0:
        return math.log(number)
    return -math.inf if number == 0 else math.nan
