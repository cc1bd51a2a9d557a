"""When something is recorded: every n iterations, or at iterations of one's own."""

from collections.abc import Mapping, Sequence

from gradflow.checks import whole_number


def log_spaced(last: int, per_decade: int = 10) -> list[int]:
    """Iterations that lie evenly on a logarithmic axis: most of them early, where most happens.

    Args:
        last: the last iteration.
        per_decade: iterations between n and 10 n (fewer among the first, where they would fall on the same number).

    Returns:
        Rising iterations from 0 to `last`.

    Raises:
        ValueError: if `last` is no whole number from 0, or `per_decade` none from 1.

    >>> log_spaced(1000, per_decade=3)
    [0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]
    """
    last, per_decade = whole_number("last", last, 0), whole_number("per_decade", per_decade, 1)
    powers = (round(10 ** (k / per_decade)) for k in range(len(str(last)) * per_decade))
    return sorted({0, last} | {iteration for iteration in powers if iteration <= last})


class Schedule:
    """Which iterations are due; the first always is.

    Args:
        name: of the argument, for errors.
        every: n for each n-th iteration, or rising iterations (none: the first only).

    Attributes:
        every: the same as plain numbers, for the log.

    Raises:
        ValueError: for anything else.

    >>> [iteration for iteration in range(10) if Schedule("every", [3, 7]).due(iteration)]
    [0, 3, 7]
    """

    def __init__(self, name: str, every: int | Sequence[int]):
        self.every: int | list[int]
        if isinstance(every, (str, bytes, Mapping)) or not hasattr(every, "__iter__"):
            self.every = whole_number(name, every, 1, or_else=" or a list of iterations")
        else:
            self.every = [whole_number(name, iteration, 0) for iteration in every]
            for before, after in zip(self.every, self.every[1:], strict=False):
                if after <= before:
                    raise ValueError(f"{name}: expected rising iterations, got {after} after {before}; sort them")
        self._chosen = frozenset(self.every) if isinstance(self.every, list) else None

    def due(self, iteration: int) -> bool:
        """Whether an iteration is to be recorded."""
        if self._chosen is None:
            return iteration % self.every == 0  # type: ignore[operator]
        return iteration == 0 or iteration in self._chosen
