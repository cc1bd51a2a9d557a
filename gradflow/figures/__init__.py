"""Figures that explain recorded gradients: finished numbers in, one figure out.

Plot functions take what :mod:`gradflow.analysis` or :mod:`gradflow.theory` returned and return a figure; they compute,
change and save nothing. :func:`save` writes a figure with its numbers and the checks of its claims. :func:`draw` makes
one of a run or a sweep by its name, :func:`draw_all` writes all; `EXACT` says how a table of the theory is checked and
drawn. Animate functions do the same for figures that move, which :func:`save_animation` writes; `ANIMATIONS` says of
what they are made. :func:`make` checks and draws any of them.

Each figure is a folder here that nothing else names, see :mod:`gradflow.figures.room`. Names are loaded when first
used.
"""

from importlib import import_module
from typing import Any

from gradflow.figures.room import of_its_table, rooms

_HOMES = {
    "ANIMATIONS": "gallery",
    "EXACT": "gallery",
    "GALLERY": "gallery",
    "PICTURES": "gallery",
    "Animation": "animation",
    "deck": "output",
    "draw": "single",
    "draw_all": "gallery",
    "gallery": "gallery",
    "make": "gallery",
    "save": "output",
    "save_animation": "animation",
    "style": "theme",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted([*_HOMES, *(drawing for room in rooms().values() for drawing in room.drawings)])
    if name in _HOMES:
        module = import_module(f"gradflow.figures.{_HOMES[name]}")
        return module if name == _HOMES[name] else getattr(module, name)
    part, _, figure = name.partition("_")
    if part in ("plot", "animate") and figure in rooms() and name in rooms()[figure].drawings:
        return of_its_table(getattr(rooms()[figure].part(part), name), figure)
    raise AttributeError(f"module 'gradflow.figures' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __getattr__("__all__")
