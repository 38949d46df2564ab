"""The server: frames in, flow out, a one-line error for anything else, a graceful shutdown."""

import base64
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import requests
from free_ports import free_ports
from PIL import Image

from pwc_exp import checkpoints, serve
from pwc_exp.build import build_model
from pwc_exp.config.commands import ServeConfig
from pwc_exp.export.formats import Runner, Shape, export, frames, run_savedmodel
from pwc_exp.inference import Estimator
from pwc_exp.models.pwcnet import PWCNet

CONFIG = ServeConfig(max_megabytes=0.06, max_pixels=1000, timeout=1.0)
rng = np.random.default_rng(5)
frame1, frame2 = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)


def network(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    """Red of the first frame as x, green of the second as y."""
    return np.stack([frame1[..., 0], frame2[..., 1]], axis=-1).astype(np.float32)


def ask(port: int, path: str, **options: Any) -> requests.Response:
    """POST if there is something to send, else GET."""
    method = "POST" if options else "GET"
    return requests.request(method, f"http://127.0.0.1:{port}{path}", timeout=20, **options)


def run(runner: Runner, info: dict[str, Any]) -> Iterator[int]:
    """The port of a server."""
    server = serve.make_server(runner, info, CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield from run(network, {"units": "pixels"})


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "png")
    return file.getvalue()


def as_json(*files: bytes) -> dict[str, Any]:
    texts = (base64.b64encode(data).decode() for data in files)
    return {"json": dict(zip(serve.NAMES, texts, strict=False))}


def raw(data: bytes, kind: str = "application/json") -> dict[str, Any]:
    return {"data": data, "headers": {"Content-Type": kind}}


FILES = dict(zip(serve.NAMES, (png(frame1), png(frame2)), strict=True))
BODY = as_json(*FILES.values())
FAILED = "the server failed; see its log"
LARGE = png(np.zeros((40, 30, 3), np.uint8))


def flow_of(reply: requests.Response) -> np.ndarray:
    magic, width, height = struct.unpack("<fii", reply.content[:12])
    assert magic == 202021.25
    return np.frombuffer(reply.content[12:], "<f4").reshape(height, width, 2)


def test_the_flow_comes_as_flo_picture_or_numbers_with_their_unit(port: int) -> None:
    for body in (BODY, {"files": FILES}):
        reply = ask(port, "/flow", **body)
        assert reply.headers["Content-Type"] == "application/octet-stream"
        np.testing.assert_array_equal(flow_of(reply), network(frame1, frame2))
    picture = ask(port, "/flow?as=png", **BODY)
    assert picture.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (30, 20)
    numbers = ask(port, "/flow?as=json", **BODY).json()
    assert (numbers["height"], numbers["width"], numbers["units"]) == (20, 30, "pixels")
    np.testing.assert_array_equal(numbers["flow"], network(frame1, frame2))


def test_health_info_and_the_interface_are_described_without_another_host(port: int) -> None:
    assert ask(port, "/health").json() == {"status": "ok"}
    assert ask(port, "/info").json() == {"units": "pixels"}
    paths = ask(port, "/openapi.json").json()["paths"]
    assert paths.keys() == {"/health", "/info", "/flow"}
    kinds = paths["/flow"]["post"]["requestBody"]["content"].keys()
    assert kinds == {"multipart/form-data", "application/json"}
    page = ask(port, "/docs").text
    assert "POST /flow" in page and 'name="frame2"' in page and "http" not in page


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/nothing", {}, 404, "POST /flow. Received: /nothing"),
        ("/flow", {}, 405, "takes POST. Received: GET"),
        ("/health", raw(b"{}"), 405, "takes GET. Received: POST"),
        ("/flow?as=x", BODY, 400, "as: Input should be 'flo', 'png' or 'json'. Received: x"),
        ("/flow", raw(b"x", "text/plain"), 415, "Received: text/plain"),
        ("/flow", raw(b"{"), 400, "The body must be JSON"),
        ("/flow", raw(b"[]"), 400, "The body must be JSON"),
        ("/flow", raw(b'{"frame1": "?", "frame2": ""}'), 400, "must be JSON"),
        ("/flow", raw(b"[" * 50_000), 400, "must be JSON"),
        ("/flow", as_json(b"a"), 400, "Missing: frame2"),
        ("/flow", as_json(b"a", b"b"), 400, "Not an image"),
        ("/flow", {"files": {"frame1": b"a"}}, 400, "Missing: frame2"),
        ("/flow", raw(b"x", "multipart/form-data"), 400, "Missing boundary"),
        ("/flow", raw(b"x" * 60_001), 413, "at most 60000 bytes. Received: 60001"),
        ("/flow", as_json(LARGE, LARGE), 413, "1000 pixels. Received: 40 x 30"),
        ("/flow", as_json(png(frame1), png(frame2[:10])), 400, "20 x 30 and 10 x 30"),
    ],
)
def test_a_wrong_request_gets_its_status_and_its_reason(
    port: int, path: str, body: dict[str, Any], status: int, reason: str
) -> None:
    reply = ask(port, path, **body)
    assert (reply.status_code, reply.headers["Content-Type"]) == (status, "application/json")
    assert reason in reply.json()["error"]


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET /health HTTP/1.1\r\nHost:", b"", b""),
        (
            b"POST /flow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 411 ",
            b"Content-Length must be given",
        ),
        (
            b"POST /flow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
            b"HTTP/1.1 408 ",
            b"100 bytes of the body must arrive within 1 s",
        ),
    ],
    ids=["silent", "of unknown length", "a body that does not come"],
)
def test_a_client_is_not_waited_for(port: int, sent: bytes, status: bytes, reason: bytes) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        while not answer.endswith(b"}") and (part := client.recv(4096)):
            answer += part
    assert answer.startswith(status) and bool(answer) == bool(status)
    assert reason in answer


