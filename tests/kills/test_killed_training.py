"""A training run that is killed anywhere, any number of times, ends as if it had not been."""

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from kill_points import BY_NAME, END, LOOP, START, STORES, Point
from killed_runs import (
    LOG_EVERY,
    Ended,
    Forks,
    Means,
    Process,
    Result,
    Run,
    check_end,
    result,
    write_frames,
)

from pwc_exp.tracking.mlflow_store import connect
from pwc_exp.tracking.record import Record

FEW, MANY = 12, 60  # steps
KILLS, RUNS = 10, 10  # of each run; of the test
SIGNALS = 10  # of each kind
PAUSE = 0.05  # after a step, seconds: leaves time to be killed in the loop
LONG_PAUSE = 2.0  # lets the stores keep up
ENDS = {signal.SIGTERM: 143, signal.SIGINT: 130}
AHEAD = 16  # steps

Make = Callable[..., Run]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """(steps, fresh=False) -> a run that has not begun. fresh: where MLflow has no tables yet."""
    shared = tmp_path_factory.mktemp("shared")
    write_frames(shared / "frames")
    (shared / "temporary").mkdir()
    # TensorFlow's temporary files, which a killed process leaves, go with the test's.
    environment = {**os.environ, "TMPDIR": str(shared / "temporary")}
    environment.pop("MLFLOW_TRACKING_URI", None)

    with Forks(environment) as forks:
        connect(f"sqlite:///{shared}/mlflow.db", "first", shared)
        means = Means(shared / "frames", forks, environment)

        def made(steps: int, *, pictures: int = 1, fresh: bool = False) -> Run:
            root = tmp_path_factory.mktemp("run")
            if not fresh:
                (root / "outputs/mlflow").mkdir(parents=True)
                shutil.copy(shared / "mlflow.db", root / "outputs/mlflow")
            return Run(root, means, steps=steps, pictures=pictures)

        yield made


@pytest.fixture(scope="module")
def many(make: Make) -> Result:
    """What an uninterrupted run of MANY steps leaves."""
    run = make(MANY)
    return ended_well(run, run.start())


def ended_well(run: Run, process: Process) -> Result:
    ended = run.follow(process)
    assert (ended.code, ended.errors) == (0, "")
    expected = result(run)
    check_end(run, expected)
    return expected


def kill_at(run: Run, point: Point, pause: float = PAUSE) -> None:
    started = time.monotonic()
    ended = run.follow(run.start(point.name, pause=pause))
    assert (ended.mark, ended.code) == (point.name, -signal.SIGKILL), ended
    print(f"{point.name:<20}{time.monotonic() - started:>6.1f} s", flush=True)


def wait_for(process: Process, line: str) -> None:
    while not (line == "" or re.search(line, process.output, re.MULTILINE)):
        if process.ends_within(0.05):
            return


def wait_at_random(run: Run, process: Process, chance: random.Random) -> None:
    """Waits for a line of its output and up to so many seconds more; mostly within its steps.

    Seldom for its end, after which a run is of no more use.
    """
    ahead = chance.randint(1, AHEAD // LOG_EVERY)
    step = min((run.newest // LOG_EVERY + ahead) * LOG_EVERY, MANY)
    moments = {"": 6.0, "^run ": 8.0, f"^step +{step}   loss": 0.5, f"^step +{MANY}   val": 3.0}
    ((line, longest),) = chance.choices([*moments.items()], (2, 2, 5, 1))
    wait_for(process, line)
    process.ends_within(chance.uniform(0, longest))


def report(what: str, runs: list[Run]) -> None:
    redone = [steps for run in runs for steps in run.counts.redone]
    phases = sum((run.counts.phases for run in runs), Counter())
    print(f"\n{what}: {sum(phases.values())} kills, 0 failures; by phase: {dict(phases)}")
    again = f"{sum(redone)} in {len(redone)} resumes, at most {max(redone)}"
    print(f"steps made again: {again}", flush=True)


def test_a_run_survives_a_kill_and_a_signal(make: Make) -> None:
    whole, run = make(FEW, pictures=0), make(FEW, pictures=0)
    at_once = whole.start(as_users_do=True)  # on the other processor
    kill_at(run, BY_NAME["metrics_after"])
    stop(run, signal.SIGTERM, lambda _, process: wait_for(process, "^step +[0-9]+   loss"))
    ended_well(run, run.start())
    check_end(run, ended_well(whole, at_once))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("points", "pause", "fresh"),
    [
        pytest.param(START, PAUSE, True, id="start"),
        pytest.param(LOOP, PAUSE, False, id="loop"),
        pytest.param(STORES, LONG_PAUSE, False, id="stores"),
        pytest.param(END, PAUSE, False, id="end"),
    ],
)
def test_a_run_survives_a_kill_at_every_named_point(
    make: Make, many: Result, points: tuple[Point, ...], pause: float, fresh: bool
) -> None:
    run = make(MANY, fresh=fresh)
    for point in points:
        kill_at(run, point, pause)
    run.finish()
    check_end(run, many)
    report(f"{len(points)} named points", [run])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_run_survives_kills_at_any_time(make: Make, many: Result, seed: int) -> None:
    chance = random.Random(seed)
    runs: list[Run] = []
    while sum(run.counts.kills for run in runs) < KILLS:
        if not runs or runs[-1].is_finished:
            runs.append(make(MANY, pictures=seed % 2, fresh=seed == 0))
        process = runs[-1].start(pause=PAUSE, as_users_do=chance.random() < 0.1)
        wait_at_random(runs[-1], process, chance)
        process.send(signal.SIGKILL)
        runs[-1].follow(process)
    for run in runs:
        run.finish()
        check_end(run, many)
    report(f"random kills, seed {seed}", runs)


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDS)
def test_a_run_survives_signals_at_any_time(
    make: Make, many: Result, number: signal.Signals
) -> None:
    chance = random.Random(int(number))
    codes: Counter[int] = Counter()
    runs: list[Run] = []
    while codes[ENDS[number]] + codes[-number] < SIGNALS:
        if not runs or runs[-1].is_finished:
            runs.append(make(MANY, pictures=0))
        codes[
            stop(runs[-1], number, lambda run, process: wait_at_random(run, process, chance)).code
        ] += 1
    for run in runs:
        run.finish()
        check_end(run, many)
    print(f"\n{number.name}: exit codes {dict(codes)}", flush=True)


def stop(run: Run, number: signal.Signals, wait: Callable[[Run, Process], None]) -> Ended:
    """Asks a process to stop, and checks how it does."""
    process = run.start(pause=PAUSE)
    wait(run, process)
    process.send(number)
    ended = run.follow(process)
    if run.is_finished:  # it was at its end
        assert ended.code in {0, ENDS[number], -number}
    elif "stopping after this step" in ended.errors:
        assert ended.code == ENDS[number]
        assert f"To resume: python -m pwc_exp.train resume={run.folder}" in ended.output
        assert run.newest == max(ended.steps, default=run.newest)
        assert Record.load(run.folder).status == "KILLED"
        assert run.status == "KILLED"
    else:  # nothing was begun
        assert ended.code in {ENDS[number], -number}
        assert ended.steps == []
    return ended
