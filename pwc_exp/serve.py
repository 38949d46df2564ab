"""`python -m pwc_exp.serve`: the flow of two frames over HTTP, with FastAPI and uvicorn.

`GET /openapi.json` describes the interface to programs, `GET /docs` to people; neither needs
anything from another host. Every refused request gets one line, {"error": "..."}. What imports
TensorFlow is imported in functions, once the arguments are checked.

Letters: H height, W width.
"""

import asyncio
import base64
import functools
import json
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from pwc_exp import __version__, cli
from pwc_exp.config.commands import ServeConfig
from pwc_exp.errors import BusyError, UserError

if TYPE_CHECKING:
    import numpy as np

    from pwc_exp.export.formats import Runner

WAITING = 8  # requests that are computed or wait for it; more are refused
SMALL = (1, 64, 64)  # batch, H and W of the pair that is estimated before the server starts
Answer = Literal["flo", "png", "json"]  # Middlebury's .flo, a picture in its colours, nested lists
NAMES = ("frame1", "frame2")
JSON, FORM = "application/json", "multipart/form-data"
BYTES, PNG = "application/octet-stream", "image/png"
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


def main() -> None:
    """Runs `serve`."""
    cli.run("serve", "pwc_exp.serve:serve")


def serve(config: ServeConfig) -> None:
    """Serves a network until Ctrl-C or SIGTERM; requests in progress are answered first."""
    cli.import_quietly("pwc_exp.export.formats")
    run, info = load(config)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        address = f"{config.host}:{config.port}"
        raise BusyError(f"{address} is not available: {error.strerror}") from error
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after its end
        signal.signal(number, lambda *_: None)
    port = listener.getsockname()[1]
    print(f"serving {info['format']} at http://{config.host}:{port}/flow", flush=True)
    make_server(run, info, config).run([listener])


def load(config: ServeConfig) -> "tuple[Runner, dict[str, Any]]":
    """What computes the flow, and what `GET /info` says about it.

    It is run once: what cannot run ends the command, not a request.
    """
    import numpy as np

    from pwc_exp.export import formats
    from pwc_exp.weights import load_network

    shape = SMALL
    if config.exported is not None:
        folder = Path(config.exported)
        info = formats.read_card(folder)
        run = next(iter(formats.engines_of(folder).values()))
        if info["shapes"] != "any":
            shape = info["shapes"][0]
    else:
        network = load_network(
            run=config.run,
            weights=config.weights,
            model=config.model,
            precision=config.precision.policy,
        )
        run = formats.graph_runner(network.model)
        info = {
            "format": str(network.source),
            "precision": network.model.dtype_policy.name,
            **formats.CONVENTIONS,
            **formats.describe_network(network),
        }
    black = np.zeros((*shape, 3), np.uint8)
    run(black, black)
    return run, info


def make_server(run: "Runner", about: dict[str, Any], config: ServeConfig) -> uvicorn.Server:
    """An HTTP server, which `run([socket])` starts and `should_exit = True` ends."""
    connection: Any = functools.partial(_Connection, seconds=config.timeout)
    app = make_app(run, about, config)
    return uvicorn.Server(uvicorn.Config(app, http=connection, ws="none", lifespan="off"))


class _Connection(H11Protocol):
    """Closes a connection whose first request does not arrive in time; uvicorn would wait."""

    def __init__(self, *args: Any, seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds = seconds

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self._seconds, lambda: self.cycle or transport.close())


def make_app(run: "Runner", about: dict[str, Any], config: ServeConfig) -> FastAPI:
    """The application: /health, /info, /flow, /docs and /openapi.json."""
    # FastAPI's own pages load their scripts from another host.
    app = FastAPI(title="pwc_exp", version=__version__, docs_url=None, redoc_url=None)
    for kind in (HTTPException, RequestValidationError, UserError, Exception):
        app.add_exception_handler(kind, _refuse)
    places, turn = asyncio.Semaphore(WAITING), asyncio.Lock()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers also while a flow is computed."""
        return {"status": "ok"}

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The network, its weights and its conventions."""
        return about

    @app.post("/flow", response_class=Response, openapi_extra=_FLOW_SCHEMA)
    async def flow(
        request: Request, answer: Annotated[Answer, Query(alias="as")] = "flo"
    ) -> Response:
        """The flow from frame1 to frame2 in pixels, (x right, y down)."""
        files = await read_files(request, config)
        if places.locked():
            raise HTTPException(503, "too many requests; try again", {"Retry-After": "1"})
        async with places:
            frames = await run_in_threadpool(decode, files, max_pixels=config.max_pixels)
            async with turn:  # one flow at a time
                flows = await run_in_threadpool(run, *(frame[None] for frame in frames))
            return await run_in_threadpool(encode, flows[0], answer)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        from pwc_exp.report.pages import render

        page = render("server.html.j2", title="pwc_exp", schema=app.openapi(), names=NAMES)
        return HTMLResponse(page)

    return app


