"""One figure of a log, by its name: at the prompt, in a notebook."""

import os
from typing import Any

from gradflow.analysis.runs import runs_of
from gradflow.checks import check_name
from gradflow.figures.gallery import GALLERY, Made, make
from gradflow.figures.theme import check_look
from gradflow.runlog import open_sweep


def draw(name: str, source: Any, *, lang: str = "en", context: str = "slide", **options: Any) -> Made:
    """Draw one figure of a log: its table, the checks of its claims, the picture.

    Runs of which the figure shows one kind alone (with their clipping, say) are not told apart here, as
    :func:`draw_all` does; give those that belong together.

    Args:
        name: Out of `GALLERY`, such as "gradient_by_lag".
        source: A run, a sweep, a sequence of runs, or the folder of a run or of a sweep.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
        **options: title, caption, labels, palette, size, theme, step, as every plot function takes them.

    Returns:
        The figure with its numbers and checks; a notebook shows it, and its method `save` writes all of it.

    Raises:
        ValueError: An unknown figure, language, context, cell or colour; or these runs have not what it shows.
        FileNotFoundError: There is no run below the path.
        TypeError: The source is none, an option is unknown or of another kind.

    Example:
        ``gradflow.figures.draw("gradient_by_lag", gradflow.open_run("outputs/my-run"), lang="zh").save("by_lag")``
    """
    check_name("name", name, GALLERY)
    check_look(lang, context)
    entry = GALLERY[name]
    if isinstance(source, (str, os.PathLike)):
        source = open_sweep(source)
    return make(entry, entry.analyse(source), runs=runs_of(source), lang=lang, context=context, **options)
