"""The page that plays an animation: one file that holds everything, for any browser, without a network."""

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template

import numpy as np
from PIL import Image

from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import DARK, PAPER
from gradflow.figures.webfont import FAMILIES, font_face

_CLEAR = 255  # the one colour that images leave free
_HTML_LANG = {"en": "en", "zh": "zh-CN"}


def player(
    images: Sequence[Image.Image],
    iterations: Sequence[int],
    *,
    title: str,
    milliseconds: int,
    lang: str,
    theme: str = "light",
) -> str:
    """The page, with its images inside: the first, and of the others what differs from it.

    matplotlib's own player loads the pictures on its buttons from the network, and no two of its files are equal.

    Args:
        images: A frame each, all with the same palette of at most 255 colours.
        iterations: Of the frames.
        title: Of the page, and what is said in place of the image.
        milliseconds: Of a frame.
        lang: `en` or `zh`.
        theme: `light` or `dark`.
    """
    labels = Labels(lang)
    words = {
        "play": labels("player.play"),
        "pause": labels("player.pause"),
        "back": labels("player.back"),
        "forward": labels("player.forward"),
        "speed": labels("player.speed"),
        "keys": labels("player.keys"),
        "iteration": labels("axis.iteration"),
    }
    template = Template((files("gradflow.figures") / "player.html").read_text(encoding="utf-8"))
    return template.substitute(
        {key: escape(word) for key, word in words.items()},
        font=font_face("".join([title, *words.values()]), lang),
        families=FAMILIES,
        lang=_HTML_LANG[lang],
        theme=theme,
        ground=PAPER if theme == "light" else DARK[PAPER],
        title=escape(title),
        width=images[0].width,
        height=images[0].height,
        first=_encoded(images[0]),
        frames=json.dumps([_encoded(_over(image, images[0])) for image in images], indent=0),
        iterations=json.dumps(list(iterations)),
        words=json.dumps(words, ensure_ascii=False),
        milliseconds=milliseconds,
    )


def _over(image: Image.Image, first: Image.Image) -> Image.Image:
    """An image that is transparent where it is equal to the first."""
    indices = np.asarray(image)
    over = Image.fromarray(np.where(indices == np.asarray(first), _CLEAR, indices).astype(np.uint8))
    palette = image.getpalette() or []
    over.putpalette(palette + [0] * (3 * (_CLEAR + 1) - len(palette)))
    over.info["transparency"] = _CLEAR
    return over


def _encoded(image: Image.Image) -> str:
    """An image as a data address."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
