"""A callback that records the gradient flow of a model trained by Lightning.

Where it looks, in Lightning's order of one update: training step and backward (``on_before_backward`` sees the loss),
``on_before_optimizer_step`` (gradients complete and unscaled, not yet clipped), the module's
``configure_gradient_clipping`` and, with no hook in between, the optimiser. So the callback stands around that one
method of the module while training lasts: the only place after clipping and before the parameters change.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradflow.recording.recorder import Recorder
from gradflow.recording.start import record
from gradflow.remedies.clipping import Clipping, compared, measure_grad_norm

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        "gradflow.adapters.lightning: expected lightning 2.2 or later, found none; "
        "run pip install 'gradflow-rnn[lightning]'"
    ) from error


class GradientFlow(Callback):
    """Record every recurrent layer while ``Trainer.fit`` runs: ``Trainer(callbacks=[GradientFlow("outputs/my-run")])``.

    One row per update of the optimiser, also when gradients are accumulated; validation is not seen. The loss is the
    one that ``training_step`` returned, averaged over the batches of an update. Norms before clipping are those that
    backward left, norms after it those that the optimiser gets, whoever clipped. With several processes the first
    one records its share of the batch.

    Args:
        path: the run folder. A second ``fit`` needs another folder, so another callback.
        scalars: names of values logged with ``self.log``, recorded as last logged.
        step_arguments: from a batch to arguments of :meth:`gradflow.recording.recorder.Recorder.step`: ``lengths``,
            where layers take padded tensors; ``targets``, where a mean-reduced loss has more terms than the batch has
            examples. Of the batches of one update the last one is asked.
        **options: further ones of :func:`gradflow.record`.

    Attributes:
        recorder: while ``fit`` runs; None otherwise.

    Raises:
        NotImplementedError: when training starts, for a module that optimises by hand; at the first update, for an
            optimiser that unscales gradients inside its step (fused ones with a GradScaler).
        ValueError, FileExistsError: when training starts, as :func:`gradflow.record` does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        scalars: Sequence[str] = (),
        step_arguments: Callable[[Any], Mapping[str, Any]] | None = None,
        **options: Any,
    ):
        self.recorder: Recorder | None = None
        self._path, self._scalars, self._options = path, scalars, options
        self._step_arguments = step_arguments
        self._batch: Any = None
        self._losses: list[Tensor] = []  # of the batches since the last update
        self._before: Clipping | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start recording; the model is on its device and any checkpoint is loaded."""
        if not pl_module.automatic_optimization:
            raise NotImplementedError(
                "GradientFlow: expected a module with automatic optimisation, got automatic_optimization=False; use "
                "gradflow.record in the module itself, and call recorder.step(...) before optimizer.step()"
            )
        if trainer.is_global_zero:
            self.recorder = record(pl_module, self._path, scalars=self._scalars, **self._options).__enter__()
            self._stand_around_clipping(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch for `step_arguments`."""
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss, without the factors that Lightning put on it."""
        if self.recorder:
            self._losses.append(loss.detach() / _loss_factor(trainer))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Measure the gradients before clipping."""
        if self.recorder is None:
            return
        if _scale(trainer) != 1 and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise NotImplementedError(
                f"GradientFlow: expected gradients without the scale of mixed precision before the optimiser's step, "
                f"but {type(optimizer).__name__} unscales inside it; create it with fused=False"
            )
        self._before = measure_grad_norm(pl_module.parameters())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the log as finished, or diverged."""
        self._stop(pl_module, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the log as interrupted or failed."""
        self._stop(pl_module, exception)

    def _stand_around_clipping(self, trainer: Trainer, pl_module: LightningModule) -> None:
        clip = pl_module.configure_gradient_clipping

        def clip_and_record(*args: Any, **kwargs: Any) -> None:
            clip(*args, **kwargs)
            if self._losses:  # none if training_step returned None: there was no backward
                self._step(trainer, pl_module)

        setattr(pl_module, "configure_gradient_clipping", clip_and_record)  # noqa: B010 - a method, for type checkers

    def _step(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.recorder is not None
        assert self._before is not None
        loss, self._losses = torch.stack(self._losses).mean(), []
        rounding = 4 * torch.finfo(next(pl_module.parameters()).dtype).eps
        clipping = _between(self._before, measure_grad_norm(pl_module.parameters()), rounding)
        logged = trainer.callback_metrics
        scalars = {name: float(logged[name]) for name in self._scalars if name in logged}
        scalars["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        arguments = self._step_arguments(self._batch) if self._step_arguments else {}
        self.recorder.step(loss, clipping, loss_scale=_loss_factor(trainer), scalars=scalars, **arguments)

    def _stop(self, pl_module: LightningModule, error: BaseException | None) -> None:
        recorder, self.recorder = self.recorder, None
        self._batch, self._losses, self._before = None, [], None
        if recorder:
            vars(pl_module).pop("configure_gradient_clipping", None)
            recorder.__exit__(type(error) if error else None, error, None)


def _scale(trainer: Trainer) -> float:
    """Of the GradScaler; 1 without one."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler.get_scale() if scaler else 1.0


def _loss_factor(trainer: Trainer) -> float:
    """What Lightning multiplies the loss by before backward: the scale, over the batches of an update."""
    return _scale(trainer) / trainer.accumulate_grad_batches


def _between(before: Clipping, after: Clipping, tolerance: float) -> Clipping:
    """What was done between two measurements, told by the norms."""
    coefficient, clipped = compared(before.parameter_norms_before, after.parameter_norms_after, tolerance)
    return replace(
        after,
        norm_before=before.norm_before,
        coefficient=coefficient,
        clipped=bool(clipped),
        non_finite=before.non_finite or after.non_finite,
        parameter_norms_before=before.parameter_norms_before,
    )
