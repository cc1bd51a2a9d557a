"""The row of scalars of one iteration: made at every step, so made cheaply."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from gradflow.flow.finding import plain_name
from gradflow.remedies.clipping import Clipping, gradient_norms


class ScalarRows:
    """Makes the rows of the table `scalars`.

    Args:
        model: the gradients of its parameters are measured; replaced parameters are found again by their names.
        declared: further scalars that :meth:`row` may be given, besides `lr`.

    Attributes:
        parameters: names of all parameters; the columns of frozen ones are NaN as long as they are.
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

    def row(
        self, loss: float | Tensor | None, clipping: Clipping | None, scalars: Mapping[str, Any] | None
    ) -> dict[str, float]:
        """The row of this iteration; what is not known is left out.

        Args:
            loss: one number.
            clipping: what gradflow's clipping returned; without it the gradients are measured here.
            scalars: further numbers, by declared names.

        Raises:
            TypeError: if `clipping` is not gradflow's.
            ValueError: for a scalar that was not declared, or a loss or scalar that is not one number.
        """
        row = self._checked(scalars) if scalars else {}
        if loss is not None:
            row["loss"] = _number("loss", loss)
        if clipping is None:
            self._measure(row)
        elif isinstance(clipping, Clipping):
            self._take(clipping, row)
        else:
            raise TypeError(
                f"clipping: expected what gradflow.clip_grad_norm_ (or another gradflow.clip_*) returned, got "
                f"{type(clipping).__name__}; clip with gradflow, or leave clipping out"
            )
        return row

    def _checked(self, scalars: Mapping[str, Any]) -> dict[str, float]:
        unknown = sorted(scalars.keys() - self._declared)
        if unknown:
            raise ValueError(
                f"scalars: {unknown[0]!r} is not declared (declared: {', '.join(sorted(self._declared))}); "
                f"declare it: record(..., scalars={unknown!r})"
            )
        return {name: _number(f"scalars[{name!r}]", value) for name, value in scalars.items()}

    def _measure(self, row: dict[str, float]) -> None:
        found = [(after, holder.get(key)) for holder, key, _, after in self._places]
        present = [(after, parameter) for after, parameter in found if parameter is not None]
        norms = gradient_norms(parameter for _, parameter in present)
        names = (after for after, parameter in present if parameter.grad is not None)
        row.update(zip(names, map(_log, norms), strict=True))
        total = _log(math.hypot(*norms))
        row["log_grad_norm_after"] = total
        row["non_finite"] = float(not math.isfinite(total) and any(norms))

    def _take(self, clipping: Clipping, row: dict[str, float]) -> None:
        norms = zip(clipping.parameter_norms_before, clipping.parameter_norms_after, strict=True)
        by_id = dict(zip(clipping.parameter_ids, norms, strict=False))
        beside = []  # not clipped here: what they were before some other clipping, none knows
        for holder, key, before, after in self._places:
            parameter = holder.get(key)
            found = by_id.get(id(parameter))
            if found is not None:
                row[before], row[after] = _log(found[0]), _log(found[1])
            elif parameter is not None and parameter.grad is not None:
                beside.append(parameter)
        if not beside:
            row["log_grad_norm_before"] = _log(clipping.norm_before)
        row["log_grad_norm_after"] = _log(math.hypot(clipping.norm_after, *gradient_norms(beside)))
        row["coefficient"] = clipping.coefficient
        row["clipped"] = float(clipping.clipped)
        row["non_finite"] = float(clipping.non_finite)


def _number(name: str, value: Any) -> float:
    try:
        return value if type(value) is float else float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected one number, got {value!r}") from error


def _log(number: float) -> float:
    if number > 0:
        return math.log(number)
    return -math.inf if number == 0 else math.nan
