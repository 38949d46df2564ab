"""From the arguments of a command to its task; invalid arguments fail fast with a one-line message.

TensorFlow takes seconds to import, so a task is imported only when its configuration is valid.
"""

import dataclasses
import glob
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pwc_exp import __version__, machine, pretrained
from pwc_exp.config.commands import (
    STANDARD_INPUT,
    Baseline,
    BenchmarkConfig,
    DataFetchConfig,
    EvaluateConfig,
    ExportConfig,
)
from pwc_exp.config.composition import (
    AUTO,
    Resumption,
    check,
    compose_command,
    data_dir,
    quoted,
    read_model,
    record_choices,
    refusals,
    register,
    resume,
)
from pwc_exp.config.help import help_text
from pwc_exp.config.schema import (
    COMMANDS,
    CONFIG_FILE,
    ERROR_LOG,
    SWEEP_FILE,
    Config,
    flatten,
    groups,
    load,
)
from pwc_exp.config.training import NetworkConfig, TrainConfig, roots_of
from pwc_exp.errors import ConfigError, MissingInputError, OutputError, StoppedError, UserError
from pwc_exp.stopping import QUEUE_SIGNAL

HELP = {"--help", "-h"}
# Flags of Hydra that would change what the command is.
REFUSED = {
    **dict.fromkeys(
        ("--config-name", "-cn", "--config-path", "-cp"),
        "a command has its own configuration; presets are experiment=<name>",
    ),
    "--experimental-rerun": "it would unpickle a file",
}
SWEEP = "sweep."
RUN_KEYS = ("run", "resume", "init_from", "weights")  # may be `latest`, or a folder of runs
# Hydra's flags that take the next argument.
VALUE_FLAGS = frozenset(
    {
        *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
        *("--config-dir", "-cd", "--info", "-i"),
    }
)
FLAGS = VALUE_FLAGS | {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
}
INPUTS = (
    *("data.root", "data.quarantine", "data.textures", "root"),
    *("init_from", "run", "box", "weights", "predictions", "frames", "check", "runs", "exported"),
)
NAMED = ("init_from", "weights")  # of these, the inputs that may name shipped weights
STDERR = 2  # the file itself; in a notebook, sys.stderr is another
INTERRUPTED = 130  # exit code of a process that Ctrl-C ended: 128 + SIGINT
UNREAD = 141  # of a command whose output nobody reads any more: 128 + SIGPIPE
BUG = 1
STOPPED = {INTERRUPTED, 128 + signal.SIGTERM, *([128 + QUEUE_SIGNAL] if QUEUE_SIGNAL else [])}


def run(command: str, task: str) -> None:
    """Runs `command` with the arguments of the process, and ends the process if that fails.

    Args:
        command: The name of its configuration: conf/<command>.yaml.
        task: "module:function". The function is called with the configuration, and that of a
            training run also with the run's folder, which exists.
    """
    with exit_codes():
        if _show(command, sys.argv[1:]):
            return
        sys.argv[1:] = [_spelt_out(argument) for argument in sys.argv[1:]]
        given = [text for text in _overrides(sys.argv[1:]) if "=" in text]
        register(given if command == "train" else (), command)
        resumed = _check_arguments(command, sys.argv[1:])
        # Hydra raises what it refuses, instead of printing it in its own, longer form.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        main = hydra.main(
            version_base="1.3", config_path=str(data_dir("conf")), config_name=command
        )
        with refusals(command):
            main(_job(command, task, resumed))()


