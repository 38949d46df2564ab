"""One connection: GET /health, GET /info, POST /flow; every mistake gets one line of JSON."""

import sys
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from pwc_exp.errors import UserError
from pwc_exp.serving.answers import ANSWERS, Answer, as_text
from pwc_exp.serving.frames import read_frames
from pwc_exp.serving.limits import Refusal

CHUNK = 2**16
METHODS = {"/health": "GET", "/info": "GET", "/flow": "POST"}


class Handler(BaseHTTPRequestHandler):
    """Answers one request, and closes the connection: a server that stops waits for no one idle."""

    server: Any  # FlowServer
    server_version = "pwc_exp"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """A client that is silent for longer is cut off."""
        super().setup()
        self.connection.settimeout(self.server.limits.seconds)

    def do_GET(self) -> None:
        """Answers what needs no body."""
        self._answer()

    def do_POST(self) -> None:
        """Answers with the flow."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """One line for each request."""
        print(f"{self.log_date_time_string()} {self.client_address[0]} {format % args}", flush=True)

    def _answer(self) -> None:
        status, headers = HTTPStatus.OK, {}
        try:
            answer = self._result(urlsplit(self.path).path)
        except Refusal as refusal:
            status, answer = refusal.status, as_text({"error": str(refusal)})
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                headers["Retry-After"] = "1"
        except UserError as error:
            status, answer = HTTPStatus.BAD_REQUEST, as_text({"error": str(error)})
        except Exception:
            traceback.print_exc(file=sys.stderr)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            answer = as_text({"error": "the server failed; its log says how"})
        self._send(status, answer, headers)

    def _result(self, path: str) -> Answer:
        if path not in METHODS:
            known = ", ".join(f"{method} {place}" for place, method in METHODS.items())
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is {known}. Received: {path}")
        if self.command != METHODS[path]:
            message = f"{path} takes {METHODS[path]}. Received: {self.command}"
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, message)
        match path:
            case "/health":
                return as_text({"status": "ok"})
            case "/info":
                return as_text(self.server.info)
            case _:
                return self._flow()

    def _flow(self) -> Answer:
        """The flow of the frames in the body, [H, W, 2], as the query asks for it."""
        wanted = parse_qs(urlsplit(self.path).query).get("as", ["flo"])[-1]
        if wanted not in ANSWERS:
            message = f"as must be one of {', '.join(ANSWERS)}. Received: {wanted}"
            raise Refusal(HTTPStatus.BAD_REQUEST, message)
        body = self._body()
        content_type = self.headers.get("Content-Type", "")
        with self.server.place():
            frames = read_frames(body, content_type, max_pixels=self.server.limits.max_pixels)
            flow = self.server.compute(*(frame[None] for frame in frames))[0]
            if not np.isfinite(flow).all():
                raise RuntimeError("the network's flow is not finite")
            return ANSWERS[wanted](flow)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refusal(
                HTTPStatus.LENGTH_REQUIRED, "Content-Length must say how long the body is"
            )
        limits = self.server.limits
        if int(length) > limits.max_bytes:
            message = f"a request must be at most {limits.max_bytes} bytes. Received: {length}"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        parts, missing = [], int(length)
        end = time.monotonic() + limits.seconds
        while missing:
            try:
                part = self.rfile.read1(min(missing, CHUNK))
            except TimeoutError:
                part = b""
            if not part or time.monotonic() > end:
                message = f"the body must arrive within {limits.seconds:g} s; {missing} bytes lack"
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, message)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _send(self, status: HTTPStatus, answer: Answer, headers: dict[str, str]) -> None:
        self.close_connection = True
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer.body)
        except OSError:
            self.log_message("the client has gone")
