"""Shows the live page, whose numbers are computed while one looks, or writes it as a file that has them inside."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from gradflow.commands.arguments import drawing_processes
from gradflow.commands.columns import told
from gradflow.commands.words import LANGUAGES, OneOf, Words, number, word

EXAMPLES = (
    "gradflow live                      the page, in the browser",
    "gradflow live lang=zh port=8900 open=no",
    "gradflow live out=live.html        a file that needs no server and can be put anywhere",
)
MISSING = (
    "live: expected the extra `live`, which has the server, got none; pip install 'gradflow-rnn[live]', or out=FILE"
)


@click.command("live", cls=Words, examples=EXAMPLES)
@word("lang", "auto", "Language; auto is the browser's.", ("auto", *LANGUAGES))
@word("port", "8800", "Where it listens, on this computer alone; 0 is any port that is free.")
@click.option("--open", "open", default="yes", show_default=True, type=OneOf(("yes", "no")), help="Open the browser.")
@word("out", "", "Write a file (HTML) instead, with all numbers inside; it takes up to ten minutes.")
def command(lang: str, port: str, open: str, out: str) -> None:
    """Show gradients that answer: sliders for cell, gain or forget bias, T and clipping; a run to step, names to type.

    All is computed on this computer while one looks, and nothing leaves it. Ctrl-C ends it.
    """
    if out:
        _write(out, lang)
    else:
        _serve(lang, number(port), open == "yes")


def _write(out: str, lang: str) -> None:
    from gradflow.live import write_live

    _one_thread()
    try:
        print(told(ValueError(str(write_live(out, lang, processes=drawing_processes(), progress=True)))))
    except (OSError, ValueError) as error:
        sys.exit(told(error))


def _serve(lang: str, port: object, opens: bool) -> None:
    try:
        from gradflow.live.app import HOST, listen, server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "anyio", "h11"):
            raise
        sys.exit(MISSING)
    _one_thread()
    try:
        whole = int(port) if isinstance(port, float) and port.is_integer() else port
        listening = listen(whole)  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        sys.exit(error.strerror if isinstance(error, OSError) and error.strerror else told(error))
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    if opens:
        import webbrowser

        webbrowser.open(address)
    with suppress(KeyboardInterrupt):
        server(lang).run(sockets=[listening])


def _one_thread() -> None:
    """Networks this small gain nothing from more."""
    import torch

    torch.set_num_threads(1)
