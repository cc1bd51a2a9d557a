"""The row of scalars of one iteration: made at every step, so made cheaply."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.checks import check_kind, shown
from gradflow.flow.finding import plain_name
from gradflow.recording.arrivals import Arrivals
from gradflow.remedies.clipping import Clipping, compared, gradient_norms

log = logging.getLogger(__name__)

_ROUNDING = {torch.float64: 1e-12, torch.complex128: 1e-12, torch.float32: 1e-5, torch.complex64: 1e-5}


@dataclass(frozen=True)
class Scaling:
    """What a GradScaler did to the gradients of one iteration.

    Attributes:
        factor: on the loss during backward.
        divided: whether it was divided out of the gradients before the step; None: look whether it was.
        left: what is still on the gradients, for an optimiser that divides it out itself.
    """

    factor: float = 1.0
    divided: bool | None = None
    left: float = 1.0

    def divided_out(self, arrived: Sequence[float | None], now: Sequence[float]) -> float:
        """By what the gradients were divided between backward and the step.

        Args:
            arrived: their norms when they arrived, None where unknown.
            now: their norms now. No clipping is known to have gone as low as a scaler's factor in all of them.
        """
        if self.divided is not None:
            return self.factor if self.divided else 1.0
        known = [(was, is_) for was, is_ in zip(arrived, now, strict=True) if was is not None]
        is_divided = self.factor > 1 and known and all(is_ * self.factor <= was * 1.01 for was, is_ in known)
        return self.factor if is_divided else 1.0


class ScalarRows:
    """Makes the rows of the table `scalars`.

    Args:
        model: the gradients of its parameters are measured; replaced parameters are found again by their names.
        declared: further scalars that :meth:`row` may be given, besides `lr`.

    Attributes:
        parameters: names of all parameters; the columns of frozen ones are NaN as long as they are.
        arrivals: their gradients as backward left them.
    """

    def __init__(self, model: nn.Module, declared: Collection[str]):
        self.parameters: list[str] = []
        self._places: list[tuple[Any, str, str, str]] = []
        for name, _ in model.named_parameters():
            owner, _, key = name.rpartition(".")
            plain = plain_name(name)
            self.parameters.append(plain)
            holder = model.get_submodule(owner)._parameters
            self._places.append((holder, key, f"log_grad_before.{plain}", f"log_grad_after.{plain}"))
        self._declared = {"lr", *declared}
        self.arrivals = Arrivals()
        self._warned = False

    def start(self) -> None:
        """Look at gradients as they arrive, until ``arrivals.stop()``."""
        self._present(only_new=False)

    def let_go(self) -> None:
        """Hold no parameter any more; nothing is measured from then on."""
        self._places.clear()

    def told(
        self, loss: float | Tensor | None, clipping: Clipping | None, scalars: Mapping[str, Any] | None
    ) -> dict[str, float]:
        """The row of this iteration, as far as the script says it.

        Args:
            loss: one number.
            clipping: what gradflow's clipping returned.
            scalars: further numbers, by declared names.

        Raises:
            TypeError: if `clipping` is not gradflow's, or `scalars` no dictionary.
            ValueError: for a scalar that was not declared, or a loss or scalar that is not one number.
        """
        row = {} if scalars is None else self.checked(scalars)
        if loss is not None:
            row["loss"] = _number("loss", loss)
        if not isinstance(clipping, Clipping | None):
            raise TypeError(
                f"clipping: expected what gradflow.clip_grad_norm_ (or another gradflow.clip_*) returned, got "
                f"{type(clipping).__name__}; clip with gradflow, or leave clipping out: the norms tell what others did"
            )
        return row

    def checked(self, scalars: Mapping[str, Any]) -> dict[str, float]:
        """Scalars as numbers.

        Raises:
            TypeError: if they are no dictionary.
            ValueError: for one that was not declared, or is not one number.
        """
        check_kind("scalars", scalars, Mapping, "a dictionary of numbers by their declared names")
        unknown = sorted(scalars.keys() - self._declared, key=str)
        if unknown:
            raise ValueError(
                f"scalars: {shown(unknown[0])} is not declared (declared: {', '.join(sorted(self._declared))}); "
                f"declare it: record(..., scalars={shown(unknown)})"
            )
        return {name: _number(f"scalars[{name!r}]", value) for name, value in scalars.items()}

    def measure(
        self,
        row: dict[str, float],
        clipping: Clipping | None,
        scaling: Scaling = Scaling(),
        *,
        only_new: bool = False,
    ) -> None:
        """Fill in the norms before and after clipping, and what clipping did; what is not known is left out.

        Args:
            row: of this iteration.
            clipping: what gradflow's clipping returned; gradients that it does not speak of are measured here.
            scaling: what a GradScaler did to the gradients.
            only_new: leave out gradients that no backward pass has brought since the last row.
        """
        present = self._present(only_new)
        told = {} if clipping is None else _told(clipping)
        rest = [parameter for parameter, _, _ in present if id(parameter) not in told]
        norms = {**told, **self._seen(rest, scaling)} if rest else told
        before, after = [], []
        for parameter, name_before, name_after in present:
            was, is_ = norms[id(parameter)]
            after.append(is_)
            row[name_after] = _log(is_)
            if was is not None:
                before.append(was)
                row[name_before] = _log(was)
        row["log_grad_norm_after"] = total = _log(math.hypot(*after))
        row["non_finite"] = float(not math.isfinite(total) and any(after))
        row["clipping_reported"] = float(clipping is not None)
        if after and len(before) == len(after):
            row["log_grad_norm_before"] = _log(math.hypot(*before))
            if rest:
                row["coefficient"], row["clipped"] = self._judged(before, after, present)
        if clipping is not None:
            if not rest:
                row["coefficient"], row["clipped"] = clipping.coefficient, float(clipping.clipped)
                row["non_finite"] = float(clipping.non_finite)
            elif clipping.clipped:
                row["clipped"] = 1.0
        self.arrivals.open = clipping is None or bool(rest)

    def _present(self, only_new: bool) -> list[tuple[Tensor, str, str]]:
        """Every parameter with a gradient, and the columns of its norms."""
        present = []
        for holder, key, before, after in self._places:
            parameter = holder.get(key)
            if parameter is not None:
                self.arrivals.follow(parameter)
                if parameter.grad is not None:
                    present.append((parameter, before, after))
        new = [place for place in present if place[0] in self.arrivals] if only_new else []
        return new or present

    def _seen(self, parameters: list[Tensor], scaling: Scaling) -> dict[int, tuple[float | None, float]]:
        """Id -> norm of a gradient that nobody spoke of, when it arrived (None: unknown) and now."""
        exact = gradient_norms(parameters)
        arrived, now = self.arrivals.compare(parameters)
        divided = scaling.divided_out(arrived, now)
        pairs: dict[int, tuple[float | None, float]] = {}
        for parameter, norm, was, is_ in zip(parameters, exact, arrived, now, strict=True):
            tolerance = 0.0 if divided == 1 else _rounding([parameter])
            before = None if was is None else _exactly(was / divided, is_, norm, tolerance) / scaling.left
            pairs[id(parameter)] = before, norm / scaling.left
        return pairs

    def _judged(self, before: list[float], after: list[float], present: list[tuple[Tensor, str, str]]) -> Any:
        """The coefficient and whether gradients were clipped, NaN where the norms do not tell."""
        coefficient, clipped = compared(before, after, _rounding(parameter for parameter, _, _ in present))
        if 0 < coefficient < 1 and abs(coefficient / 2.0 ** round(math.log2(coefficient)) - 1) < 1e-6:
            if not self._warned:
                self._warned = True
                log.warning(
                    "all gradients were multiplied by %g between backward and the step; a power of 2 is no clipping "
                    "but a GradScaler's scale or an average, so the log calls clipping unknown there: with a scaler, "
                    "recorder.step(..., loss_scale=scaler.get_scale())", coefficient,
                )  # fmt: skip
            return math.nan, math.nan
        return coefficient, clipped


def _exactly(was: float, now: float, exact: float, tolerance: float) -> float:
    """A norm as it was, from what was taken cheaply then and now, and exactly now."""
    if was == now or abs(was - now) <= tolerance * now:
        return exact
    return was * exact / now if 0 < now < math.inf else was


def _told(clipping: Clipping) -> dict[int, tuple[float | None, float]]:
    """Id of each parameter that was clipped -> the norms of its gradient before and after."""
    norms = zip(clipping.parameter_norms_before, clipping.parameter_norms_after, strict=True)
    return dict(zip(clipping.parameter_ids, norms, strict=False))


def _rounding(parameters: Iterable[Tensor]) -> float:
    """How far a norm may be off, relatively, for being taken in the precision of the gradients."""
    return max((_ROUNDING.get(parameter.dtype, 0.05) for parameter in parameters), default=0.0)


def _number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    try:
        if not isinstance(value, (str, bytes)):
            return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise ValueError(f"{name}: expected one number, got {shown(value)}; pass loss.item() or the like")


def _log(number: float) -> float:
    if number > 0:
        return math.log(number)
    return -math.inf if number == 0 else math.nan
