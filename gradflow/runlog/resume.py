"""Going on with a run: what must be as it was, and what its log loses.

A run is resumed from a checkpoint that has k updates behind it. The log may know more (the run went on after the
checkpoint) or less (it was killed before its last rows were flushed). Rows of iterations from k on are removed.
"""

import json
import logging
from pathlib import Path
from typing import Any

from gradflow.runlog.documents import note_resumption, plain, read_description
from gradflow.runlog.parts import check_parts, has_parts, list_parts, trim_parts
from gradflow.runlog.proof import TOLERANCE
from gradflow.runlog.reader import columns_in
from gradflow.runlog.schema import TABLES, Label

log = logging.getLogger(__name__)

_MAY_DIFFER = {"device", "threads", "flush_seconds", TOLERANCE}


def first_iteration(path: Path, resume: int | bool) -> int | None:
    """The iteration at which a run goes on; None if a new run starts in this folder.

    Args:
        path: the run folder.
        resume: updates behind the checkpoint, or True for those in the log. With 0 or True nothing need be there.

    Raises:
        ValueError: `resume` is neither.
        FileNotFoundError: no run is there, although `resume` says that it has got somewhere.
    """
    if not isinstance(resume, int) or resume < 0:
        raise ValueError(
            f"resume: expected the number of updates behind the checkpoint, or True for all in the log, got {resume!r}"
        )
    root = path / "gradients"
    if resume is True:
        scalars = list_parts(root, "scalars")
        return scalars[-1].last + 1 if scalars else 0 if has_parts(root) else None
    if resume and not (path / "run.json").is_file():
        raise FileNotFoundError(
            f"resume: expected a recorded run of at least {resume} iterations in {path}, found none; check the path, "
            f"or leave resume out to start a new run"
        )
    return int(resume) if resume or has_parts(root) else None


def check_resumable(path: Path, meta: dict, columns: dict[str, dict[str, Label]]) -> None:
    """Raise unless a run was recorded with the same options and columns, and can be read.

    Raises:
        ValueError: naming what differs, or as :class:`Unreadable` the file that is damaged.
    """
    before = read_description(path)
    for name in sorted(meta.keys() - _MAY_DIFFER):
        old, new = (json.dumps(m.get(name), sort_keys=True, default=plain) for m in (before, meta))
        if old != new:
            raise ValueError(
                f"resume: expected {name}={old} as {path} was recorded, got {new}; resume with the same, "
                f"or record into another folder"
            )
    for table in TABLES:
        old_names, new_names = set(columns_in([before], table)), set(columns[table])
        if old_names != new_names:
            gone, added = sorted(old_names - new_names), sorted(new_names - old_names)
            raise ValueError(
                f"resume: expected the columns of table {table!r} that {path} has, got "
                + " and ".join([f"none of {', '.join(gone)}"] * bool(gone) + [f"{', '.join(added)} more"] * bool(added))
                + "; resume with the same model, scalars= and quantities=, or record into another folder"
            )
        check_parts(path / "gradients", table)


def trim(path: Path, start: int, meta: dict, config: dict | None, seed: int | None, *, durable: bool) -> None:
    """Remove what the log holds from iteration `start` on, and note the resumption in `run.json`.

    The scalars go first: as ever, an iteration that is among them is complete in every table.
    """
    root = path / "gradients"
    parts = list_parts(root, "scalars")
    known = parts[-1].last + 1 if parts else 0
    if known > start:
        log.warning(
            "%s: resumed at iteration %d: iterations %d to %d of the log are removed, to be recorded anew",
            path, start, start, known - 1,
        )  # fmt: skip
    for table in ("scalars", *(table for table in TABLES if table != "scalars")):
        trim_parts(root, table, start, durable=durable)
    before = read_description(path)
    facts: dict[str, Any] = {name: meta[name] for name in sorted(_MAY_DIFFER & meta.keys())}
    facts |= {name: new for name, new in (("config", config), ("seed", seed)) if new not in (None, before.get(name))}
    if known < start:
        facts["missing"] = [known, start - 1]
        log.warning(
            "%s: resumed at iteration %d, but the log ends before %d: what lies between was lost when the run was "
            "killed; call recorder.flush() beside saving a checkpoint",
            path, start, known,
        )  # fmt: skip
    note_resumption(path, start, facts)
