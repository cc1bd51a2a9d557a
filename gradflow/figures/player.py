"""The page that plays an animation: one file that holds everything, for any browser, without a network."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template

from PIL import Image

from gradflow.figures.catalogue import Labels

_HTML_LANG = {"en": "en", "zh": "zh-CN"}


def player(
    images: Iterable[Image.Image], iterations: Sequence[int], *, title: str, milliseconds: int, lang: str
) -> str:
    """The page, with its images inside.

    matplotlib's own player loads the pictures on its buttons from the network, and no two of its files are equal.

    Args:
        images: A frame each; those with a palette make it small.
        iterations: Of the frames.
        title: Of the page, and what is said in place of the images.
        milliseconds: Of a frame.
        lang: `en` or `zh`.
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
        lang=_HTML_LANG[lang],
        title=escape(title),
        frames=json.dumps([_encoded(image) for image in images], indent=0),
        iterations=json.dumps(list(iterations)),
        words=json.dumps(words, ensure_ascii=False),
        milliseconds=milliseconds,
    )


def _encoded(image: Image.Image) -> str:
    """An image as a data address."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
