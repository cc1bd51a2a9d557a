"""The probe: a fixed batch that is recorded instead of the training batches, so that drift is not mixed with noise.

It is run beside training and leaves no trace in it: fresh leaves stand in for the parameters, copies for the buffers,
and the random states and the attributes of all modules are put back.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

from gradflow.checks import whole_number
from gradflow.flow.added import Added
from gradflow.flow.finding import unwrapped
from gradflow.flow.joining import Chain
from gradflow.flow.seen import Seen
from gradflow.flow.watching import Watcher
from gradflow.recording.copies import Copies
from gradflow.recording.last_backward import LastBackward


class Probe(NamedTuple):
    """A fixed batch.

    Attributes:
        x: what the model takes; a tuple stands for several arguments.
        y: what the criterion takes beside the model's answer.
        lengths: [B], where the layers take a padded tensor of ragged examples.
        targets: number of terms in a mean-reduced loss; the batch size if not given.
    """

    x: Any
    y: Any
    lengths: Tensor | Sequence[int] | None = None
    targets: int | None = None


class ProbeRunner:
    """Runs a model on a probe, with the weights of now or those that were kept.

    The model is run in the mode (training or evaluation) it is in. Random numbers (dropout) start from the same seed
    each time, so that what is recorded depends on the weights alone.

    Args:
        model: what the script calls; DistributedDataParallel and torch.compile around it are left out.
        layers: name -> recurrent layer.
        probe: the batch.
        criterion: from the model's answer and y to the loss, a scalar.

    Attributes:
        probe: the batch.
        log_targets: ln of its number of targets, if that was given.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], probe: Probe, criterion: Callable):
        self._model, self._layers, self.probe, self._criterion = unwrapped(model), layers, probe, criterion
        self.log_targets = None if probe.targets is None else math.log(probe.targets)
        self._kept: dict[str, Tensor] = {}
        self._copies = Copies()
        self._modes: list[bool] = []

    def keep(self) -> None:
        """Copy the weights, in case this was the last iteration."""
        self._kept = self._copies.of(_state(self._model))
        self._modes = [module.training for module in self._model.modules()]

    def calls(self, *, kept: bool, examples: int | str, added: Added | None) -> list[tuple[int, Seen | Chain]]:
        """The calls of one forward and backward pass over the probe, numbered.

        Args:
            kept: with the weights and the mode of the last :meth:`keep`, not those of now.
            examples: of how many the gradients are read, or "all".
            added: follows the weights; None: nobody asks.

        Raises:
            ValueError: if the criterion's loss is no scalar that depends on the model's parameters.
        """
        parameters = dict(self._model.named_parameters())
        state = self._kept if kept else _state(self._model)
        leaves = {name: state[name].detach().requires_grad_(p.requires_grad) for name, p in parameters.items()}
        buffers = {name: tensor.detach().clone() for name, tensor in state.items() if name not in leaves}
        trained = [leaf for leaf in leaves.values() if leaf.requires_grad]
        with _undisturbed(self._model), Watcher(self._layers, LastBackward(), self._model, trained) as watcher:
            watcher.examples, watcher.added = examples, added
            if kept:
                for module, mode in zip(self._model.modules(), self._modes, strict=True):
                    module.training = mode
            try:
                with torch.enable_grad():
                    several = isinstance(self.probe.x, tuple) and not isinstance(self.probe.x, PackedSequence)
                    x = self.probe.x if several else (self.probe.x,)
                    loss = self._criterion(functional_call(self._model, {**leaves, **buffers}, x), self.probe.y)
                    _check_loss(loss)
                    torch.autograd.backward(loss, inputs=trained)
            except Exception as error:
                error.add_note("gradflow: this was the model and the criterion on record(probe=...)")
                raise
            calls = watcher.take()
        lengths = None if self.probe.lengths is None else torch.as_tensor(self.probe.lengths, device="cpu")
        for _, seen in calls:
            seen.check_tensors()
            seen.call.lengths = lengths
        return calls


def probe_runner(
    model: nn.Module, layers: Mapping[str, nn.Module], probe: tuple | None, criterion: Callable | None
) -> ProbeRunner | None:
    """What :func:`gradflow.record` was given as `probe` and `criterion`, checked; None without a probe.

    Raises:
        ValueError: for one without the other, or another form.
    """
    if probe is None:
        if criterion is not None:
            raise ValueError("criterion: expected together with probe=(x, y), whose loss it is; leave it out without")
        return None
    probe = tuple(probe) if isinstance(probe, list) else probe  # as a DataLoader gives it
    if not isinstance(probe, tuple) or not 2 <= len(probe) <= len(Probe._fields):
        raise ValueError(
            f"probe: expected (x, y), or with lengths and targets (x, y, lengths, targets), got {type(probe).__name__}"
            + (f" of {len(probe)}" if isinstance(probe, tuple) else "")
        )
    batch = Probe(*probe)
    if batch.targets is not None:
        whole_number("probe targets", batch.targets, 1)
    if not callable(criterion):
        raise ValueError(
            f"criterion: expected the loss function of probe=(x, y), called as criterion(model(x), y), got "
            f"{criterion!r}; pass criterion=torch.nn.functional.cross_entropy or your own"
        )
    return ProbeRunner(model, layers, batch, criterion)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"criterion: expected a loss of one number that depends on trained parameters, got {got}; "
            f"pass a function such as torch.nn.functional.cross_entropy"
        )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back the attributes of all modules and every random state; inside, random numbers start from seed 0."""
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type != "cpu"}
    kind = next(iter(devices)).type if devices else "cuda"
    with torch.random.fork_rng([device.index or 0 for device in devices], device_type=kind):
        try:
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.default_generator.manual_seed(0)
            for device in devices:
                with torch.get_device_module(device).device(device):
                    torch.get_device_module(device).manual_seed(0)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            for module, before in attributes:
                module.__dict__.update(before)
                for name in module.__dict__.keys() - before.keys():
                    del module.__dict__[name]
