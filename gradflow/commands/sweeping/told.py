"""What Hydra and OmegaConf find wrong, in one line: argument, expected, what came, next move."""

import traceback
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from gradflow.checks import shown

NOISE = ("full_key", "reference_type", "object_type", "See http")


def told(error: Exception) -> str:
    """An error that Hydra or OmegaConf raised, in one line that names the setting; any other as it is."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error)
    if isinstance(error, OSError) and error.errno:
        return f"{error}; choose another folder by hydra.run.dir=PATH, in a sweep hydra.sweep.dir=PATH"
    if str(error).startswith("Unable to configure handler"):
        return f"hydra/job_logging, hydra/hydra_logging: {error} ({error.__cause__}); leave them out"
    causes = [cause for cause in (error, error.__cause__) if isinstance(cause, OmegaConfBaseException)]
    if not causes and not isinstance(error, HydraException):
        first = (str(error).splitlines() or [""])[0]
        kind = f"Hydra: {type(error).__name__}: {first}; HYDRA_FULL_ERROR=1 before the command shows where"
        return kind if is_of_hydra(error) else str(error)
    lines = map(str.strip, str(causes[-1] if causes else error).splitlines())
    words = " ".join(line for line in lines if line and not line.startswith(NOISE))
    if words.startswith(("Sweep parameters", "Ambiguous value for argument")):
        setting = words.split("'")[1]
        return f"{setting.partition('=')[0]}: expected one value, got {setting}; add -m for a sweep over its values"
    name = next((f"{cause.full_key}: " for cause in causes if cause.full_key), "")
    return f"{name}{words}; `gradflow train --cfg all` shows every setting"


def is_of_hydra(error: BaseException) -> bool:
    """Whether Hydra or OmegaConf raised it, of whatever type it is."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and bool({"hydra", "omegaconf"} & set(Path(frames[-1].filename).parts))


def _missing(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = [option for option in error.options or [] if option]
    near = get_close_matches(option, options, n=1)
    expected = f"one of {', '.join(options)}" if options else "a file in conf/"
    advice = f"did you mean {near[0]}?" if near else "choose another"
    return f"{group or option}: expected {expected}, got {shown(option)}; {advice}"
