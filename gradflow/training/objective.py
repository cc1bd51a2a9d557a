"""How answers are judged: the loss that is trained, and the share that is right."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from gradflow.data import Task


def loss_of(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy in nats, or squared error, mean over all answers; a function of answers and targets.

    Args:
        task: what is asked.

    >>> import torch
    >>> from gradflow.config import DataConfig
    >>> from gradflow.data import load
    >>> asked = load(DataConfig("adding"), seed=0).task
    >>> loss_of(asked)(torch.zeros(2, 1), torch.ones(2, 1))
    tensor(1.)
    """
    if task.values:
        return lambda values, targets: F.mse_loss(values, targets.to(values.dtype))
    return lambda scores, targets: F.cross_entropy(scores.flatten(0, -2), targets.flatten())


def right_answers(task: Task, scores: Tensor, targets: Tensor) -> Tensor:
    """Share of right answers of each example, float64 [B].

    Args:
        task: what is asked; a number is right within its tolerance.
        scores: [B, C] or [B, T, C].
        targets: [B] or [B, T], of numbers [B, K] or [B, T, K].
    """
    right = (scores - targets).abs() < task.tolerance if task.values else scores.argmax(-1) == targets
    if task.scored is not None:
        right = right[:, -task.scored :]
    return right.double().flatten(1).mean(1) if right.dim() > 1 else right.double()