def run_one_of(program: str, tasks: Mapping[str, str]) -> None:
    """Runs the command `<program>_<name>`, where the first argument is the name.

    tasks: for each name, the task of `run`. With the name "", a first argument that is none of the
    names is an argument of the command `program`.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in tasks and name:
        del sys.argv[1]
        run(f"{program}_{name}", tasks[name])
    elif "" in tasks:
        run(program, tasks[""])
    elif name in HELP:
        with exit_codes():
            texts = [help_text(f"{program}_{each}", None, None) for each in tasks]
            print(*(text.partition("\n\nsettings")[0] for text in texts), sep="\n\n")
    else:
        with exit_codes():
            raise ConfigError(
                f"python -m pwc_exp.{program}: the first argument must be one of "
                f"{', '.join(tasks)}. Received: {name or 'none'}"
            )


def _show(command: str, arguments: Sequence[str]) -> bool:
    """Prints the help or the version, if that is what the arguments ask for."""
    if "--version" in arguments:
        print(f"pwc_exp {__version__}")
        return True
    if not HELP.intersection(arguments):
        return False
    named = [argument for argument in arguments if argument in groups(COMMANDS[command])]
    values = None
    with suppress(UserError):  # a setting that must be given may be missing
        given = [argument for argument in arguments if "=" in argument]
        values = compose_command(command, given).values
    print(help_text(command, values, named[0] if named else None))
    return True


def name_path(key: str) -> None:
    """Makes `key='…'` of an argument that is a path without its key."""
    for number in _paths(sys.argv):
        sys.argv[number] = f"{key}={quoted(sys.argv[number])}"


def name_paths(key: str, most: int | None = None) -> None:
    """Makes one `key=['…', …]` of all arguments that are paths without a key, if there are any.

    most: of them that are taken; with more, the command ends with a line that says so.
    """
    numbers = _paths(sys.argv)
    paths = [sys.argv[number] for number in numbers]
    others = [argument for place, argument in enumerate(sys.argv) if place not in numbers]
    with exit_codes():
        if most is not None and len(paths) > most:
            raise ConfigError(
                f"{key}: at most {most} paths can be given without a key; for more write "
                f"{key}=[{','.join(paths)}]. Received: {len(paths)}"
            )
        if paths and any(argument.startswith(f"{key}=") for argument in others):
            raise ConfigError(f"{key}: given twice, with and without a key: {', '.join(paths)}")
    if paths:
        sys.argv[:] = [others[0], f"{key}=[{','.join(map(quoted, paths))}]", *others[1:]]


def prepare_environment() -> None:
    """Sets what TensorFlow reads when it is imported, unless the user has set it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # faster convolutions of batches on CPUs


@contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process on an error: one line for what a user can mend, the traceback of a bug."""
    try:
        yield
        sys.stdout.flush()  # here, where a reader who is gone is no bug
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        if not _is_unread():
            traceback.print_exc()
            sys.exit(BUG)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNREAD)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception:
        traceback.print_exc()
        sys.exit(BUG)


def _is_unread() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    try:
        from select import POLLERR, POLLHUP, poll
    except ImportError:  # Windows
        return True
    watch = poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(happened & (POLLERR | POLLHUP) for _, happened in watch.poll(0))


def import_quietly(name: str) -> ModuleType:
    """Imports a module, and TensorFlow if the module needs it, without what TensorFlow logs."""
    prepare_environment()
    with _silence():
        module = importlib.import_module(name)
        if tensorflow := sys.modules.get("tensorflow"):
            tensorflow.config.list_physical_devices()  # looks for a GPU, and says what it lacks
    return module


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries write while they load, unless loading fails.

    They write to the file itself, and some lines before they read any setting. Where there is an
    NVIDIA device, nothing is kept back: the lines may say why it is not used.
    """
    if Path("/dev/nvidiactl").exists():
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, STDERR)
            os.close(stderr)


