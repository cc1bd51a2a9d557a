"""What an iteration adds to the log beside its scalars: rows of the states, proofs, spectra of the weights."""

import logging
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from gradflow.flow.added import Added
from gradflow.flow.calls import LayerCall, weights_known
from gradflow.flow.joining import Chain
from gradflow.flow.parts import grouped
from gradflow.flow.proof import CAUSES, failed, prove
from gradflow.flow.seen import Seen
from gradflow.flow.spectrum import spectrum_columns
from gradflow.flow.stepping import Marked
from gradflow.flow.unrolling import ChainCall
from gradflow.flow.watching import Watcher
from gradflow.recording.journal import Journal
from gradflow.recording.mishaps import Mishaps
from gradflow.recording.pooling import Pooled, pooled
from gradflow.recording.probe import ProbeRunner
from gradflow.recording.quantities import QUANTITIES
from gradflow.recording.rows import state_rows

log = logging.getLogger(__name__)


class States:
    """Records the states of one iteration after another.

    Args:
        path: the run folder, for warnings.
        watcher: of the layers.
        journal: to which the rows go.
        mishaps: what is missing is noted there.
        quantities: names.
        examples: how many of the batch, or "all".
        reduction: of the loss, "mean" or "sum".
        probe: runs a fixed batch in the place of those of training; None: there is none.

    Attributes:
        owed: a proof, and the quantities that are taken as seldom as spectra.
        probe: see above.
    """

    def __init__(
        self,
        path: Path,
        watcher: Watcher[list[tuple[int, Seen | Chain]]],
        journal: Journal,
        mishaps: Mishaps,
        quantities: list[str],
        examples: int | str,
        reduction: str,
        probe: ProbeRunner | None,
    ):
        self.owed, self.probe = True, probe
        self._path, self._watcher, self._journal, self._mishaps = path, watcher, journal, mishaps
        self._quantities, self._examples, self._reduction = quantities, examples, reduction
        self._probe_has_run = False
        self._warned: set[tuple[str, str]] = set()  # layers and identities

    def look_ahead(self, *, due: bool, with_spectra: bool) -> None:
        """Have the backward pass of the next iteration read if it is due, and all of it if a proof is owed."""
        self.owed = self.owed or with_spectra
        is_read = due and self.probe is None
        self._watcher.examples = ("all" if self.owed else self._examples) if is_read else None
        self._watcher.added = Added(self._watcher.used_beside) if is_read and self.owed else None

    def record(
        self, iteration: int, calls: list[tuple[int, Seen | Chain]], log_targets: float | None, log_scale: float,
        *, kept: bool = False,
    ) -> None:  # fmt: skip
        """The states of an iteration, and a proof if one is owed.

        Args:
            iteration: which one.
            calls: of it, numbered; of a probe others are made.
            log_targets: natural log of the number of terms in a mean-reduced loss; None: the batch size.
            log_scale: the same of the factor on the loss during backward.
            kept: it is the last iteration, which was not due, from what was kept of it.
        """
        added = Added() if kept else self._watcher.added  # of what was kept only the forward identity can be asked
        if self.probe is not None:
            added = Added(self._watcher.used_beside) if self.owed or kept else None
            calls, log_targets, log_scale = self._probe_calls(self.probe, kept, added), self.probe.log_targets, 0.0
        if any(seen.call.batch_size == 0 for _, seen in calls):
            self._mishaps.note(
                "the states", ValueError("expected at least one example, got a batch of none; leave it out")
            )
            return
        self._say_what_does_not_go_on(calls, iteration)
        quantities = [name for name in self._quantities if self.owed or kept or not QUANTITIES[name].with_spectra]
        watching, self._watcher.open = self._watcher.open, False  # marked steps are done again, with their modules
        try:
            with self._mishaps.survived("the states"):
                calls = pooled(calls)
                for number, seen in grouped(calls) if quantities else ():
                    with self._mishaps.survived(f"the states of {seen.name!r}"):
                        log_factor = self._log_factor(seen.call, log_targets) - log_scale
                        for table, columns in state_rows(seen, self._examples, quantities, log_factor):
                            self._journal.append(table, iteration, {"module": seen.name, "call": number, **columns})
        finally:
            self._watcher.open = watching and self._journal.error is None  # which ends the log
        if added is not None:
            with self._mishaps.survived("a proof"):
                self._prove(iteration, calls, added)
        self.owed = False

    def _say_what_does_not_go_on(self, calls: list[tuple[int, Seen | Chain]], iteration: int) -> None:
        """Say once of marked states that each of them is a sequence of its own."""
        steps: dict[str, list[int]] = defaultdict(list)
        for _, seen in calls:
            if isinstance(seen, Chain) and isinstance(seen.call.layer, Marked):
                steps[seen.name].append(seen.length)
        for name, lengths in steps.items():
            if len(lengths) > 1 and max(lengths) == 1 and (name, "single") not in self._warned:
                self._warned.add((name, "single"))
                log.warning(
                    "%s: %r was marked %d times at iteration %d, and none was computed from the one before, so that "
                    "each is a sequence of one step and nothing is seen along time; if a scan gives all steps at once, "
                    "step through them, or write the step as a gradflow.Cell in gradflow.Recurrent",
                    self._path, name, len(lengths), iteration,
                )  # fmt: skip

    def _prove(self, iteration: int, calls: list[tuple[int, Seen | Chain]], added: Added) -> None:
        """Ask whether what was recorded is what happened; say at once where it is not."""
        residuals = prove(calls, added)
        added.forget()
        for residual in residuals:
            self._journal.append("proof", iteration, residual.row())
        for identity, worst in failed(residuals).items():
            if (worst.module, identity) not in self._warned:
                self._warned.add((worst.module, identity))
                log.warning(
                    "%s: the record of %r failed its %s proof at iteration %d: layer %d, direction %d, call %d has a "
                    "residual of %.1e where %.0e is allowed, so its numbers are not those of the training; usual "
                    "causes: %s",
                    self._path, worst.module, identity, iteration, worst.layer, worst.direction, worst.call,
                    getattr(worst, identity), worst.tolerance, CAUSES[identity],
                )  # fmt: skip

    def _probe_calls(self, runner: ProbeRunner, kept: bool, added: Added | None) -> list[tuple[int, Seen | Chain]]:
        watching, self._watcher.open = self._watcher.open, False
        try:
            calls = runner.calls(kept=kept, examples="all" if added else self._examples, added=added)
        except Exception as error:
            if not self._probe_has_run:  # the arguments `probe` and `criterion` are wrong
                raise
            self._mishaps.note("the probe", error)
            return []
        finally:
            self._watcher.open = watching
        self._probe_has_run = True
        return calls

    def record_spectrum(self, iteration: int, calls: list[tuple[int, Seen | Chain]]) -> None:
        """The spectra of the weights of some calls."""
        for name, call in {seen.name: seen.call for _, seen in calls}.items():
            if not weights_known(call.layer):
                continue
            with self._mishaps.survived(f"the spectrum of {name!r}"):
                columns: dict[str, np.ndarray | str] = {"module": name, **spectrum_columns(call.layer, call.weights)}
                self._journal.append("spectrum", iteration, columns)

    def _log_factor(self, call: LayerCall | ChainCall, log_targets: float | None) -> float:
        if self._reduction == "sum":
            return 0.0
        if log_targets is not None:
            return log_targets
        return 0.0 if isinstance(call, Pooled) else math.log(call.batch_size)
