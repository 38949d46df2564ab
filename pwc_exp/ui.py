"""`python -m pwc_exp.ui`: serves MLflow and TensorBoard for the runs of a folder, until Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pwc_exp import cli
from pwc_exp.config.commands import UiConfig
from pwc_exp.errors import BusyError, MissingInputError

_HOST = "127.0.0.1"
_START_SECONDS = 120.0  # that a server may take until it answers
_PINNED = json.dumps([{"plugin": "scalars", "tag": "val/aepe"}])  # TensorBoard's first chart
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def main() -> None:
    """Runs `serve`."""
    cli.run("ui", "pwc_exp.ui:serve")


def serve(config: UiConfig) -> None:
    """Serves both, prints their addresses, and returns at Ctrl-C.

    An MLflow server that runs already, by `tracking.uri` or $MLFLOW_TRACKING_URI, is only named.

    Raises:
        MissingInputError: there is no such folder.
        BusyError: a port is taken, or a server ends or does not answer.
    """
    from pwc_exp.tracking.mlflow_store import is_file, runs_page, store_folder, tracking_uri

    outputs = Path(config.outputs)
    if not outputs.is_dir():
        raise MissingInputError(f"outputs must be a folder of runs. Received: {outputs}")
    port = _free_port("tensorboard_port", config.tensorboard_port)
    commands = {port: ["tensorboard.main", f"--logdir={outputs}", "--host", _HOST]}
    board = f"http://{_HOST}:{port}/?pinnedCards={quote(_PINNED)}#timeseries"
    uri = tracking_uri(config.tracking.uri, outputs)
    server = uri.rstrip("/")
    if not uri.startswith("http"):
        port = _free_port("mlflow_port", config.mlflow_port)
        commands[port] = ["mlflow", "ui", "--host", _HOST, "--workers", "1"]
        commands[port] += ["--backend-store-uri", uri]
        if is_file(uri):  # where runs store their files without a server
            root = str(store_folder(outputs) / "artifacts")
            commands[port] += ["--no-serve-artifacts", "--default-artifact-root", root]
        server = f"http://{_HOST}:{port}"
    page = runs_page(uri, config.tracking.experiment, outputs)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryFile() as output:
            _run(commands, output, f"MLflow       {server}/{page}\nTensorBoard  {board}")
    except KeyboardInterrupt:
        print("stopped")


def _run(commands: Mapping[int, Sequence[str]], output: Any, addresses: str) -> None:
    """Runs servers, by their ports, until one ends; they end with this process."""
    import psutil

    environment = _QUIET | dict(os.environ)
    servers = []
    try:
        for port, command in commands.items():
            line = [sys.executable, "-m", *command, "--port", str(port)]
            servers.append(
                subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, env=environment)
            )
        print("starting MLflow and TensorBoard ...", flush=True)
        shown, deadline = False, time.monotonic() + _START_SECONDS
        while all(server.poll() is None for server in servers):
            if not shown and all(map(_answers, commands)):
                print(f"{addresses}\nCtrl-C ends both", flush=True)
                shown = True
            if not shown and time.monotonic() > deadline:
                break
            time.sleep(0.2)
        output.seek(0)
        last = (output.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise BusyError(f"MLflow or TensorBoard ended, or does not answer: {last}")
    finally:
        children = psutil.Process().children(recursive=True)
        for child in children:
            child.terminate()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()


def _free_port(name: str, port: int) -> int:
    """`port`, or any free one if it is 0."""
    with socket.socket() as probe:
        if os.name == "posix":  # a port that was used a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise BusyError(
                f"{name} must be a free port of {_HOST}. Received: {port} ({error.strerror}); "
                f"{name}=0 takes any free one"
            ) from error
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((_HOST, port)) == 0


if __name__ == "__main__":
    main()
