"""`ui` serves MLflow and TensorBoard, ends them with itself, and says in one line what it lacks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from tracked import in_mlflow, make_tracker, open_store

from pwc_exp.config.commands import UiConfig
from pwc_exp.errors import BusyError, MissingInputError
from pwc_exp.tracking.mlflow_store import where_to_look
from pwc_exp.ui import serve


def test_a_port_that_is_taken_and_a_folder_that_is_missing_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"tensorboard_port must be a free port.*{port}"):
            serve(UiConfig(outputs=str(tmp_path), tensorboard_port=port))
    with pytest.raises(MissingInputError, match="outputs must be a folder of runs"):
        serve(UiConfig(outputs=str(tmp_path / "nowhere")))


def test_the_runs_list_has_a_saved_view_with_the_result_first(tmp_path: Path) -> None:
    with make_tracker(tmp_path) as tracker:
        tracker.scalars(0, {"val/aepe": 1.0})
    open_store(tmp_path)
    client, run = in_mlflow(tmp_path)
    tags = client.get_experiment(run.info.experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.results"])
    assert view["selectedColumns"][0] == "metrics.`val/aepe`"
    names = [section["name"] for section in view["compareRunSections"]]
    assert names.index("val") < names.index("time")


def test_the_hint_is_a_page_of_a_server_or_the_command(tmp_path: Path) -> None:
    state = {"uri": "https://host", "experiment": "e", "run_id": "r", "experiment_id": "7"}
    (tmp_path / "mlflow.json").write_text(json.dumps(state))
    found = where_to_look(tmp_path, uri="https://host", experiment="e", outputs=Path("outputs"))
    assert found[0].endswith("https://host/#/experiments/7/runs/r?workflowType=machine_learning")
    (tmp_path / "mlflow.json").unlink()
    local = where_to_look(tmp_path, uri=None, experiment="pwc_exp", outputs=Path("o p"))
    assert local == ["charts       python -m pwc_exp.ui 'outputs=o p'"]


@pytest.mark.slow
def test_both_answer_at_the_printed_addresses_and_end_with_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pwc_exp.ui", f"outputs={tmp_path}"]
    process = subprocess.Popen(
        [*command, "mlflow_port=0", "tensorboard_port=0"],
        stdout=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
    )
    assert process.stdout is not None
    addresses = []
    for line in process.stdout:
        if line.startswith(("MLflow", "TensorBoard")):
            addresses.append(line.split()[1])
        if line.startswith("Ctrl-C"):
            break
    assert len(addresses) == 2
    assert "workflowType=machine_learning" in addresses[0]
    for address in addresses:
        assert requests.get(address, timeout=30).status_code == 200
    process.terminate()
    assert process.wait(30) == 0
    for address in addresses:
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=5)