def broken(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    if frame1.sum() > frame2.sum():
        raise RuntimeError("secret path")
    return np.nan * network(frame1, frame2)


def test_a_failure_of_the_network_is_reported_without_its_details(
    capfd: pytest.CaptureFixture[str],
) -> None:
    dark, bright = (png(np.full((9, 9, 3), grey, np.uint8)) for grey in (1, 2))
    for port in run(broken, {}):
        for pair in ((bright, dark), (dark, bright)):
            reply = ask(port, "/flow", **as_json(*pair))
            assert (reply.status_code, reply.json()) == (500, {"error": FAILED})
        assert ask(port, "/health").status_code == 200
    logged = capfd.readouterr().err
    assert "secret path" in logged and "not finite" in logged


def test_more_than_can_wait_are_refused_and_the_shutdown_waits_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "WAITING", 2)
    started, may_end = threading.Semaphore(0), threading.Event()

    def slow(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        started.release()
        may_end.wait(20)
        return network(frame1, frame2)

    replies: list[int] = []
    for port in run(slow, {}):

        def wait(port: int = port) -> None:
            replies.append(ask(port, "/flow", **BODY).status_code)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert started.acquire(timeout=20)
        while not replies:  # one of the three finds no place
            time.sleep(0.01)
        assert ask(port, "/health").status_code == 200
        threading.Timer(0.3, may_end.set).start()  # while the server ends
    for thread in threads:
        thread.join()
    assert replies == [503, 200, 200]


def tiny(configure: Callable[..., Any], folder: Path, *overrides: str) -> tuple[PWCNet, Path]:
    """A network with random weights, and their checkpoint."""
    config = configure("train", "model=tiny", *overrides)
    keras.utils.set_random_seed(4)
    model = build_model(config.model, config.precision)
    state = checkpoints.named_state(model)
    return model, checkpoints.save(folder, step=0, state=state, metrics={}, fingerprint={})


def test_the_served_flow_is_that_of_predict(configure: Callable[..., Any], tmp_path: Path) -> None:
    small = ("model.levels=3", "model.feature_channels=[4,6,8]")
    model, weights = tiny(configure, tmp_path, *small)
    runner, info = serve.load(configure("serve", "model=tiny", *small, f"weights={weights}"))
    assert info["order"] == "x (right), y (down)"
    (expected,) = Estimator(model)([frame1 / np.float32(255)], [frame2 / np.float32(255)])
    for port in run(runner, info):
        found = flow_of(ask(port, "/flow", **BODY))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


@pytest.fixture(scope="module")
def exported(configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, as SavedModel and as a model of MLflow."""
    folder = tmp_path_factory.mktemp("served")
    _, weights = tiny(configure, folder / "weights")
    asked = (f"out={folder}/out", "formats=[savedmodel,mlflow]", "compared=[[1,33,50]]")
    export(configure("export", "model=tiny", f"weights={weights}", *asked))
    return folder / "out"


def wait_for(process: subprocess.Popen, address: str) -> None:
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    pytest.fail(f"{address} does not answer; exit code {process.poll()}")


@pytest.mark.slow
def test_an_exported_network_answers_over_http_and_ends_at_sigterm(exported: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "pwc_exp.serve", f"exported={exported}/savedmodel"]
    with subprocess.Popen([*command, f"port={port}"], env=ENVIRONMENT) as process:
        wait_for(process, f"http://127.0.0.1:{port}/health")
        assert ask(port, "/info").json()["order"] == "x (right), y (down)"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_mlflow_serves_the_flow(exported: Path) -> None:
    (port,) = free_ports(1)
    command = f"mlflow models serve -m {exported}/mlflow --env-manager local -h 127.0.0.1 -p {port}"
    pair = frames(Shape(1, 33, 50))
    with subprocess.Popen(command.split(), env=ENVIRONMENT, start_new_session=True) as process:
        try:
            wait_for(process, f"http://127.0.0.1:{port}/ping")
            inputs = {f"frame{n}": frame.tolist() for n, frame in enumerate(pair, start=1)}
            address = f"http://127.0.0.1:{port}/invocations"
            reply = requests.post(address, json={"inputs": inputs}, timeout=120)
            flow = np.asarray(reply.json()["predictions"], np.float32)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert flow.shape == (1, 33, 50, 2)
    expected = run_savedmodel(exported / "savedmodel")["TensorFlow"](*pair)
    np.testing.assert_allclose(flow, expected, atol=1e-3)
