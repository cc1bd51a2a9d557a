"""`record`: watch the gradient flow of an unmodified model while it trains.

Forward hooks see the inputs and outputs of every recurrent layer, hooks in the autograd graph the gradients that arrive
there; nothing is patched, and nothing computed but for a few examples of the iterations that are recorded.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradflow.cells.cell import has_closed_form
from gradflow.checks import check_path, listed, require, shown, whole_number
from gradflow.flow.calls import cell_class
from gradflow.flow.finding import recurrent_layers, unwrapped
from gradflow.flow.proof import TOLERANCE
from gradflow.flow.stepping import Marked
from gradflow.flow.watching import Watcher
from gradflow.recording.arguments import (
    facts,
    names,
    one_module,
)
from gradflow.recording.ending import recorder_of
from gradflow.recording.last_backward import LastBackward
from gradflow.recording.probe import probe_runner
from gradflow.recording.quantities import QUANTITIES, labels, quantities_of
from gradflow.recording.recorder import Recorder
from gradflow.recording.scalars import ScalarRows
from gradflow.recording.schedule import Schedule
from gradflow.recording.updates import named_optimizers
from gradflow.runlog import RunWriter


def record(
    model: nn.Module | Mapping[str, nn.Module],
    path: str | os.PathLike[str],
    *,
    optimizer: Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer] | None = None,
    every: int | Sequence[int] = 10,
    examples: int | str = 32,
    spectrum_every: int | Sequence[int] = 100,
    reduction: str = "mean",
    probe: tuple | None = None,
    criterion: Callable[[Any, Any], Tensor] | None = None,
    quantities: Collection[str] | None = None,
    modules: Sequence[str] | None = None,
    states: Sequence[str] = (),
    scalars: Sequence[str] = (),
    config: dict | None = None,
    seed: int | None = None,
    about: dict | None = None,
    resume: int | bool = False,
) -> Recorder:
    """Record the gradient flow of every recurrent layer of a model.

    With `optimizer` one line is enough: every ``optimizer.step()`` records an iteration, and the log ends with the
    program, as `finished`, or `failed` or `interrupted` by the exception that ended it (of those that somebody caught,
    and of ``sys.exit``, nobody tells); with :meth:`Recorder.close`; or when model and optimiser are no longer there.
    Without it, use the recorder as a context manager and call its :meth:`~Recorder.step`.

    Training is not to suffer from being watched. What is wrong in a call (of this function, `step`, `log`) is refused
    there, before anything is written or counted; a model that cannot be recorded, in its first forward pass. What
    recording meets later (numbers that no decomposition takes, no memory, a full disk, a folder that is gone, a layer
    that was replaced) never raises: that part of the log is left out, which is said once and stands in ``run.error``; a
    disk that stays full ends the log as `failed`, and ``recorder.error`` says why. Between the two lies a script in
    the wrong order (no backward pass, an update, a tensor changed in place since): an error of `step`, and with
    `optimizer`, where nobody calls it, a warning.

    Args:
        model: holds torch.nn.RNN, LSTM or GRU, gradflow's own layers, or Recurrent (cells of your own), or cells that
            are called in a loop (torch.nn.RNNCell, LSTMCell, GRUCell, gradflow.Cell), or marks its states; several
            models as a dictionary, whose keys begin the names of their layers. DistributedDataParallel and
            torch.compile are looked through, and their prefixes left out of the names. Of several processes, let one
            record.
        path: the run folder, made if missing.
        optimizer: of torch, or several in a list or by name. The row of an update holds what the last backward pass
            before it brought; with a closure, its first evaluation and the loss that it returned. Of several, a step
            without a backward pass since the last row makes no row; the scalar `optimizer` says whose step made it (the
            place in ``run.meta["optimizers"]``), and norms are of the gradients that arrived since the last row. A step
            that a GradScaler skips is no update. The loss and what else :meth:`Recorder.step` takes:
            :meth:`Recorder.log`.
        every: iterations between recordings of state gradients and Jacobians, or rising iterations, such as those of
            :func:`gradflow.log_spaced`; the first is always there, and the last but of what the script steps itself.
        examples: examples of the batch that are recorded, at positions ⌊iB/n⌋, or ``"all"``.
        spectrum_every: the same as `every` for singular values and eigenvalues of W_hh, and the proof. They take time
            as H³, each gate of 1,024 units about a second.
        reduction: of the loss over the batch: with ``"mean"`` state gradients are multiplied by the number of targets,
            so that a row is per example; ``"sum"`` leaves them.
        probe: a fixed batch ``(x, y)`` that is recorded instead of the training batches (the scalars stay those of
            training), so that drift is not mixed with noise: when an iteration is due, the loss is
            ``criterion(model(x), y)`` (``model(*x)`` if x is a tuple), in the mode that the model is in and with
            dropout from a fixed seed. ``(x, y, lengths, targets)`` say what :meth:`Recorder.step` says for training.
        criterion: the loss function for `probe`.
        quantities: names of what is recorded per position; None: all that the cells have, but for
            ``log_product_spectral``. Costly ones are taken of a few of the examples whatever `examples` says:
            ``log_jacobian_spectral`` of 4, ``log_product_spectral`` of 2, ``log_anchored_gradient`` of 4, at 4 steps of
            the loss in each where it reads many, ``log_jacobian_frobenius`` of 4 where it needs the dense matrix (the
            original GRU, cells without closed form). ``log_jacobian_spectral`` and ``log_anchored_gradient`` are
            taken at the first recording and once for each `spectrum_every`, not at the other recordings.
        modules: dotted names of the layers and cells; None: all of them.
        states: names of the states that a step of your own marks in its loop, see :func:`gradflow.mark`.
        scalars: names of further numbers that :meth:`Recorder.step` will be given; not those that logs have anyway.
        config: settings, stored beside the log: a dictionary with names that are text.
        seed: stored beside the log.
        about: the same, further facts for the log's metadata.
        resume: continue the run in `path`: the number of updates that the loaded checkpoint has behind it (the log
            drops what it holds from there on), or True to go on after the last iteration in the log. Recording options
            must be the same; a recorder with `optimizer` that is still at work there is closed. With 0 or True a folder
            without a run starts a new one, so that a script can be run again as it is.

    Returns:
        The recorder; without `optimizer`, call its :meth:`~Recorder.step` after ``backward`` and before
        ``optimizer.step()``.

    Raises:
        TypeError: if `model` or `optimizer` is none of torch's, `path` is none, or `config` or `about` no dictionary.
        ValueError: for a model without recurrent layers, an unknown module or quantity, a scalar that every log has, a
            bad schedule, a probe without criterion, or a resumed run that was recorded with other options.
        NotImplementedError: for layers with ``proj_size``, for parametrized cells, and for torch.nn.DataParallel on
            several devices; in the forward pass, for dropout between the layers of torch's kernels but on a CPU.
        FileExistsError: if the folder already holds a recorded run, or another recorder, of this process or another,
            records into it.
        FileNotFoundError: if there is no run to be resumed at that iteration.
    """
    model = one_module(model)
    check_path("path", path, 'the folder of a run, such as "outputs/my-run"')
    optimizers = {} if optimizer is None else named_optimizers(optimizer)
    when, when_spectrum = Schedule("every", every), Schedule("spectrum_every", spectrum_every)
    if examples != "all":
        examples = whole_number("examples", examples, 1, or_else=' or "all"')
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(f'reduction: expected "mean" or "sum", got {shown(reduction)}')
    if seed is not None:
        seed = whole_number("seed", seed, 0, or_else=" or None")
    expected = "the number of updates behind the checkpoint, or True for all in the log"
    require(isinstance(resume, int) and resume >= 0, "resume", expected, resume)
    config, about = facts("config", config), facts("about", about)
    modules = modules if modules is None or isinstance(modules, str) else listed("modules", modules, "a list of names")
    marks = names("states", states)
    layers = recurrent_layers(model, modules, cells=True, or_none=bool(marks))
    for name in marks:
        require(name not in layers, "states", "names that no module of the model has (mark another one)", name)
    layers_and_marks = {**layers, **{name: Marked(name) for name in marks}}
    runner = probe_runner(model, layers, probe, criterion)
    had = {name for layer in layers_and_marks.values() for name in quantities_of(layer)}
    known = [name for name in QUANTITIES if name in had]
    default = [name for name in known if not QUANTITIES[name].opt_in]
    chosen = default if quantities is None else names("quantities", quantities, known)
    if not chosen:
        raise ValueError(f"quantities: expected at least one of {', '.join(known)}, got none; leave it out for all")
    scalars = [*names("scalars", scalars), *["optimizer"] * (len(optimizers) > 1)]
    rows = ScalarRows(unwrapped(model), scalars)
    parameter = next(model.parameters(), torch.empty(0))
    meta = {
        **about,
        "every": when.every,
        "examples": examples,
        "spectrum_every": when_spectrum.every,
        "reduction": reduction,
        "batch": "training" if probe is None else "probe",
        "proof_tolerance": TOLERANCE.get(parameter.dtype, TOLERANCE[torch.float32]),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": str(parameter.device),
        "threads": torch.get_num_threads(),
        "modules": {name: repr(layer) for name, layer in layers_and_marks.items()},
        "jacobian": {
            name: "closed form" if has_closed_form(cell_class(layer)) else "automatic differentiation"
            for name, layer in layers_and_marks.items()
        },
    }
    if optimizers:
        meta["optimizers"] = {name: type(one).__name__ for name, one in optimizers.items()}
    before = recorder_of(path)
    if before is not None and resume is False:
        raise FileExistsError(
            f"path: {path} is being recorded into by this program; close that recorder, go on with its run "
            f"(resume=True), or record into another folder"
        )
    if before is not None:
        before.close()
    writer = RunWriter(
        path,
        meta=meta,
        config=config,
        seed=seed,
        parameters=rows.parameters,
        scalars=scalars,
        quantities=labels(chosen),
        resume=resume,
    )
    watcher = Watcher(layers, LastBackward(), model, list(model.parameters()), marks)
    recorder = Recorder(watcher, writer, rows, chosen, when, examples, when_spectrum, reduction, runner)
    return recorder.follow(optimizers) if optimizers else recorder
