"""The server of the live page: on the loopback alone, and for pages of its own alone."""

import errno
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gradflow.checks import whole_number
from gradflow.live.page import live_page
from gradflow.live.panels import Panels
from gradflow.live.training import names

HOST, PORT = "127.0.0.1", 8800
LONGEST = 16_384  # bytes of a question
POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


def app(lang: str) -> Starlette:
    """The application: the page at `/`, and at `/numbers` what it asks, a POST of ``{"panel": ..., "values": {...}}``.

    Other hosts' names are refused (a page elsewhere could have its own name lead here), and so are questions of pages
    from elsewhere.

    Args:
        lang: of the page, see :func:`gradflow.live.page.live_page`.
    """
    page, panels = live_page(lang), Panels()

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=POLICY)

    async def answer(request: Request) -> Response:
        try:
            question = await _question(request)
            table = await run_in_threadpool(panels, question.get("panel"), question.get("values"))
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 422, headers=POLICY)
        return JSONResponse(table, headers=POLICY)

    @asynccontextmanager
    async def while_it_runs(_: Starlette) -> AsyncIterator[None]:
        Thread(target=names, daemon=True).start()  # so that the first step of a run need not wait for them
        yield
        panels.close()

    return Starlette(
        routes=[Route("/", show), Route("/numbers", answer, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)],
        lifespan=while_it_runs,
    )


def listen(port: int) -> socket.socket:
    """A socket that listens on this computer alone.

    Args:
        port: 0 to 65535; 0 is any that is free.

    Raises:
        ValueError: no such port.
        OSError: it is taken, or may not be used.
    """
    whole_number("port", port, 0, most=65_535)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        why = "another program has" if taken else f"{error.strerror}:"
        raise OSError(
            error.errno, f"port: expected one that is free, {why} {port}; choose another by port={port + 1}, or port=0"
        ) from error
    return listening


def server(lang: str) -> uvicorn.Server:
    """What answers, on sockets that :func:`listen` returned, until it is interrupted: ``server(lang).run(sockets)``.

    Args:
        lang: of the page.
    """
    return uvicorn.Server(uvicorn.Config(app(lang), log_level="warning", access_log=False, timeout_graceful_shutdown=1))


async def _question(request: Request) -> dict[str, Any]:
    origin, own = request.headers.get("origin"), f"http://{request.headers['host']}"
    if origin not in (None, own):
        raise ValueError(f"origin: expected a page of this server, got {origin[:80]}")
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise ValueError("content-type: expected application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            raise ValueError(f"body: expected at most {LONGEST:,} bytes")
    question = json.loads(body)
    if not isinstance(question, dict):
        raise ValueError('body: expected {"panel": ..., "values": {...}}')
    return question
