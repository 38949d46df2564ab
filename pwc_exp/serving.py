"""The flow of two frames over HTTP: FastAPI and uvicorn around a network or an exported format.

`GET /openapi.json` describes the interface to programs, `GET /docs` to people; neither needs
anything from another host. Every refused request gets one line, {"error": "..."}.

Letters: H height, W width.
"""

import asyncio
import base64
import functools
import json
import signal
import socket
import struct
import threading
from enum import StrEnum, auto
from html import escape
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

import pwc_exp
from pwc_exp.config.commands import ServeConfig
from pwc_exp.data.formats.headers import read_header
from pwc_exp.data.formats.images import decode_frame
from pwc_exp.data.formats.io import FLO_MAGIC
from pwc_exp.errors import BusyError, UserError
from pwc_exp.export.formats import (
    CONVENTIONS,
    Runner,
    Shape,
    describe_network,
    engines_of,
    graph_runner,
    read_card,
)
from pwc_exp.flow.colour import flow_to_colour, to_bytes
from pwc_exp.weights import load_network

SMALL = Shape(1, 64, 64)  # of the pair that is estimated before the server starts
DECIMALS = 4  # of a pixel, in JSON
NAMES = ("frame1", "frame2")
JSON, FORM = "application/json", "multipart/form-data"
BYTES, PNG = "application/octet-stream", "image/png"


class Answer(StrEnum):
    """What the flow is sent as."""

    flo = auto()  # Middlebury's .flo
    png = auto()  # a picture in Middlebury's colours
    json = auto()  # nested lists


class Limits(NamedTuple):
    """Limits of one request."""

    max_bytes: int  # of its body
    max_pixels: int  # of one frame
    seconds: float  # until its headers are there, and then until its body is there
    waiting: int = 8  # requests that are computed or wait for it; more are refused


class Served(NamedTuple):
    """What computes the flow, and what `GET /info` says about it."""

    run: Runner
    info: dict[str, Any]


def serve(config: ServeConfig) -> None:
    """Serves a network until Ctrl-C or SIGTERM; requests in progress are answered first."""
    limits = Limits(int(config.max_megabytes * 1e6), config.max_pixels, config.timeout)
    served = _load(config)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family, backlog=32)
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise BusyError(f"{address} is not available: {error.strerror}") from error
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after its end
        signal.signal(number, lambda *_: None)
    port = listener.getsockname()[1]
    print(f"serving {served.info['format']} at http://{config.host}:{port}/flow", flush=True)
    make_server(served, limits).run([listener])


def make_server(served: Served, limits: Limits) -> uvicorn.Server:
    """An HTTP server, which `run([socket])` starts and `should_exit = True` ends."""
    connection: Any = functools.partial(_Connection, seconds=limits.seconds)
    app = make_app(served, limits)
    return uvicorn.Server(uvicorn.Config(app, http=connection, ws="none", lifespan="off"))


def make_app(served: Served, limits: Limits) -> FastAPI:
    """The application: /health, /info, /flow, /docs and /openapi.json."""
    # FastAPI's own pages load their scripts from another host.
    app = FastAPI(title="pwc_exp", version=pwc_exp.__version__, docs_url=None, redoc_url=None)
    for kind in (StarletteHTTPException, RequestValidationError, UserError, Exception):
        app.add_exception_handler(kind, _refuse)
    compute = _Computation(served.run, limits)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers also while a flow is computed."""
        return {"status": "ok"}

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The network, its weights and its conventions."""
        return served.info

    @app.post("/flow", response_class=Response, openapi_extra=_FLOW_SCHEMA)
    async def flow(
        request: Request, answer: Annotated[Answer, Query(alias="as")] = Answer.flo
    ) -> Response:
        """The flow from frame1 to frame2 in pixels, (x right, y down)."""
        files = await read_files(request, limits)
        return await run_in_threadpool(compute, files, answer)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()))

    return app


class _Computation:
    """Computes one flow at a time; a few requests may wait for their turn."""

    def __init__(self, run: Runner, limits: Limits) -> None:
        self._run = run
        self._max_pixels = limits.max_pixels
        self._places = threading.BoundedSemaphore(limits.waiting)
        self._turn = threading.Lock()

    def __call__(self, files: dict[str, bytes], answer: Answer) -> Response:
        if not self._places.acquire(blocking=False):
            raise HTTPException(503, "too many requests; try again", {"Retry-After": "1"})
        try:
            frames = decode(files, max_pixels=self._max_pixels)
            with self._turn:
                flow = self._run(*(frame[None] for frame in frames))[0]
        finally:
            self._places.release()
        if not np.isfinite(flow).all():
            raise RuntimeError("the network's flow is not finite")
        return encode(flow, answer)


class _Connection(H11Protocol):
    """Closes a connection whose first request does not arrive in time; uvicorn would wait."""

    def __init__(self, *args: Any, seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds = seconds

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self._seconds, lambda: self.cycle or transport.close())


