"""Files on web servers: what a server says of one, and how it is opened.

Only http and https, and never from https to http.
"""

from http import HTTPStatus
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from pwc_exp import __version__
from pwc_exp.errors import DataError, MissingInputError

_PASSING = {408, 425, 429, 500, 502, 503, 504}


class Remote(NamedTuple):
    """What a server says of a file."""

    size: int | None  # bytes
    etag: str | None
    modified: str | None  # the server's own words
    resumable: bool = False  # whether it sends a part of the file when asked for one


class PassingError(Exception):
    """What may go well at the next attempt. The message: what happened."""


class ChangedError(Exception):
    """The part on disk is of another file than the server's."""


def probe(url: str, *, timeout: float = 30.0) -> Remote:
    """Asks the server for size and version of a file, without its content."""
    # Not HEAD: stores that sign an address sign the method with it, and refuse any other.
    try:
        with open_remote(url, {"Range": "bytes=0-0"}, timeout) as response:
            refuse_page(url, response)
            return remote_of(response)
    except PassingError as error:
        raise MissingInputError(f"Cannot reach {url}: it {error}.") from None
    except ChangedError:
        raise DataError(f"An empty file: {url}.") from None


def remote_of(response: Any) -> Remote:
    """What the headers of a response say of the file."""
    headers = response.headers
    partial = response.status == HTTPStatus.PARTIAL_CONTENT
    length = headers.get("Content-Range" if partial else "Content-Length", "").rpartition("/")[2]
    size = int(length) if length.isdecimal() else None
    return Remote(size, headers.get("ETag"), headers.get("Last-Modified"), partial)


def refuse_page(url: str, response: Any) -> None:
    """Refuses a web page, such as a form to log in, that comes instead of a file."""
    if response.headers.get_content_type() == "text/html":
        raise DataError(f"Not a file but a web page: {url}. Open it in a browser.")


def open_remote(url: str, headers: dict[str, str], timeout: float) -> Any:
    """Opens a file on a server; the answer is its content, or the part that `headers` ask for.

    Raises:
        PassingError: It may go well at the next attempt.
        ChangedError: The file has no such part.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"Expected an http or https address. Received: {url}.")
    headers = {
        "User-Agent": f"pwc_exp/{__version__}",
        "Accept-Encoding": "identity",  # else ranges and length would be of what is compressed
        **headers,
    }
    try:
        return _opener().open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        raise _refusal(url, error.code) from None
    except (OSError, HTTPException) as error:
        raise PassingError(f"cannot be reached ({words_of(error)})") from None


def _refusal(url: str, code: int) -> Exception:
    phrase = {int(status): status.phrase for status in HTTPStatus}.get(code, "unknown status")
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return ChangedError()
    if code in _PASSING:
        return PassingError(f"answered {code} {phrase}")
    if 300 <= code < 400:
        phrase = "one redirection after the other"
    return MissingInputError(f"Cannot download {url}: it answered {code} ({phrase}).")


def words_of(error: Exception) -> str:
    """One line for a network error, which may have no text, or another error as its reason."""
    reason = error.reason if isinstance(error, URLError) else error
    return " ".join(str(reason).split()) or type(reason).__name__


class _Redirections(HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(  # noqa: PLR0917, urllib's own signature
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise DataError(f"Refused: {req.full_url} leads to {newurl}. Expected https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    """An opener of http and https alone; urllib's own also opens local files and FTP."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
        _Redirections(),
    ):
        opener.add_handler(handler)
    return opener
