"""A callback that records the gradient flow of a network trained by skorch, whose optimisers drive the recording."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from gradflow.recording.recorder import Recorder
from gradflow.recording.start import record

try:
    from skorch.callbacks import Callback
except ImportError as error:
    raise ImportError(
        "gradflow.adapters.skorch: expected skorch 1.0 or later, found none; run pip install 'gradflow-rnn[skorch]'"
    ) from error


class GradientFlow(Callback):
    """Record every recurrent layer while a net is fitted: ``NeuralNet(callbacks=[GradientFlow("outputs/my-run")])``.

    One row per update of an optimiser, with its loss; validation is not seen. Clipping is seen, whoever does it.

    Args:
        path: the run folder. A second ``fit`` needs another one, by
            ``net.set_params(callbacks__GradientFlow__path=...)``, or ``resume=True``.
        step_arguments: from a batch to arguments of :meth:`gradflow.recording.recorder.Recorder.log`: ``lengths``,
            where layers take padded tensors; ``targets``, where a mean-reduced loss has more terms than the batch has
            examples; declared ``scalars``.
        **options: further ones of :func:`gradflow.record`.

    Attributes:
        recorder_: of the last ``fit``; None before.

    Raises:
        ValueError, FileExistsError: when training starts, as :func:`gradflow.record` does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        step_arguments: Callable[[Any], Mapping[str, Any]] | None = None,
        **options: Any,
    ):
        self.path, self.step_arguments = path, step_arguments
        for name, value in options.items():  # scikit-learn copies estimators by their attributes
            setattr(self, name, value)
        self.recorder_: Recorder | None = None

    def initialize(self) -> "GradientFlow":
        """Begin anew, with the net."""
        self.recorder_ = None
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Start recording; what the fit before left open, because of an exception, has failed."""
        if self.recorder_ is not None:
            left = RuntimeError("fit was left by an exception")
            self.recorder_.__exit__(RuntimeError, left, None)
        known = {"path", "step_arguments"}
        options = {name: value for name, value in self.get_params().items() if name not in known}
        modules = {name: getattr(net, f"{name}_") for name in net._modules}
        model = next(iter(modules.values())) if len(modules) == 1 else modules
        optimizers = {name: getattr(net, f"{name}_") for name in net._optimizers}
        self.recorder_ = record(model, self.path, optimizer=optimizers, **options)
        self.is_within_epoch_ = False

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Note it: of exceptions skorch tells nothing."""
        self.is_within_epoch_ = True

    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Note it."""
        self.is_within_epoch_ = False

    def on_grad_computed(
        self, net: Any, named_parameters: Any, X: Any = None, y: Any = None, training: Any = None, **kwargs: Any
    ) -> None:
        """Say what is known of the batch."""
        if self.step_arguments is not None and self.recorder_ is not None:
            self.recorder_.log(**self.step_arguments(kwargs["batch"]))

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the log: finished or diverged, or interrupted, if an epoch did not come to its end."""
        if self.recorder_ is not None:
            error = KeyboardInterrupt() if self.is_within_epoch_ else None
            self.recorder_.__exit__(type(error) if error else None, error, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "recorder_": None}
