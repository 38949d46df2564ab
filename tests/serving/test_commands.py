"""The commands as a user starts them: exported, served, asked over HTTP, ended."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from free_ports import free_ports

from pwc_exp.exporting.engine import Shape
from pwc_exp.exporting.parity import frames
from pwc_exp.exporting.saved_model import engines

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
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


def test_an_exported_network_answers_over_http_and_ends_when_told(exported: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "pwc_exp.serve", f"exported={exported}/savedmodel"]
    with subprocess.Popen([*command, f"port={port}"], env=ENVIRONMENT) as process:
        wait_for(process, f"http://127.0.0.1:{port}/health")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info") as answer:
            assert json.load(answer)["order"] == "x (right), y (down)"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


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
        flow, engines(exported / "savedmodel")["TensorFlow"](*PAIR), atol=1e-3
    )
