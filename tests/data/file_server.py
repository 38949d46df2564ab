"""A web server on this machine that can misbehave in the ways that servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class File:
    """How one address answers."""

    content: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True  # sends parts
    if_range: bool = True  # sends all of it when the version is not the one asked for
    length: int | None = None  # Content-Length that it claims; None: the true one
    cuts: list[int] = field(default_factory=list)  # bytes after which answers end, in turn
    statuses: list[int] = field(default_factory=list)  # answers before it works, in turn
    location: str | None = None  # where it sends one on
    content_type: str = "application/octet-stream"
    silent: threading.Event | None = None  # until it is set, sends headers and no content


class Server:
    """Files by path, and what was asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, File] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers

    def put(self, path: str, content: bytes = b"", **how: Any) -> str:
        """Serves `content` and returns its address."""
        self.files[path] = File(content, **how)
        return self.url + path

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, _, headers in self.requests]


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(("GET", self.path, dict(self.headers)))
            _answer(self, server.files.get(self.path))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, file: File | None) -> None:
    if file is None:
        handler.send_error(404)
    elif file.statuses:
        handler.send_error(file.statuses.pop(0))
    elif file.location is not None:
        handler.send_response(302)
        handler.send_header("Location", file.location)
        handler.end_headers()
    else:
        _send(handler, file)


def _send(handler: BaseHTTPRequestHandler, file: File) -> None:
    total, start, end = len(file.content), 0, len(file.content)
    asked = handler.headers.get("Range")
    version = handler.headers.get("If-Range")
    partial = bool(asked) and file.ranges and (version in (None, file.etag) or not file.if_range)
    if partial:
        first, _, last = str(asked).removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, total) if last else total
        if start >= total:
            handler.send_error(416)
            return
    handler.send_response(206 if partial else 200)
    handler.send_header("Content-Type", file.content_type)
    if partial:
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
    handler.send_header("Content-Length", str(file.length or end - start))
    if file.etag:
        handler.send_header("ETag", file.etag)
    handler.end_headers()
    if file.silent is not None:
        handler.wfile.flush()
        file.silent.wait(10)
        return
    probing = partial and end - start == 1
    cut = file.cuts.pop(0) if file.cuts and not probing else end - start
    handler.wfile.write(file.content[start:end][:cut])