def _check_arguments(command: str, arguments: Sequence[str]) -> Resumption | None:
    """Checks a single job before Hydra makes its folder; returns the run that it goes on with.

    A sweep (-m) checks each job when it starts; the other flags only show something.
    """
    flags = {argument for argument in arguments if argument.startswith("-")}
    for name in sorted(flag.partition("=")[0] for flag in flags):
        if why := REFUSED.get(name):
            raise ConfigError(f"{name}: refused; {why}")
        if name not in FLAGS:
            raise ConfigError(f"{name}: unknown flag; settings have no dashes: <setting>=<value>")
    if flags & {"-m", "--multirun"} and any(flag.startswith(("-c", "--cfg")) for flag in flags):
        raise ConfigError("--cfg: shows one job; leave -m out")
    if not flags <= {"-r", "--run"}:
        return None
    overrides = _overrides(arguments)
    if command == "train" and (resumed := resume(overrides)):
        # Where its first weights came from is not needed any more, and may be gone.
        check_places(dataclasses.replace(resumed.config, init_from=None), resumed.run_dir)
        sys.argv[1:] = [_folder_override(resumed.run_dir)]
        return resumed
    composition = compose_command(command, overrides)
    config = check(composition.values, command)
    check_places(config, composition.run_dir)
    if isinstance(config, TrainConfig) and config.devices.cluster and machine.place().worker > 0:
        # Only the chief has a folder; Hydra must be given one all the same.
        sys.argv.append(_folder_override(Path(tempfile.mkdtemp(prefix="pwc_exp-worker-"))))
    return None


def _overrides(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("-")]


def _spelt_out(argument: str) -> str:
    """Replaces what is short for something else.

    `sweep.<setting>` is short for `hydra.sweeper.<setting>`; `latest`, as a run, for the newest run
    in outputs/, and the folder of several runs for the newest of them.
    """
    key, equals, value = argument.partition("=")
    if not equals:
        return argument
    if key in RUN_KEYS and (run := newest_run(value)):
        return f"{key}={quoted(str(run))}"
    return f"hydra.sweeper.{key.removeprefix(SWEEP)}={value}" if key.startswith(SWEEP) else argument


def _paths(arguments: Sequence[str]) -> list[int]:
    """The places of the arguments, of which the first is the program, that are paths."""
    return [
        place
        for place, argument in enumerate(arguments)
        if place > 0
        and (place == 1 or arguments[place - 1] not in VALUE_FLAGS)
        and not argument.startswith("-")
        and ("=" not in argument or Path(argument).exists())
    ]


def _folder_override(folder: Path) -> str:
    """The argument that makes `folder` that of Hydra's job."""
    return f"hydra.run.dir={quoted(str(folder))}"


def _job(command: str, task: str, resumed: Resumption | None) -> Callable[[DictConfig], object]:
    """What Hydra calls, once for each job, here or in a process that a launcher has started."""
    process = os.getpid()

    def job(values: DictConfig) -> object:
        if command == "train":
            record_choices(values, HydraConfig.get().runtime.choices)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            # An exception is that job's result, and the sweep goes on; an exit would end the sweep.
            with nullcontext() if os.getpid() == process else _ending_as_result():
                return _call(task, _config_of_job(values, command))
        with exit_codes():
            config = resumed.config if resumed else check(values, command)
            if isinstance(config, TrainConfig) and config.resume == AUTO:
                config = dataclasses.replace(config, resume=None)  # there is none to go on with
            return _call(task, config)

    return job


