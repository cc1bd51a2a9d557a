"""Recording that the optimiser drives: its step hooks come after backward and clipping, and before the update."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from gradflow.flow.watching import Watcher
from gradflow.recording.arrivals import Arrivals
from gradflow.recording.ending import uncaught_error
from gradflow.recording.scalars import Scaling

log = logging.getLogger(__name__)

_SCALED_STEP = torch.amp.GradScaler.step.__code__
_FRAMES = 16  # between a GradScaler's step and the hooks of the optimiser: wrappers of schedulers and the like


def named_optimizers(optimizer: Any) -> dict[str, Optimizer]:
    """The optimisers by name.

    Args:
        optimizer: one, several, or several by name.

    Raises:
        TypeError: for anything but torch's optimisers, whose steps can be hooked.
        ValueError: if there is none, or one is given twice.
    """
    if isinstance(optimizer, Mapping):
        found = {str(name): one for name, one in optimizer.items()}
    elif isinstance(optimizer, Sequence):
        found = {str(number): one for number, one in enumerate(optimizer)}
    else:
        found = {"0": optimizer}
    for one in found.values():
        if not isinstance(one, Optimizer) or not hasattr(one, "_optimizer_step_pre_hooks"):
            raise TypeError(
                f"optimizer: expected a torch.optim.Optimizer, or a list or dictionary of them, got "
                f"{type(one).__name__}; pass the one that it wraps, or call recorder.step(...) in a loop of your own"
            )
    if not found or len({id(one) for one in found.values()}) < len(found):
        raise ValueError(
            f"optimizer: expected at least one, each once, got {len(found)}; leave it out to call recorder.step(...)"
        )
    return found


class Updates:
    """Has the steps of optimisers recorded, until :meth:`stop`.

    With a closure (LBFGS) the update is its first evaluation, at the weights that the step begins with; those that
    follow are not seen. The hooks hold what they need, so that nobody else need hold the recorder.

    Args:
        optimizers: by name.
        watcher: what is seen of the layers; not looking while a closure is evaluated again.
        arrivals: what is seen of the gradients; the same.
        record: records one iteration.

    Attributes:
        old_error: the last exception that nobody caught before the last update.
    """

    def __init__(
        self,
        optimizers: Mapping[str, Optimizer],
        watcher: Watcher[Any],
        arrivals: Arrivals,
        record: Callable[..., None],
    ):
        self.old_error = uncaught_error()
        self._watcher, self._arrivals, self._record = watcher, arrivals, record
        self._several, self._told, self._has_warned = len(optimizers) > 1, _nothing_told(), False
        self._within: set[int] = set()  # places of optimisers whose step runs: a subclass calls its parent's inside
        self._handles: list[Any] = []
        for place, optimizer in enumerate(optimizers.values()):
            self._handles.append(optimizer.register_step_pre_hook(partial(self._before, place)))
            self._handles.append(optimizer.register_step_post_hook(partial(self._after, place)))

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def tell(self, told: dict[str, Any]) -> None:
        """Keep arguments of `record` for the next update."""
        self._told |= told | {"scalars": self._told["scalars"] | told.get("scalars", {})}

    def _before(self, place: int, optimizer: Optimizer, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before the step of an optimiser, which gets another closure in place of its own."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if getattr(closure, "seen_by", None) is self:
            return None
        is_recorded = self._update(place, optimizer)
        is_inner = place in self._within
        self._within.add(place)
        if closure is None:
            if not (is_recorded or is_inner or self._several):
                self._say_why_not()
            return None

        def evaluate() -> Any:
            nonlocal is_recorded
            if is_recorded:
                return self._unseen(closure)
            loss = closure()
            is_recorded = self._update(place, optimizer, loss)
            if not is_recorded:
                self._say_why_not()
            return loss

        vars(evaluate)["seen_by"] = self
        return ((args[0], evaluate, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": evaluate})

    def _after(self, place: int, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        self._within.discard(place)

    def _update(self, place: int, optimizer: Optimizer, loss: Any = None) -> bool:
        """Record; False if no backward pass has reached a recurrent layer since the last update."""
        if not self._watcher.open:
            return True  # the log has ended, and there is nothing more to say
        if not self._watcher.has_seen:
            return False
        told, scaling = self._told, _scaling(optimizer)
        known = _learning_rate(optimizer) | ({"optimizer": place} if self._several else {})
        told = told | {"scalars": known | told["scalars"], "loss_scale": told["loss_scale"] * scaling.factor}
        if told["loss"] is None:
            told["loss"] = loss
        self._record(**told, scaling=scaling, only_new=self._several)
        self._told, self.old_error = _nothing_told(), uncaught_error()
        return True

    def _say_why_not(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        try:
            self._watcher.take()
        except RuntimeError as why:
            log.warning("an optimizer.step() has no row, which is said once: %s", str(why).removeprefix("step: "))

    def _unseen(self, closure: Callable[[], Any]) -> Any:
        watching, self._watcher.open = self._watcher.open, False
        looking, self._arrivals.open = self._arrivals.open, False
        try:
            return closure()
        finally:
            self._watcher.open, self._arrivals.open = watching, looking


def _nothing_told() -> dict[str, Any]:
    return {"loss": None, "clipping": None, "lengths": None, "targets": None, "loss_scale": 1.0, "scalars": {}}


def _learning_rate(optimizer: Optimizer) -> dict[str, float]:
    """The scalar `lr`, if all groups have the same."""
    rates = {float(group["lr"]) for group in optimizer.param_groups if "lr" in group}
    return {"lr": rates.pop()} if len(rates) == 1 else {}


def _scaling(optimizer: Optimizer) -> Scaling:
    """What the GradScaler did that takes this step, if one does."""
    scaler = _scaler()
    if scaler is None:
        return Scaling()
    left = getattr(optimizer, "grad_scale", None)  # of fused optimisers, which divide inside
    return Scaling(scaler.get_scale(), divided=left is None, left=1.0 if left is None else float(left))


def _scaler() -> torch.amp.GradScaler | None:
    """The GradScaler whose step this is: nothing else knows of it."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code is _SCALED_STEP:
            return frame.f_locals["self"]
    return None
