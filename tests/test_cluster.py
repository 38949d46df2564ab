"""A process among its workers: TF_CONFIG and Slurm's variables, read as TensorFlow reads them."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pwc_exp.errors import ConfigError
from pwc_exp.machine import ALONE, Place, on_slurm, place
from pwc_exp.training.devices import make_resolver

SCALING = (Path(__file__).parents[1] / "docs/scaling.md").read_text(encoding="utf-8")
PAGE = SCALING.partition("\n## Sweeps")[0]  # one run
WORKERS = {"worker": ["a:1", "b:1", "c:1"]}
WITH_CHIEF = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
TASKS = [
    (WORKERS, "worker", 0, Place(0, 3)),
    (WORKERS, "worker", 2, Place(2, 3)),
    (WITH_CHIEF, "chief", 0, Place(0, 3)),
    (WITH_CHIEF, "worker", 0, Place(1, 3)),
    (WITH_CHIEF, "worker", 1, Place(2, 3)),
    ({"worker": ["a:1"]}, "worker", 0, ALONE),
    ({"chief": ["a:1"]}, "chief", 0, ALONE),
]


def tf_config(jobs: Mapping[str, Sequence[str]], job: str, index: object) -> str:
    return json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})


def slurm(procid: int, nodes: str, tasks_per_node: str, tasks: int) -> dict[str, str]:
    """What `srun` sets for one of its tasks, as far as it is read."""
    return {
        "SLURM_PROCID": f"{procid}",
        "SLURM_STEP_NUM_TASKS": f"{tasks}",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks_per_node,
    }


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The process's variables, to be set at will: none of a cluster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    kept.pop("TF_CONFIG", None)
    monkeypatch.setattr(os, "environ", kept)
    return kept


def resolved(resolver: Any) -> tuple[int, int, bool]:
    """(number, count, whether it is the chief) of a task, by TensorFlow's rules."""
    from tensorflow.python.distribute import multi_worker_util as rules

    jobs = resolver.cluster_spec()
    task = (jobs, resolver.task_type, resolver.task_id)
    count = sum(len(hosts) for hosts in jobs.as_dict().values())
    return rules.id_in_cluster(*task), count, rules.is_chief(*task)


@pytest.mark.parametrize(("jobs", "job", "index", "expected"), TASKS)
def test_tensorflow_sees_the_same_place_and_chief_in_tf_config(
    jobs: dict[str, list[str]],
    job: str,
    index: int,
    expected: Place,
    environment: dict[str, str],
) -> None:
    environment["TF_CONFIG"] = tf_config(jobs, job, index)
    assert place() == expected
    found = resolved(make_resolver(expected, gpus=0))
    assert found == (*expected, expected.worker == 0)


@pytest.mark.parametrize("text", ["{}", '{"cluster": {}}', '{"task": {"type": "x", "index": 3}}'])
def test_without_other_processes_it_is_alone(text: str, environment: dict[str, str]) -> None:
    assert place() == ALONE
    environment["TF_CONFIG"] = text
    assert place() == ALONE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"worker"',
        '{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}',
        json.dumps({"cluster": WORKERS}),
        json.dumps({"cluster": WORKERS, "task": {"type": "worker"}}),
        tf_config(WORKERS, "worker", 3),
        tf_config(WORKERS, "worker", -1),
        tf_config(WORKERS, "worker", "first"),
        tf_config(WORKERS, "chief", 0),
        tf_config({**WORKERS, "ps": ["d:1"]}, "ps", 0),
        tf_config({**WORKERS, "evaluator": ["d:1"]}, "evaluator", 0),
        "{" + "x" * 100_000,
    ],
)
def test_a_malformed_tf_config_is_refused_with_an_example(
    text: str, environment: dict[str, str]
) -> None:
    environment["TF_CONFIG"] = text
    with pytest.raises(ConfigError, match="TF_CONFIG must be like ") as refused:
        place()
    message = str(refused.value)
    assert text[:200] in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("nodes", "tasks_per_node", "hosts"),
    [
        ("gpu[01-02]", "1(x2)", ["gpu01:8888", "gpu02:8888"]),
        ("gpu[2,10]", "1(x2)", ["gpu2:8888", "gpu10:8888"]),  # not as text
        ("n[09-11],m5", "1(x4)", ["n09:8888", "n10:8888", "n11:8888", "m5:8888"]),
        ("gpu[1-2]", "2(x2)", ["gpu1:8888", "gpu1:8889", "gpu2:8888", "gpu2:8889"]),
        ("localhost", "2", ["localhost:8888", "localhost:8889"]),
    ],
)
def test_slurm_ranks_are_tensorflows_workers(
    nodes: str, tasks_per_node: str, hosts: list[str], environment: dict[str, str]
) -> None:
    for rank in range(len(hosts)):
        environment.update(slurm(rank, nodes, tasks_per_node, len(hosts)))
        assert on_slurm()
        assert place() == Place(rank, len(hosts))
        resolver = make_resolver(place(), gpus=0)
        assert resolved(resolver) == (rank, len(hosts), rank == 0)
        assert resolver.cluster_spec().as_dict() == {"worker": hosts}
        assert resolver.num_accelerators() == {"GPU": 0}