async def read_files(request: Request, config: ServeConfig) -> dict[str, bytes]:
    """The image files of a request, {"frame1": ..., "frame2": ...}.

    Raises:
        HTTPException: the body is too large, too slow, of unknown length or type, or malformed.
    """
    most = int(config.max_megabytes * 1e6)
    length = request.headers.get("Content-Length", "")
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not length.isdecimal():
        raise HTTPException(411, "Content-Length must be given")
    if int(length) > most:
        raise HTTPException(413, f"a request must be at most {most} bytes. Received: {length}")
    try:
        body = await asyncio.wait_for(request.body(), config.timeout)
    except (TimeoutError, ClientDisconnect):
        message = f"the {length} bytes of the body must arrive within {config.timeout:g} s"
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
        message = f"frame1 and frame2 must be given. Missing: {error.args[0]}"
        raise HTTPException(400, message) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        message = f'JSON {{"frame1": base64 of an image file, "frame2": ...}} or two files; {error}'
        raise HTTPException(400, f"The body must be {message}") from None


def decode(files: dict[str, bytes], *, max_pixels: int) -> "list[np.ndarray]":
    """Two frames of one size, uint8 [H, W, 3] each, RGB.

    Raises:
        HTTPException, DataError: a frame of more than `max_pixels`, no image, or of another size.
    """
    from pwc_exp.data.formats.headers import read_header
    from pwc_exp.data.formats.images import decode_frame
    from pwc_exp.flow.colour import to_bytes

    frames = []
    for name, content in files.items():
        height, width = read_header(Path(name), content, len(content)).size
        if height * width > max_pixels:
            received = f"Received: {height} x {width}"
            raise HTTPException(413, f"{name} must have at most {max_pixels} pixels. {received}")
        frames.append(to_bytes(decode_frame(Path(name), content)))
    if frames[0].shape != frames[1].shape:
        sizes = " and ".join(f"{frame.shape[0]} x {frame.shape[1]}" for frame in frames)
        must = "Both frames must be of one size (height x width)"
        raise HTTPException(400, f"{must}. Received: {sizes}")
    return frames


def encode(flow: "np.ndarray", answer: Answer) -> Response:
    """`flow` [H, W, 2], in pixels, as it was asked for; refuses one that is not finite."""
    import numpy as np
    import tensorflow as tf

    from pwc_exp.data.formats.io import FLO_MAGIC
    from pwc_exp.flow.colour import flow_to_colour

    if not np.isfinite(flow).all():
        raise RuntimeError("the network's flow is not finite")
    height, width, _ = flow.shape
    match answer:
        case "flo":
            head = FLO_MAGIC + struct.pack("<ii", width, height)
            return Response(head + flow.astype("<f4").tobytes(), media_type=BYTES)
        case "png":
            return Response(tf.io.encode_png(flow_to_colour(flow)).numpy(), media_type=PNG)
        case "json":
            about = {"height": height, "width": width, "units": "pixels", "order": "x, y"}
            return JSONResponse({**about, "flow": flow.astype("f8").round(4).tolist()})


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """One line of JSON for every error; the details of a bug are only in the log."""
    status, headers = getattr(error, "status_code", 400), getattr(error, "headers", None)
    match error:
        case RequestValidationError():
            first = error.errors()[0]
            message = f"{first['loc'][-1]}: {first['msg']}. Received: {first['input']}"
        case HTTPException(status_code=404):
            message = f"there is GET /health, GET /info, POST /flow. Received: {request.url.path}"
        case HTTPException(status_code=405, headers={"Allow": allowed}):
            message = f"{request.url.path} takes {allowed}. Received: {request.method}"
        case HTTPException():
            message = error.detail
        case UserError():
            message = str(error)
        case _:
            status, message = 500, "the server failed; see its log"
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


if __name__ == "__main__":
    main()