async def read_files(request: Request, limits: Limits) -> dict[str, bytes]:
    """The image files of a request, {"frame1": ..., "frame2": ...}.

    Raises:
        HTTPException: the body is too large, too slow, of unknown length or type, or malformed.
    """
    length = request.headers.get("Content-Length", "")
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not length.isdecimal():
        raise HTTPException(411, "Content-Length must be given")
    if int(length) > limits.max_bytes:
        received = f"Received: {length}"
        raise HTTPException(413, f"a request must be at most {limits.max_bytes} bytes. {received}")
    try:
        body = await asyncio.wait_for(request.body(), limits.seconds)
    except (TimeoutError, ClientDisconnect):
        message = f"the {length} bytes of the body must arrive within {limits.seconds:g} s"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    if kind not in (JSON, FORM):
        raise HTTPException(415, f"Content-Type must be {JSON} or {FORM}. Received: {kind}")
    try:
        if kind == JSON:
            values = json.loads(body)
            return {name: base64.b64decode(values[name], validate=True) for name in NAMES}
        async with request.form(max_files=len(NAMES), max_fields=len(NAMES)) as form:
            return {name: await form[name].read() for name in NAMES}  # type: ignore[union-attr]
    except KeyError as error:
        missing = f"Missing: {error.args[0]}"
        raise HTTPException(400, f"frame1 and frame2 must be given. {missing}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        message = f'JSON {{"frame1": base64 of an image file, "frame2": ...}} or two files; {error}'
        raise HTTPException(400, f"The body must be {message}") from None


def decode(files: dict[str, bytes], *, max_pixels: int) -> list[np.ndarray]:
    """Two frames of one size, uint8 [H, W, 3] each, RGB.

    Raises:
        HTTPException, DataError: a frame of more than `max_pixels`, no image, or of another size.
    """
    frames = []
    for name, content in files.items():
        height, width = read_header(Path(name), content, len(content)).size
        if height * width > max_pixels:
            received = f"Received: {height} x {width}"
            raise HTTPException(413, f"{name} must have at most {max_pixels} pixels. {received}")
        frames.append(to_bytes(decode_frame(Path(name), content)))
    if frames[0].shape != frames[1].shape:
        sizes = " and ".join(f"{frame.shape[0]} x {frame.shape[1]}" for frame in frames)
        message = f"Both frames must be of one size (height x width). Received: {sizes}"
        raise HTTPException(400, message)
    return frames


def encode(flow: np.ndarray, answer: Answer) -> Response:
    """`flow` [H, W, 2], in pixels, as it was asked for."""
    height, width, _ = flow.shape
    match answer:
        case Answer.flo:
            head = FLO_MAGIC + struct.pack("<ii", width, height)
            return Response(head + flow.astype("<f4").tobytes(), media_type=BYTES)
        case Answer.png:
            return Response(tf.io.encode_png(flow_to_colour(flow)).numpy(), media_type=PNG)
        case Answer.json:
            about = {"height": height, "width": width, "units": "pixels", "order": "x, y"}
            return JSONResponse({**about, "flow": np.round(flow.astype("f8"), DECIMALS).tolist()})


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """One line of JSON for every error; the details of a bug are only in the log."""
    headers = getattr(error, "headers", None)
    match error:
        case RequestValidationError():
            (first, *_) = error.errors()
            status, message = 400, f"{first['loc'][-1]}: {first['msg']}. Received: {first['input']}"
        case UserError():
            status, message = 400, str(error)
        case StarletteHTTPException(status_code=404):
            status = 404
            message = f"there is GET /health, GET /info, POST /flow. Received: {request.url.path}"
        case StarletteHTTPException(status_code=405):
            status = 405
            message = (
                f"{request.url.path} takes {(headers or {})['Allow']}. Received: {request.method}"
            )
        case StarletteHTTPException():
            status, message = error.status_code, error.detail
        case _:
            status, message = 500, "the server failed; see its log"
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


def _load(config: ServeConfig) -> Served:
    """The network, run once: what cannot run ends the command, not a request."""
    shape = SMALL
    if config.exported is not None:
        folder = Path(config.exported)
        info = read_card(folder)
        served = Served(next(iter(engines_of(folder).values())), info)
        if info["shapes"] != "any":
            shape = Shape(*info["shapes"][0])
    else:
        network = load_network(
            run=config.run,
            weights=config.weights,
            model=config.model,
            precision=config.precision.policy,
        )
        info = {
            "format": f"{network.source}",
            "precision": network.model.dtype_policy.name,
            **CONVENTIONS,
            **describe_network(network),
        }
        served = Served(graph_runner(network.model), info)
    black = np.zeros((*shape, 3), np.uint8)
    served.run(black, black)
    return served


_FILES = {
    "type": "object",
    "required": list(NAMES),
    "properties": {name: {"type": "string", "format": "binary"} for name in NAMES},
}
_FLOW_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Two images of one size: PNG, JPEG, BMP or PNM; in JSON, as base64.",
        "content": {FORM: {"schema": _FILES}, JSON: {"schema": _FILES}},
    },
    "responses": {"200": {"content": {BYTES: {}, PNG: {}, JSON: {}}}},
}


def _page(schema: dict[str, Any]) -> str:
    """A page with the endpoints of an OpenAPI schema, and a form to try them."""
    rows = "".join(
        f"<tr><td><code>{method.upper()} {path}</code><td>{escape(operation['description'])}"
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    inputs = "".join(f'<p>{name} <input type="file" name="{name}" required>' for name in NAMES)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>pwc_exp</title>
<style>body {{ font: 1rem/1.5 sans-serif; margin: 3rem }} td {{ padding-right: 2rem }}</style>
<h1>pwc_exp {escape(schema["info"]["version"])}</h1><table>{rows}</table>
<p><a href="openapi.json">openapi.json</a>, <a href="info">info</a>
<h2>Try it</h2><form action="flow?as=png" method="post" enctype="{FORM}">{inputs}
<p><button>Flow as a picture</button></form></html>"""
