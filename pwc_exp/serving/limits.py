"""What a server lets a client ask for, and the answer to anything else."""

from http import HTTPStatus
from typing import NamedTuple


class Limits(NamedTuple):
    """Of one request."""

    max_bytes: int  # of its body
    max_pixels: int  # of one frame
    seconds: float  # until its body is there
    waiting: int = 8  # requests that are computed or wait for that; more are sent away


class Refusal(Exception):
    """A request that is not fulfilled, and why; the message goes to the client."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
