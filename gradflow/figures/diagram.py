"""What diagrams are drawn with: a canvas in units of its own, boxes, signs in circles, and arrows from edge to edge."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Circle, FancyBboxPatch, Patch, Polygon, Rectangle

from gradflow.figures.theme import BLACK, GREY, PAPER, shade, thin

Point = tuple[float, float]
RADIUS = 0.3  # of a sign
_STROKES = {"+": ((1, 0), (0, 1)), "×": ((0.7, 0.7), (0.7, -0.7))}
"""Half of each stroke of a sign; letters would not sit in the middle of their circle."""


class Node(NamedTuple):
    """A shape around (x, y), at whose edge arrows end."""

    x: float
    y: float
    width: float
    height: float
    round: bool = False

    def toward(self, point: Point) -> Point:
        """Where the straight line from the centre to a point crosses the edge.

        Example:
            >>> Node(0, 0, 2, 4).toward((5, 0)), Node(1, 1, 2, 2, round=True).toward((1, -9))
            ((1.0, 0.0), (1.0, 0.0))
        """
        dx, dy = point[0] - self.x, point[1] - self.y
        half_width, half_height = self.width / 2, self.height / 2
        if self.round:
            share = 1 / np.hypot(dx / half_width, dy / half_height)
        else:
            share = 1 / max(abs(dx) / half_width, abs(dy) / half_height)
        return float(self.x + share * dx), float(self.y + share * dy)


def canvas(figure: Figure, width: float, height: float, place: SubplotSpec | None = None) -> Axes:
    """Axes of this many units, as wide as high, with nothing around them; of the whole figure, or in a place of it."""
    axes = figure.add_subplot() if place is None else figure.add_subplot(place)
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return axes


def write(
    axes: Axes, x: float, y: float, text: str, side: str = "center", *, colour: str = BLACK, size: str = "medium"
) -> None:
    """A text whose middle, or `left` or `right` end, is at (x, y), over whatever is drawn there.

    The canvas has room for it, so that whether it is there moves nothing else.
    """
    axes.text(x, y, text, ha=side, va="center", color=shade(colour), fontsize=size, zorder=5, in_layout=False)


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str = "", *, colour: str = BLACK) -> Node:
    """A box around (x, y), empty but for a text in the middle."""
    axes.add_patch(
        _rounded(x, y, width, height, facecolor=shade(PAPER), edgecolor=shade(colour), linewidth=thin(0.6), zorder=3)
    )
    write(axes, x, y, text, colour=colour)
    return Node(x, y, width, height)


def fill(axes: Axes, node: Node, parts: Sequence[tuple[Rectangle, str]], edge: str = BLACK) -> None:
    """Colour parts of a box, within its rounded edge, which is drawn anew."""
    outline = _rounded(*node[:4], facecolor="none", edgecolor=shade(edge), linewidth=thin(0.6), zorder=4)
    axes.add_patch(outline)
    for part, colour in parts:
        part.set(facecolor=shade(colour), linewidth=0, zorder=3.5)
        axes.add_patch(part)
        part.set_clip_path(outline)


def _rounded(x: float, y: float, width: float, height: float, **kind: object) -> Patch:
    shape = "round,pad=0,rounding_size=0.14"
    return FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle=shape, **kind)  # type: ignore[arg-type]


def sign(axes: Axes, x: float, y: float, text: str, *, colour: str = BLACK) -> Node:
    """A circle around (x, y) with + or ×, or with a short text."""
    axes.add_patch(
        Circle((x, y), RADIUS, facecolor=shade(PAPER), edgecolor=shade(colour), linewidth=thin(0.6), zorder=3)
    )
    for dx, dy in _STROKES.get(text, ()):
        dx, dy = 0.55 * RADIUS * dx, 0.55 * RADIUS * dy
        axes.plot([x - dx, x + dx], [y - dy, y + dy], color=shade(colour), linewidth=thin(0.7), zorder=4)
    if text not in _STROKES:
        write(axes, x, y, text, colour=colour, size="small")
    return Node(x, y, 2 * RADIUS, 2 * RADIUS, round=True)


def arrow(
    axes: Axes, start: Node | Point, *way: Node | Point, colour: str = GREY, width: float = 0.7, head: bool = True
) -> None:
    """A line from edge to edge by way of corners, straight where these share a coordinate.

    Args:
        axes: a canvas.
        start: where it begins.
        *way: corners, and where it ends.
        colour: of the line.
        width: relative to that of the style's lines.
        head: whether it is an arrow at its end.
    """
    stops = [start, *way]
    points = [_centre(stop) for stop in stops]
    if isinstance(start, Node):
        points[0] = start.toward(points[1])
    if isinstance(stops[-1], Node):
        points[-1] = stops[-1].toward(points[-2])
    if head:
        points[-1] = _head(axes, points[-2], points[-1], colour, width)
    x, y = zip(*points, strict=True)
    axes.plot(
        x, y, color=shade(colour), linewidth=thin(width), solid_capstyle="butt", solid_joinstyle="round", zorder=2
    )


def _head(axes: Axes, before: Point, tip: Point, colour: str, width: float) -> Point:
    """The point of an arrow, exactly at its end; where the line may end in it unseen."""
    length, half = 0.17 + 0.09 * width, 0.09 + 0.055 * width
    along = np.subtract(tip, before) / np.hypot(*np.subtract(tip, before))
    base = np.array(tip) - length * along
    across = half * np.array((-along[1], along[0]))
    axes.add_patch(Polygon([base + across, tip, base - across], color=shade(colour), linewidth=0, zorder=2))
    inside = base + 0.2 * length * along
    return float(inside[0]), float(inside[1])


def junction(axes: Axes, x: float, y: float, colour: str = GREY) -> None:
    """A dot where a line divides."""
    axes.add_patch(Circle((x, y), 0.075, color=shade(colour), linewidth=0, zorder=2.5))


def pointer(axes: Axes, x: float, y: float, colour: str = PAPER) -> None:
    """A small triangle from what was to what is."""
    corners = [(x - 0.08, y - 0.12), (x + 0.1, y), (x - 0.08, y + 0.12)]
    axes.add_patch(Polygon(corners, facecolor=shade(colour), edgecolor=shade(BLACK), linewidth=thin(0.3), zorder=5))


def band(axes: Axes, points: Sequence[Point], colour: str, width: float = 7.0) -> None:
    """A broad pale line behind a path, which picks it out."""
    x, y = zip(*points, strict=True)
    pale = mixed(colour, 0.22)
    axes.plot(x, y, color=pale, linewidth=thin(width), solid_capstyle="butt", zorder=1)


def mixed(colour: str, share: float) -> str:
    """A colour with the ground: all of it at 1, the ground, such as white, at 0.

    Example:
        >>> mixed("#000000", 0.25)
        '#bfbfbf'
    """
    ground, own = (np.array(to_rgb(shade(tone))) for tone in (PAPER, colour))
    return to_hex(ground + share * (own - ground))


def _centre(stop: Node | Point) -> Point:
    return (stop.x, stop.y) if isinstance(stop, Node) else stop
