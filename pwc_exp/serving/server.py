"""The command: a network behind a socket, until it is told to stop."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pwc_exp.config.commands import ServeConfig
from pwc_exp.errors import BusyError
from pwc_exp.exporting import card, graph
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.formats import engines_of
from pwc_exp.networks import load_network
from pwc_exp.serving.handler import Handler
from pwc_exp.serving.limits import Limits, Refusal

SMALL = Shape(1, 64, 64)


class Served(NamedTuple):
    """What is asked for the flow, and what it says of itself."""

    run: Runner
    info: dict[str, Any]


class FlowServer(ThreadingHTTPServer):
    """Takes requests in threads, computes one at a time, and ends when all are answered."""

    daemon_threads = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], served: Served, limits: Limits) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        self.info = served.info
        self.limits = limits
        self._run = served.run
        self._places = threading.BoundedSemaphore(limits.waiting)
        self._turn = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those that are computed or wait for it.

        Raises:
            Refusal: none is free.
        """
        if not self._places.acquire(blocking=False):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests; try again")
        try:
            yield
        finally:
            self._places.release()

    def compute(self, frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        """uint8 [1, H, W, 3] each -> the flow [1, H, W, 2], pixels; one call at a time."""
        with self._turn:
            return self._run(frame1, frame2)


def serve(config: ServeConfig) -> None:
    """Serves a network until Ctrl-C or SIGTERM; requests under way are answered."""
    limits = Limits(int(config.max_megabytes * 1e6), config.max_pixels, config.timeout)
    served = _load(config)
    try:
        server = FlowServer((config.host, config.port), served, limits)
    except OSError as error:
        raise BusyError(
            f"{config.host}:{config.port} cannot be listened at: {error.strerror}"
        ) from error
    with server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        address = f"http://{config.host}:{server.server_address[1]}/flow"
        print(f"serving {served.info['format']} at {address}", flush=True)
        server.serve_forever()
        print("stopping: what has been asked for is still answered", flush=True)


def _load(config: ServeConfig) -> Served:
    """The network, tried once: what cannot run ends the command, not a request."""
    if config.exported is not None:
        folder = Path(config.exported)
        info = card.read(folder)
        served = Served(next(iter(engines_of(folder).values())), info)
        shape = SMALL if info["shapes"] == "any" else Shape(*info["shapes"][0])
    else:
        network = load_network(
            run=config.run,
            weights=config.weights,
            model=config.model,
            precision=config.precision,
        )
        info = {
            "format": f"{network.source}",
            "precision": network.model.dtype_policy.name,
            **card.CONVENTIONS,
            **card.origin(network),
        }
        served = Served(graph.runner(network.model), info)
        shape = SMALL
    black = np.zeros((*shape, 3), np.uint8)
    served.run(black, black)
    return served
