"""The recorder: one iteration after another into the log, and its end."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from torch.optim import Optimizer

from gradflow.checks import require
from gradflow.flow.calls import weights_known
from gradflow.flow.joining import Chain
from gradflow.flow.seen import Seen
from gradflow.flow.watching import Watcher
from gradflow.recording.arguments import (
    Lengths,
    check_lengths,
    lengths_by_name,
    log_of,
    positive,
)
from gradflow.recording.copies import Copies
from gradflow.recording.ending import closes_at_exit, has_ended, uncaught_error
from gradflow.recording.journal import Journal
from gradflow.recording.mishaps import Mishaps
from gradflow.recording.probe import ProbeRunner
from gradflow.recording.scalars import ScalarRows, Scaling
from gradflow.recording.schedule import Schedule
from gradflow.recording.states import States
from gradflow.recording.updates import Updates
from gradflow.remedies.clipping import Clipping
from gradflow.runlog import RunWriter

log = logging.getLogger(__name__)


class Recorder:
    """Made by :func:`gradflow.record`.

    Attributes:
        iteration: number of updates so far: of those recorded here, and of what a resumed run had before.
        path: the run folder.
    """

    def __init__(
        self,
        watcher: Watcher[list[tuple[int, Seen | Chain]]],
        writer: RunWriter,
        rows: ScalarRows,
        quantities: list[str],
        when: Schedule,
        examples: int | str,
        when_spectrum: Schedule,
        reduction: str,
        probe: ProbeRunner | None,
    ):
        self.iteration = writer.start
        self.path = writer.path
        self._mishaps = Mishaps(writer.path)
        watcher.meets = rows.arrivals.meets = self._mishaps.note
        self._watcher, self._writer, self._rows = watcher, writer, rows
        self._journal = Journal(writer, self._mishaps, self._stop)
        self._states = States(
            writer.path, watcher, self._journal, self._mishaps, quantities, examples, reduction, probe
        )
        self._when, self._when_spectrum = when, when_spectrum
        self._latest: list[tuple[int, Seen | Chain]] = []  # kept in case it is the last iteration
        self._log_targets: float | None = None
        self._log_scale = 0.0
        self._copies: dict[tuple[str, int], Copies] = defaultdict(Copies)  # of the weights of the calls of each module
        self._callbacks: list[Callable[[int, dict[str, float]], None]] = []
        self._diverged_at: int | None = None
        self._updates: Updates | None = None
        self._process = os.getpid()
        self._due = self._spectrum_due = True  # at this iteration
        self._began = self._ended = False

    def __enter__(self) -> Self:
        if not self._began:
            self._began = True
            self._watcher.__enter__()
            self._rows.start()
            self._look_ahead()
        return self

    def follow(self, optimizers: Mapping[str, Optimizer]) -> Self:
        """Begin, and let optimisers drive the recording; for :func:`gradflow.record`."""
        self.__enter__()
        self._updates = Updates(optimizers, self._watcher, self._rows.arrivals, self._step)
        closes_at_exit(self)
        return self

    def close(self) -> None:
        """End the log now, as finished or diverged; nothing is watched any longer."""
        self.__exit__(None, None, None)

    def end(self) -> None:
        """End the log as the program ended: by the last exception that nobody caught, if no update came after it."""
        if self._process != os.getpid():  # a fork, which leaves the log alone
            return
        error = uncaught_error()
        if self._updates is not None and error is self._updates.old_error:
            error = None
        self.__exit__(type(error) if error else None, error, None)

    @property
    def error(self) -> Exception | None:
        """Why not all that was recorded is on disk, once the log has ended; None: all is."""
        return self._journal.error

    @property
    def hold(self) -> Any:
        """The lock of the run folder."""
        return self._writer.lock

    def __del__(self) -> None:
        if getattr(self, "_updates", None) is not None and not self._ended:
            self.end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._updates is not None:
            self._updates.stop()
        if not self._ended:
            self._stop()
            if self._writer.is_ours:  # not so in a forked child: the log is its parent's
                self._conclude(error)
        self._let_go()

    def _conclude(self, error: BaseException | None) -> None:
        try:
            self._close(error)
        except Exception as failure:
            self._journal.error = failure
            if error is None:
                log.error("closing the log failed: %s", failure, exc_info=not isinstance(failure, OSError))
            else:
                error.add_note(f"gradflow: closing the log failed as well: {failure}")

    def _let_go(self) -> None:
        """Hold neither the model nor anything of its size; a recorder may outlive it."""
        self._latest, self._states.probe = [], None
        self._copies.clear()
        self._watcher.let_go()
        self._rows.let_go()

    def _stop(self) -> None:
        """Nothing is watched any longer; hooks of optimisers, one of which may be running, stay for now."""
        self._ended = True
        has_ended(self)
        self._watcher.__exit__()
        self._rows.arrivals.stop()

    def _close(self, error: BaseException | None) -> None:
        last = self._mishaps.iteration = self.iteration - 1
        try:
            if self._writer.iteration == last:  # not so if the next step was interrupted half way
                with self._mishaps.survived("what was left to its end"):
                    self._record_last(last)
            elif last < self._writer.start:
                never = (
                    "no optimizer.step() came after a backward pass"
                    if self._updates
                    else "recorder.step was never called"
                )
                log.warning("%s: nothing was recorded, because %s", self.path, never)
        except BaseException as failure:
            error = error or failure
            raise
        finally:
            if isinstance(error, KeyboardInterrupt):
                self._writer.close("interrupted")
            elif error is not None:
                self._writer.close("failed", error=f"{type(error).__name__}: {error}")
            elif self._diverged_at is not None:
                self._writer.close("diverged", error=str(self._mishaps) or None, iteration=self._diverged_at)
            else:
                self._writer.close("finished", error=str(self._mishaps) or None)

    def _record_last(self, last: int) -> None:
        """What was not due at the last iteration, from what was kept of it."""
        if not self._when_spectrum.due(last):
            self._states.record_spectrum(last, self._latest)
        if self._when.due(last):
            return
        if not self._latest and self._states.probe is None:
            return
        if self._states.probe is None and any(seen.is_stale() for _, seen in self._latest):
            log.warning(
                "%s: the last iteration, %d, has no state gradients: it was not due, and an input or output of the "
                "layers was changed in place since",
                self.path,
                last,
            )
            return
        self._record(last, kept=True)

    def step(
        self,
        loss: float | Tensor | None = None,
        clipping: Clipping | None = None,
        *,
        lengths: Lengths = None,
        targets: int | None = None,
        loss_scale: float = 1.0,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """Record one iteration: after ``backward`` (and clipping), before ``optimizer.step()``.

        What is recorded of the states belongs to the last backward pass that ended in ``.grad`` (of a script that sets
        ``.grad`` itself, to the last pass); several on one graph are summed, as there.
        The norms among the scalars are those of ``.grad``. With gradients accumulated over k micro-batches, the states
        are those of the last one: say ``loss_scale=1/k`` if each loss was divided by k. Calls of a module are numbered
        within a forward pass of the model, and on over the forward passes that share a backward pass; without a call of
        the model itself, in the order in which they ran. Eight or more calls of a module with one example each, of
        different lengths, that all start anew are a batch, and one call of the log (say ``targets`` if the loss was
        divided by their number); those of a single step in one direction stay calls of their own.

        Args:
            loss: its value, as it was reduced.
            clipping: what gradflow's clipping returned.
            lengths: [B], where the layers took a padded tensor of ragged examples (packed ones say it themselves), or
                module -> [B] where they differ; of a module that a script steps through, how many steps count.
            targets: number of terms in a mean-reduced loss; the batch size if not given.
            loss_scale: factor on the loss during backward (a GradScaler's scale), divided out of state gradients.
            scalars: the further numbers declared in :func:`gradflow.record`, and `lr`; those left out are NaN.

        Raises:
            TypeError: if `clipping` is not gradflow's.
            ValueError: for a scalar that was not declared, an argument out of range, or a gradient that came through
                padding, such as that of h_n where `lengths` are given.
            RuntimeError: if optimisers drive the recording, if no recurrent layer ran since the last call, if it ran
                but no gradient has come back (``step`` before ``backward``), if its parameters have changed since
                (``step`` after ``optimizer.step``), or, at a recorded iteration, if its input or output was changed in
                place.
        """
        if self._updates is not None:
            raise RuntimeError(
                "step: each optimizer.step() records its iteration already; use recorder.log(loss=...) before it, or "
                "leave optimizer out of gradflow.record"
            )
        self._step(loss, clipping, lengths, targets, loss_scale, scalars)

    def log(
        self,
        loss: float | Tensor | None = None,
        clipping: Clipping | None = None,
        *,
        lengths: Lengths = None,
        targets: int | None = None,
        loss_scale: float | None = None,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """Say something of the next ``optimizer.step()``, where optimisers drive the recording; what is said adds up.

        Args:
            loss: as in :meth:`step`; otherwise that of a closure, or none.
            clipping: as in :meth:`step`; clipping by anybody is seen without it.
            lengths: as in :meth:`step`.
            targets: as in :meth:`step`.
            loss_scale: as in :meth:`step`, such as 1/k; but for the scale of a GradScaler, which is known.
            scalars: as in :meth:`step`; `lr` is known if all parameter groups have the same.

        Raises:
            ValueError: for a scalar that was not declared, or an argument out of range.
            RuntimeError: if no optimiser drives the recording.
        """
        if self._updates is None:
            raise RuntimeError(
                "log: no optimizer.step() will record this; give it to recorder.step(...), or use "
                "gradflow.record(model, path, optimizer=optimizer)"
            )
        self._rows.told(loss, clipping, None)
        lengths_by_name(lengths, self._watcher.names)
        told = {
            "loss": loss.detach() if isinstance(loss, Tensor) else loss,
            "clipping": clipping,
            "lengths": lengths,
            "targets": None if targets is None else positive("targets", targets),
            "loss_scale": None if loss_scale is None else positive("loss_scale", loss_scale),
            "scalars": None if scalars is None else self._rows.checked(scalars),
        }
        self._updates.tell({name: value for name, value in told.items() if value is not None})

    def _step(
        self,
        loss: float | Tensor | None,
        clipping: Clipping | None,
        lengths: Lengths,
        targets: float | None,
        loss_scale: float,
        scalars: Mapping[str, float] | None,
        scaling: Scaling | None = None,
        only_new: bool = False,
    ) -> None:
        if self._updates is not None and not self._writer.is_ours:
            self._leave_to_parent()
            return
        factor, log_targets = positive("loss_scale", loss_scale), log_of("targets", targets)
        lengths_of = lengths_by_name(lengths, self._watcher.names)
        row = self._rows.told(loss, clipping, scalars)
        if self.error is not None:  # the log has ended, training goes on
            self.iteration += 1
            return
        iteration, due, is_spectrum_due = self.iteration, self._due, self._spectrum_due
        self._latest = self._taken(due, lengths_of)
        self._log_targets, self._log_scale = log_targets, math.log(factor)
        try:
            self._rows.measure(row, clipping, scaling or Scaling(factor), only_new=only_new)
        except Exception as error:
            self._mishaps.note("the norms of gradients", error)
        self._journal.append("scalars", iteration, row)
        self._note_divergence(row)
        if is_spectrum_due:
            self._states.record_spectrum(iteration, self._latest)
        if due:
            self._record(iteration)
        self._keep(due, is_spectrum_due)
        self._rows.arrivals.forget()
        self._mishaps.is_new = False
        self.iteration += 1
        self._look_ahead()
        if self._callbacks:
            self._tell(iteration, row)

    def _leave_to_parent(self) -> None:
        """In a fork, whose optimiser goes on: see no more there."""
        self._stop()
        log.warning(
            "%s: this process was forked from the one that records, and its updates are not recorded; record it into "
            "a folder of its own, gf.record(...) after the fork",
            self.path,
        )

    def _taken(self, due: bool, lengths_of: Callable[[str], Tensor | None]) -> list[tuple[int, Seen | Chain]]:
        """What was seen since the last step; nothing if that is no use and the script is not to blame.

        Raises:
            RuntimeError, ValueError: if it is, and called :meth:`step`.
        """
        try:
            calls = self._watcher.take()
            for _, seen in calls:
                seen.check_parameters()
                if due:
                    seen.check_tensors()
                seen.call.lengths = lengths_of(seen.name)
            if due:
                check_lengths(calls)
        except (RuntimeError, ValueError) as wrong:
            replaced = ", ".join(map(repr, self._watcher.replaced))
            if self._updates is None and not self._mishaps.is_new and not replaced:
                raise
            elsewhere = RuntimeError(f"another module is in the place of {replaced}; record it into another folder")
            if not self._mishaps.is_new:
                self._mishaps.note("the states", elsewhere if replaced else wrong)
            return []
        return calls

    def subscribe(self, callback: Callable[[int, dict[str, float]], None]) -> None:
        """Have a function called with the iteration and its row of scalars, at the end of each :meth:`step`.

        Args:
            callback: takes the iteration and {column: number}, without what is not known. A callback that raises is
                logged with its traceback and not called again: training and the log go on.
        """
        require(callable(callback), "callback", "a function of the iteration and its row", callback)
        self._callbacks.append(callback)

    def flush(self) -> None:
        """Bring all rows to disk; beside saving a checkpoint, so that a run that is killed can be resumed from it.

        A disk that takes none stops nobody: that is said, and the rows wait in memory for the next try.
        """
        if self._ended:
            return
        self._journal.flush()

    def _look_ahead(self) -> None:
        self._mishaps.iteration = self.iteration
        self._due, self._spectrum_due = self._when.due(self.iteration), self._when_spectrum.due(self.iteration)
        self._states.look_ahead(due=self._due, with_spectra=self._spectrum_due)

    def _record(self, iteration: int, *, kept: bool = False) -> None:
        self._states.record(iteration, self._latest, self._log_targets, self._log_scale, kept=kept)

    def _tell(self, iteration: int, row: dict[str, float]) -> None:
        for callback in list(self._callbacks):
            try:
                callback(iteration, dict(row))
            except Exception:
                log.exception("subscribe: %r failed at iteration %d and is not called again", callback, iteration)
                self._callbacks.remove(callback)

    def _note_divergence(self, row: Mapping[str, float]) -> None:
        if "loss" not in row:
            return
        if math.isfinite(row["loss"]):
            self._diverged_at = None
        elif self._diverged_at is None:
            self._diverged_at = self.iteration

    def _keep(self, due: bool, is_spectrum_due: bool) -> None:
        """Copy the weights, which the optimiser changes next: this may be the last iteration."""
        if due:  # of what was recorded only the spectrum may be missing
            self._latest = [pair for pair in self._latest if weights_known(pair[1].call.layer)]
            if is_spectrum_due:
                self._latest = []
                return
        copies: dict[tuple[int, ...], dict[str, Tensor]] = {}
        try:
            for _, seen in self._latest:
                call = seen.call
                which = tuple(map(id, call.weights.values()))  # calls of one module may have had different ones
                if which not in copies:
                    copies[which] = self._copies[seen.name, len(copies)].of(call.weights)
                call.weights = copies[which]
            if self._states.probe is not None:
                self._states.probe.keep()
        except Exception as error:
            self._latest = []
            self._mishaps.note("copies of the weights, from which the last one would be recorded", error)