def _config_of_job(values: DictConfig, command: str) -> Config:
    """The configuration of a job of a sweep: the one in its folder if the sweep is ours."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    file = run_dir / CONFIG_FILE
    written = command == "train" and file.is_file() and (run_dir.parent / SWEEP_FILE).is_file()
    config = load(file) if written else check(values, command)
    if isinstance(config, TrainConfig):
        if config.resume:
            raise ConfigError("resume: names one run; it cannot be given to a sweep")
        if file.is_file():
            return dataclasses.replace(config, resume=str(run_dir))
    return config


@contextmanager
def _ending_as_result() -> Iterator[None]:
    """Makes every ending of a job an exception that travels from process to process.

    A launcher gives up on the other jobs if one ends its process, or has an error that it cannot
    unpickle. A sweep in one process, though, is stopped as a whole.
    """
    try:
        yield
    except UserError:
        raise
    except SystemExit as ended:
        _pass_on_to_queue(ended)
        if ended.code not in STOPPED:
            raise
        raise StoppedError("the run was asked to stop, and saved") from ended
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _pass_on_to_queue(ended: SystemExit) -> None:
    """Has the handler of submitit, if there is one, tell the queue to restart the job."""
    if QUEUE_SIGNAL is None or ended.code != 128 + QUEUE_SIGNAL:
        return
    if callable(signal.getsignal(QUEUE_SIGNAL)):
        signal.raise_signal(QUEUE_SIGNAL)


def _call(task: str, config: Config) -> object:
    module, _, function = task.partition(":")
    call = getattr(import_quietly(module), function)
    if not isinstance(config, TrainConfig):
        return call(config)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        return call(config, run_dir)
    except Exception:
        with suppress(OSError):
            (run_dir / ERROR_LOG).write_text(traceback.format_exc(), encoding="utf-8")
        raise


def check_places(checked: Config, run_dir: Path) -> None:
    """Refuses inputs, models, packages that are not there, and an impossible run folder."""
    values = flatten(checked)
    for key in INPUTS:
        if key == "data.root" and isinstance(checked, DataFetchConfig):
            continue  # it is made
        value = values.get(key) or []
        for path in value if isinstance(value, list) else [value]:
            check_input(key, path)
    if isinstance(checked, NetworkConfig):
        for run, weights in checked.networks:
            pretrained.select(run=run, weights=weights, model=checked.model)
    _check_needs(checked, run_dir)


def _check_needs(checked: Config, run_dir: Path) -> None:
    """Refuses what the settings of one command need and do not have."""
    match checked:
        case BenchmarkConfig():
            for name in checked.models:
                read_model(name)
        case EvaluateConfig() if set(checked.estimate) - {Baseline.zero}:
            machine.require("cv2", "opencv")
        case ExportConfig():
            for package in [each for name in checked.formats or [] for each in name.packages]:
                machine.require(package, "export")
            if Path(checked.out).exists():
                raise OutputError(f"out: {checked.out} exists; choose another folder")
        case TrainConfig():
            _check_folders(checked, run_dir.parent)


def _check_folders(config: TrainConfig, folder: Path) -> None:
    """Refuses roots of validation sets that are not there, and a folder that cannot be written."""
    for prefix, root in roots_of(config.validation_sets()).items():
        if not root.is_dir():
            raise MissingInputError(f"validation: no such folder, the root of {prefix}: {root}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"outputs: cannot make the folder {folder}; {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"outputs: cannot write in the folder {folder}")


def check_input(key: str, path: str) -> None:
    """Refuses a path, the value of `key`, at which there is nothing."""
    shipped = pretrained.names() if key in NAMED else []
    listed = key == "frames" and (path == STANDARD_INPUT or glob.glob(path))
    # The weights of a TensorFlow checkpoint are named by what its files' names begin with.
    if path in shipped or listed or Path(path).exists() or Path(f"{path}.index").exists():
        return
    known = f". Shipped weights: {', '.join(shipped) or 'none'}; or give a path"
    more = known if key in NAMED else ""
    raise MissingInputError(f"{key}: no such file or folder: {path}{more}")


def newest_run(text: str) -> Path | None:
    """The newest run, if `text` is `latest` (in outputs/) or a folder of runs; else None.

    Raises:
        MissingInputError: `latest`, and there is no run.
    """
    folder = Path(text.strip("'\""))
    if text == "latest":
        outputs = Path("outputs")  # runs, and children of sweeps
        found = [*outputs.glob(f"*/*/{CONFIG_FILE}"), *outputs.glob(f"*/*/*/{CONFIG_FILE}")]
        if not found:
            raise MissingInputError("latest: there is no run in outputs/")
    elif (folder / CONFIG_FILE).is_file():
        return None
    else:
        found = list(folder.glob(f"*/{CONFIG_FILE}"))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None