def test_tf_config_overrules_slurm(environment: dict[str, str]) -> None:
    environment.update(slurm(1, "gpu[1-2]", "1(x2)", 2))
    environment["TF_CONFIG"] = tf_config(WORKERS, "worker", 2)
    assert not on_slurm()
    assert place() == Place(2, 3)


@pytest.mark.parametrize("without", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"])
def test_a_script_that_srun_has_not_started_is_alone(
    without: str, environment: dict[str, str]
) -> None:
    environment.update(slurm(0, "gpu[1-2]", "1(x2)", 2))
    del environment[without]
    assert place() == ALONE


def test_a_single_task_of_srun_is_alone(environment: dict[str, str]) -> None:
    environment.update(slurm(0, "gpu1", "1", 1))
    assert not on_slurm()
    assert place() == ALONE


def script_of_page(kind: str) -> str:
    """The only block of that kind in docs/scaling.md."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def run_script(text: str, folder: Path, **commands: str) -> "subprocess.CompletedProcess[str]":
    """Runs it with stand-ins for the commands that it calls; each of them is a shell script."""
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "77"}
    return subprocess.run(
        ["bash", "-c", text], env=environment, capture_output=True, text=True, check=False
    )


def test_the_pages_hosts_are_two_workers(environment: dict[str, str]) -> None:
    texts = re.findall(r"export TF_CONFIG='(.*)'", PAGE)
    assert len(texts) == 2
    for number, text in enumerate(texts):
        environment["TF_CONFIG"] = text
        assert place() == Place(number, 2)


@pytest.mark.parametrize(
    ("code", "again"), [(0, False), (75, True), (76, False), (78, False), (137, False), (143, True)]
)
def test_the_pages_slurm_job_comes_back_if_it_can_go_on(
    code: int, again: bool, tmp_path: Path
) -> None:
    commands = {"srun": f'echo "$@"; exit {code}', "scontrol": 'echo "$@"'}
    ended = run_script(script_of_page("bash"), tmp_path, **commands)
    assert ended.returncode == code
    assert ended.stdout.startswith("python -m pwc_exp.train ")
    assert (ended.stdout.splitlines()[-1] == "requeue 77") == again


@pytest.mark.parametrize("index", [0, 1])
def test_the_pages_pods_are_workers_that_find_each_other(
    index: int, environment: dict[str, str], tmp_path: Path
) -> None:
    service, job = yaml.safe_load_all(script_of_page("yaml"))
    name, pods = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["metadata"]["name"] == pods["subdomain"]
    (container,) = pods["containers"]
    assert container["command"] == ["bash", "-c"]
    environment.update({each["name"]: each["value"] for each in container["env"]})
    environment["JOB_COMPLETION_INDEX"] = str(index)
    (script,) = container["args"]
    environment["TF_CONFIG"] = run_script(script, tmp_path, python='echo "$TF_CONFIG"').stdout
    assert place() == Place(index, job["spec"]["completions"])
    hosts = json.loads(environment["TF_CONFIG"])["cluster"]["worker"]
    assert hosts == [f"{name}-{number}.{pods['subdomain']}:2222" for number in range(2)]
