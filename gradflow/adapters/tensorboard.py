"""Show the scalars of a recorder in TensorBoard while a model trains."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from gradflow.recording.recorder import Recorder

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ImportError(
        "gradflow.adapters.tensorboard: expected tensorboard 2.14 or later, found none; "
        "run pip install 'gradflow-rnn[tensorboard]'"
    ) from error

_TAGS = {
    "log_grad_norm_before": "log_gradient_norm/before_clipping",
    "log_grad_norm_after": "log_gradient_norm/after_clipping",
    "coefficient": "clipping/coefficient",
    "clipped": "clipping/clipped",
    "non_finite": "clipping/non_finite",
}
_PREFIXES = {
    "log_grad_before.": "log_gradient_norm_before_clipping/",
    "log_grad_after.": "log_gradient_norm_after_clipping/",
}


@contextmanager
def mirror(recorder: Recorder, path: str | os.PathLike[str]) -> Iterator[SummaryWriter]:
    """Write every row of a recorder's scalars into TensorBoard's event files as well, while the block lasts.

    Norms stay natural logarithms: TensorBoard keeps float32, in which a norm below 1e-45 would be 0, and its smoothing
    averages what is drawn. Values arrive as they are: NaN is drawn as a triangle at the height of the last finite
    point, and a norm of 0 is -inf.

        with gf.record(model, "outputs/my-run") as recorder, mirror(recorder, "outputs/tensorboard"):
            ...

    Args:
        recorder: made by :func:`gradflow.record`.
        path: folder of the event files, for ``tensorboard --logdir``; made if missing.

    Returns:
        The SummaryWriter, for what else one wants to show; the files are flushed every five seconds and at the end.
    """
    writer = SummaryWriter(os.fspath(path), flush_secs=5)
    open_ = True

    def write(iteration: int, row: Mapping[str, float]) -> None:
        if open_:
            for name, value in row.items():
                writer.add_scalar(tag(name), float(value), iteration)

    recorder.subscribe(write)
    try:
        yield writer
    finally:
        open_ = False
        writer.close()


def write_scalars(rows: Iterable[tuple[int, float, Mapping[str, float]]], path: str | os.PathLike[str]) -> None:
    """Write scalars that were recorded into one event file.

    Args:
        rows: iteration, seconds since 1970, and values by column of the table `scalars`.
        path: an empty folder; made if missing.
    """
    with SummaryWriter(os.fspath(path)) as writer:
        for iteration, seconds, row in rows:
            for name, value in row.items():
                writer.add_scalar(tag(name), float(value), iteration, walltime=seconds)


def tag(name: str) -> str:
    """TensorBoard's tag for a column of the table `scalars`; what stands before the slash is one group of charts.

    >>> tag("loss"), tag("log_grad_norm_before"), tag("log_grad_after.lstm.bias_hh_l0")
    ('loss', 'log_gradient_norm/before_clipping', 'log_gradient_norm_after_clipping/lstm.bias_hh_l0')
    """
    for prefix, group in _PREFIXES.items():
        if name.startswith(prefix):
            return group + name.removeprefix(prefix)
    return _TAGS.get(name, name)
