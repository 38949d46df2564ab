"""The server: frames in, flow out, one clear line for anything else, and an end that waits."""

import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from free_ports import free_ports
from PIL import Image

from pwc_exp import checkpoints, serving
from pwc_exp.build import build_model
from pwc_exp.export.formats import run_savedmodel
from pwc_exp.export.parity import Shape, frames
from pwc_exp.prediction.estimation import Estimator
from pwc_exp.serving import Limits, Served, make_server

LIMITS = Limits(max_bytes=60_000, max_pixels=1000, seconds=1.0, waiting=2)
rng = np.random.default_rng(5)
frame1, frame2 = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)


def network(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    """Red of the first frame as x, green of the second as y."""
    return np.stack([frame1[..., 0], frame2[..., 1]], axis=-1).astype(np.float32)


class Reply(NamedTuple):
    status: int
    kind: str
    body: bytes

    def error(self) -> str:
        return json.loads(self.body)["error"]


class Running(NamedTuple):
    port: int

    def ask(
        self, path: str, body: bytes | None = None, kind: str = "application/json", method: str = ""
    ) -> Reply:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            body,
            {"Content-Type": kind},
            method=method or ("POST" if body is not None else "GET"),
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Reply(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers["Content-Type"], error.read())


def run(served: Served) -> Iterator[Running]:
    server = make_server(served, LIMITS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield Running(listener.getsockname()[1])
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    yield from run(Served(network, {"units": "pixels"}))


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "png")
    return file.getvalue()


def as_json(**files: bytes) -> bytes:
    return json.dumps(
        {name: base64.b64encode(data).decode() for name, data in files.items()}
    ).encode()


BODY = as_json(frame1=png(frame1), frame2=png(frame2))


def multipart(**files: bytes) -> tuple[bytes, str]:
    parts = [
        f'--b0\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    return b"".join(parts) + b"--b0--\r\n", "multipart/form-data; boundary=b0"


def flow_of(flo: bytes) -> np.ndarray:
    magic, width, height = struct.unpack("<fii", flo[:12])
    assert magic == 202021.25
    return np.frombuffer(flo[12:], "<f4").reshape(height, width, 2)


def test_json_and_multipart_give_the_same_flo(running: Running) -> None:
    expected = network(frame1, frame2)
    for body, kind in (
        (BODY, "application/json"),
        multipart(frame1=png(frame1), frame2=png(frame2)),
    ):
        reply = running.ask("/flow", body, kind)
        assert (reply.status, reply.kind) == (200, "application/octet-stream")
        np.testing.assert_array_equal(flow_of(reply.body), expected)


def test_the_flow_comes_as_a_picture_or_as_numbers_with_their_unit(running: Running) -> None:
    picture = running.ask("/flow?as=png", BODY)
    assert picture.kind == "image/png"
    assert Image.open(io.BytesIO(picture.body)).size == (30, 20)
    numbers = json.loads(running.ask("/flow?as=json", BODY).body)
    assert (numbers["height"], numbers["width"], numbers["units"]) == (20, 30, "pixels")
    np.testing.assert_array_equal(numbers["flow"], network(frame1, frame2))


def test_health_and_info_are_for_machines(running: Running) -> None:
    assert json.loads(running.ask("/health").body) == {"status": "ok"}
    assert json.loads(running.ask("/info").body) == {"units": "pixels"}


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        (("/nothing", None, ""), 404, "POST /flow. Received: /nothing"),
        (("/flow", None, ""), 405, "takes POST. Received: GET"),
        (("/health", b"{}", ""), 405, "takes GET. Received: POST"),
        (
            ("/flow?as=tiff", BODY, "application/json"),
            400,
            "as: Input should be 'flo', 'png' or 'json'. Received: tiff",
        ),
        (("/flow", BODY, "text/plain"), 415, "Received: text/plain"),
        (("/flow", b"{", "application/json"), 400, "The body must be JSON"),
        (("/flow", b"[]", "application/json"), 400, "The body must be JSON"),
        (("/flow", b'{"frame1": "?", "frame2": ""}', "application/json"), 400, "must be JSON"),
        (("/flow", b"[" * 50_000, "application/json"), 400, "must be JSON"),
        (("/flow", as_json(frame1=b"a"), "application/json"), 400, "Missing: frame2"),
        (("/flow", as_json(frame1=b"a", frame2=b"b"), "application/json"), 400, "Not an image"),
        (("/flow", multipart(frame1=b"a")[0], multipart()[1]), 400, "Missing: frame2"),
        (("/flow", b"x", "multipart/form-data"), 400, "Missing boundary"),
        (("/flow", b"x" * 60_001, "application/json"), 413, "at most 60000 bytes. Received: 60001"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    running: Running, asked: tuple[str, bytes | None, str], status: int, reason: str
) -> None:
    reply = running.ask(*asked)
    assert (reply.status, reply.kind) == (status, "application/json")
    assert reason in reply.error()


def test_frames_of_two_sizes_are_refused(running: Running) -> None:
    reply = running.ask("/flow", as_json(frame1=png(frame1), frame2=png(frame2[:10])))
    assert reply.status == 400 and "20 x 30 and 10 x 30" in reply.error()


def test_a_large_frame_is_refused_before_it_is_decoded(running: Running) -> None:
    large = np.zeros((40, 30, 3), np.uint8)
    reply = running.ask("/flow", as_json(frame1=png(large), frame2=png(large)))
    assert reply.status == 413 and "at most 1000 pixels. Received: 40 x 30" in reply.error()


def test_a_body_that_does_not_come_is_not_waited_for(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"POST /flow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert (
        answer.startswith(b"HTTP/1.1 408 ")
        and b"100 bytes of the body must arrive within 1 s" in answer
    )


def test_a_failure_of_the_network_is_told_without_its_details(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret path")

    for running in run(Served(broken, {})):
        reply = running.ask("/flow", BODY)
        assert reply.status == 500 and "secret" not in reply.error()
        assert running.ask("/health").status == 200
    assert "secret path" in capfd.readouterr().err


def test_more_than_can_wait_are_sent_away_and_the_end_waits_for_the_rest() -> None:
    started, may_end = threading.Semaphore(0), threading.Event()

    def slow(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        started.release()
        may_end.wait(20)
        return network(frame1, frame2)

    replies: list[Reply] = []
    for running in run(Served(slow, {})):

        def ask(running: Running = running) -> None:
            replies.append(running.ask("/flow", BODY))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert started.acquire(timeout=20)
        while not replies:  # one of the three finds no place
            time.sleep(0.01)
        assert running.ask("/health").status == 200
        threading.Timer(0.3, may_end.set).start()  # while the server ends
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [503, 200, 200]


def test_a_silent_client_is_cut_off(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost:")
        assert client.recv(4096) == b""


def test_a_body_of_unknown_length_is_refused(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(b"POST /flow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 411 ")


def test_the_interface_is_described_without_another_host(running: Running) -> None:
    schema = json.loads(running.ask("/openapi.json").body)
    assert schema["paths"].keys() == {"/health", "/info", "/flow"}
    assert schema["paths"]["/flow"]["post"]["requestBody"]["content"].keys() == {
        "multipart/form-data",
        "application/json",
    }
    page = running.ask("/docs").body
    assert b"POST /flow" in page and b"http" not in page


def test_the_served_flow_is_that_of_predict(configure: Callable[..., Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    small = ("model=tiny", "model.levels=3", "model.feature_channels=[4,6,8]")
    config = configure("train", *small, "loss.level_weights=[1,1]")
    model = build_model(config.model, config.precision)
    state = checkpoints.named_state(model)
    weights = checkpoints.save(tmp_path, step=0, state=state, metrics={}, fingerprint={})
    served = serving._load(configure("serve", *small, f"weights={weights}"))
    assert served.info["order"] == "x (right), y (down)"
    (expected,) = Estimator(model)([frame1 / np.float32(255)], [frame2 / np.float32(255)])
    for running in run(served):
        found = flow_of(running.ask("/flow", BODY).body)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
PAIR = frames(Shape(1, 33, 50))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh network, as SavedModel and as a model of MLflow."""
    folder = tmp_path_factory.mktemp("served")
    program = (
        "from pwc_exp import cli; cli.prepare_environment();"
        "import keras; keras.utils.set_random_seed(3);"
        "from pwc_exp import checkpoints, composition as c; from pathlib import Path;"
        "from pwc_exp.build import build_model; c.register();"
        "t = c.check(c.compose_command('train', ['model=tiny']).values, 'train');"
        "m = build_model(t.model, t.precision);"
        "checkpoints.save(Path('w'), step=0, state=checkpoints.named_state(m), metrics={},"
        " fingerprint={})"
    )

    def run(*arguments: str) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, timeout=300)

    run("-c", program)
    asked = ["out=out", "formats=[savedmodel,mlflow]", "compared=[[1,33,50]]"]
    run("-m", "pwc_exp.export", "model=tiny", "weights=w/step-00000000", *asked)
    return folder / "out"


def wait_for(process: subprocess.Popen, address: str) -> None:
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"{address} does not answer; exit code {process.poll()}")


@pytest.mark.slow
def test_an_exported_network_answers_over_http_and_ends_when_told(exported: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "pwc_exp.serve", f"exported={exported}/savedmodel"]
    with subprocess.Popen([*command, f"port={port}"], env=ENVIRONMENT) as process:
        wait_for(process, f"http://127.0.0.1:{port}/health")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info") as answer:
            assert json.load(answer)["order"] == "x (right), y (down)"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_mlflow_serves_the_flow(exported: Path) -> None:
    (port,) = free_ports(1)
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        str(exported / "mlflow"),
        "--env-manager",
        "local",
    ]
    with subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)], env=ENVIRONMENT, start_new_session=True
    ) as process:
        try:
            wait_for(process, f"http://127.0.0.1:{port}/ping")
            inputs = {f"frame{n}": frame.tolist() for n, frame in enumerate(PAIR, start=1)}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                json.dumps({"inputs": inputs}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                flow = np.asarray(json.load(answer)["predictions"], np.float32)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert flow.shape == (1, 33, 50, 2)
    np.testing.assert_allclose(
        flow, run_savedmodel(exported / "savedmodel")["TensorFlow"](*PAIR), atol=1e-3
    )
