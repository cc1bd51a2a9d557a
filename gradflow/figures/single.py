"""One figure of a log, by its name: at the prompt, in a notebook."""

from typing import Any

from gradflow.analysis.runs import runs_of
from gradflow.checks import check_name
from gradflow.figures.gallery import GALLERY, Made, make
from gradflow.figures.theme import check_look


def draw(name: str, source: Any, *, lang: str = "en", context: str = "slide") -> Made:
    """Draw one figure of a log: its table, the checks of its claims, the picture.

    Runs of which the figure shows one kind alone (with their clipping, say) are not told apart here, as
    :func:`draw_all` does; give those that belong together.

    Args:
        name: Out of `GALLERY`, such as "gradient_by_lag".
        source: A run, a sweep, or a sequence of runs.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Returns:
        The figure with its numbers and checks; a notebook shows it, and its method `save` writes all of it.

    Raises:
        ValueError: An unknown figure, language or context; or these runs have not what it shows.
        TypeError: The source is none.

    Example:
        ``gradflow.figures.draw("gradient_by_lag", gradflow.open_run("outputs/my-run"), lang="zh").save("by_lag")``
    """
    check_name("name", name, GALLERY)
    check_look(lang, context)
    entry = GALLERY[name]
    return make(entry, entry.analyse(source), runs=runs_of(source), lang=lang, context=context)
