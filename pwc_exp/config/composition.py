"""From the arguments of a command to its checked configuration; which run they resume.

Hydra composes the files of `conf/` and `experiments/` with the arguments. Errors of Hydra,
OmegaConf, YAML and our checks become a `UserError` of one line that names the key or the file, and
the nearest key.
"""

import copy
import dataclasses
import difflib
import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pwc_exp.config import schema
from pwc_exp.config.schema import (
    CHOICES,
    COMMANDS,
    CONFIG_FILE,
    VARIANTS,
    Config,
    flatten,
    groups,
    load,
    variants,
)
from pwc_exp.config.training import ModelConfig, TrainConfig
from pwc_exp.errors import ConfigError, MissingExtraError, MissingInputError, ResumeError, UserError
from pwc_exp.machine import install_command

PACKAGE = Path(__file__).resolve().parents[1]
PLUGINS_FOLDER = str(PACKAGE / "_plugins")
# Choices that need a plugin, and the extra that installs it.
PLUGINS = {
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/ray": "ray",
}
# Words of other frameworks: (the setting here, the last parts of keys elsewhere, what to write).
ELSEWHERE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "schedule",
        ("lr", "learning_rate", "max_lr"),
        "the learning rate is schedule.peak, schedule.rate or schedule.values, by schedule",
    ),
    (
        "steps",
        ("epochs", "max_epochs", "num_epochs", "num_steps", "max_steps"),
        "the length of a run is steps=..., in optimizer updates; there are no epochs",
    ),
    ("batch_size", ("batch", "bs"), "examples per step are batch_size=..."),
    ("devices", ("gpu", "gpus", "device", "devices"), "the GPUs to use are devices.gpus=[0,1]"),
    (
        "precision",
        ("amp", "fp16", "bf16", "mixed_precision", "dtype"),
        "number formats are precision=fp32|fp16|bf16",
    ),
    (
        "init_from",
        ("weights", "pretrained", "load", "finetune", "run"),
        "the weights to start from are init_from=...",
    ),
    (
        "init_from",
        ("ckpt", "ckpt_path", "checkpoint", "restore_ckpt"),
        "the weights to start from are init_from=..., the run to continue is resume=...",
    ),
    (
        "weights",
        ("ckpt", "ckpt_path", "checkpoint", "restore_ckpt", "pretrained", "load", "model_path"),
        "networks are named by weights=... or run=...",
    ),
    (
        "frames",
        ("input", "inputs", "image", "image1", "image2", "images", "video"),
        "frames are two paths without a key, or frames=[a.png,b.png]",
    ),
    ("augment", ("aug", "augmentation", "augmentations"), "augmentation is augment=..."),
    (
        "experiment",
        ("config", "cfg", "preset", "recipe"),
        "a file of settings is experiment=..., in ./experiments",
    ),
    ("tracking", ("logger", "wandb", "mlflow"), "runs are tracked with MLflow: tracking.uri=..."),
    ("steps", ("trainer",), "steps, batch_size, precision and devices.gpus have no prefix"),
    ("optimizer", ("wd",), "weight decay is optimizer.weight_decay with optimizer=adamw"),
    ("optimizer", ("clip", "grad_clip"), "gradients are clipped by optimizer.clip_norm"),
    ("data", ("dataset", "datasets"), "data sets are chosen by data=..."),
    ("data", ("num_workers",), "parallel reads are data.workers"),
)
RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")  # ${name:...}, for example ${oc.env:SECRET}


class Composition(NamedTuple):
    """The composed values of a command, and the run folder."""

    values: DictConfig
    run_dir: Path


def quoted(text: str) -> str:
    """`text` as a value in Hydra's grammar."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def data_dir(name: str) -> Path:
    """The folder `name` (conf or experiments): the installed package's, else the checkout's."""
    installed = PACKAGE / "_data" / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def choices_of(group: str) -> list[str]:
    """The choices of a group: its files in conf/."""
    return sorted(path.stem for path in (data_dir("conf") / group).glob("*.yaml"))


def register(overrides: Sequence[str] = (), command: str = "train") -> None:
    """Registers schemas and presets with Hydra; ./experiments takes precedence over our presets.

    overrides: of `command`. If they choose another variant of a group than a preset, the preset's
    values that this variant does not have are dropped: experiment=quickstart schedule=onecycle.
    """
    if PLUGINS_FOLDER not in sys.path:  # Hydra searches it when it is first used
        sys.path.append(PLUGINS_FOLDER)
    chosen = _chosen_variants(overrides)
    folders = (data_dir("experiments"), Path("experiments").absolute())
    presets = {p: p.stat().st_mtime_ns for folder in folders for p in sorted(folder.glob("*.yaml"))}
    _tell_hydra(command, tuple(chosen.items()), tuple(presets.items()))


@functools.lru_cache(maxsize=1)  # what was registered last is what Hydra has
def _tell_hydra(
    command: str, chosen: tuple[tuple[str, str], ...], presets: tuple[tuple[Path, int], ...]
) -> None:
    """Registers schemas, and presets without the settings that `chosen` variants do not have."""
    schema.register(command)
    for path, modified in presets:
        preset = copy.deepcopy(_read_preset(path, modified))
        for group, variant in chosen:
            if group in preset:
                _leave_out(preset[group], VARIANTS[group], variant)
        ConfigStore.instance().store(
            group="experiment", name=path.stem, node=preset, package="_global_"
        )


@functools.cache
def _read_preset(path: Path, modified: int) -> DictConfig:
    """The values of a file last `modified` then, in nanoseconds since 1970."""
    with refusals("train"):
        return cast(DictConfig, OmegaConf.load(path))


def _chosen_variants(overrides: Sequence[str]) -> dict[str, str]:
    """The variants of groups that `overrides` choose."""
    with refusals("train"):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    chosen = {o.key_or_group: str(o.value()) for o in parsed if not o.is_sweep_override()}
    return {group: name for group, name in chosen.items() if name in VARIANTS.get(group, {})}


def _leave_out(values: DictConfig, variants: Mapping[str, type], variant: str) -> None:
    """Removes settings of other variants; unknown settings stay and are refused later."""
    kept = {setting.name for setting in dataclasses.fields(variants[variant])}
    known = {setting.name for kind in variants.values() for setting in dataclasses.fields(kind)}
    for setting in known - kept:
        values.pop(setting, None)


def compose_command(command: str, overrides: Sequence[str]) -> Composition:
    """Composes one job of `command`; only the types of the values are checked."""
    # Hydra raises these for model=null, and for a setting of a group without a choice.
    with refusals(command, ValueError, AssertionError):
        _check_overrides(command, overrides)
        register(overrides, command)
        with initialize_config_dir(config_dir=str(data_dir("conf")), version_base="1.3"):
            values = compose(command, list(overrides), return_hydra_config=True)
            run_dir = Path(values.hydra.run.dir)
            chosen = values.hydra.runtime.choices
    with open_dict(values):
        del values["hydra"]
    if command == "train":
        record_choices(values, chosen)
    return Composition(values, run_dir)


def record_choices(values: DictConfig, chosen: Mapping[Any, Any]) -> None:
    """Puts the choices of groups that Hydra made into the values of a training run."""
    values.choices = {
        str(group): str(choice)
        for group, choice in chosen.items()
        if choice is not None and not str(group).startswith("hydra/")
    }


def check(values: DictConfig, command: str) -> Config:
    """The configuration as dataclasses, with every key known and every value in its range."""
    with refusals(command):
        for key in _extra_keys(values):
            raise ConfigError(_unknown_key(key, command))
        _refuse_resolvers(OmegaConf.to_container(values, resolve=False))
        for key in sorted(OmegaConf.missing_keys(values)):
            raise ConfigError(f"{key}: a value is needed: {key}=...")
        return cast(Config, OmegaConf.to_object(values))


def choices(command: str, group: str) -> list[str]:
    """The choices of a group that a command takes: `auto` precision is for inference only."""
    if group != "precision":
        return choices_of(group)
    policy = get_type_hints(groups(COMMANDS[command])[group])["policy"]
    return sorted(next(iter(get_args(policy)), policy))


def read_model(name: str) -> ModelConfig:
    """The configuration of a choice of the group `model`.

    Raises:
        ConfigError: there is no such choice.
    """
    if name not in choices_of("model"):
        raise ConfigError(_unknown_choice(f"model/{name}", choices_of("model")))
    saved = OmegaConf.load(data_dir("conf") / "model" / f"{name}.yaml")
    return cast(
        ModelConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), saved))
    )


@contextmanager
def refusals(command: str, *more: type[Exception]) -> Iterator[None]:
    """Turns errors of Hydra, OmegaConf and YAML into a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, *more) as error:
        _ask_for_extra(error)
        raise ConfigError(_explanation(error, command)) from error


def _ask_for_extra(error: BaseException | None) -> None:
    """Raises a `MissingExtraError` if the error is a plugin that an extra would install."""
    while error is not None:
        path = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
        if extra := PLUGINS.get(path or ""):
            raise MissingExtraError(f"{path} is not installed: {install_command(extra)}")
        error = error.__cause__ or error.__context__


def _explanation(error: BaseException, command: str) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if explanation := _explanation_of_one(cause, command):
            where = re.match(r"In '([^']+)'", str(error))  # how Hydra names a file other than ours
            return explanation + (f" (in {where[1]}.yaml)" if where and where[1] != command else "")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, AssertionError):
        return "a setting of a group is given, but the group has no choice: give it, too"
    if group := re.match(r"Could not override '(\w+)'", str(error)):  # that `command` lacks
        return _unknown_key(group[1], command)
    if group := re.match(r"You must specify '(\w+)'", str(error)):
        return f"{group[1]}: a choice is needed: {group[1]}={'|'.join(choices(command, group[1]))}"
    return str(error)


def _explanation_of_one(error: BaseException, command: str) -> str | None:
    match error:
        case MissingConfigException(missing_cfg_file=str(path)):
            group = path.rpartition("/")[0]
            known = group in groups(COMMANDS[command])
            return _unknown_choice(path, choices(command, group) if known else error.options or [])
        case OverrideParseException():
            return f"{error.override}: not key=value; quote special characters: \"key='a=b'\""
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
            return f"{mark.name}:{mark.line + 1}: malformed YAML; {error.problem}"
        case ConfigKeyError() | ConfigAttributeError():
            return _unknown_key(str(error.full_key), command)
        case OmegaConfBaseException():
            key, text = error.full_key, str(error.msg).splitlines()[0]
            if "is not a ListConfig" in text:
                text = f"a list is needed: {key}=[...]"
            return f"{key}: {text}" if key else text
    return None


def _unknown_choice(path: str, choices: Sequence[str]) -> str:
    group, _, choice = path.rpartition("/")
    hint = _hint(choice, {name: name for name in choices})
    return f"{group}: unknown choice '{choice}', not one of {', '.join(choices)}{hint}"


def _unknown_key(key: str, command: str) -> str:
    keys = [*_known_keys(COMMANDS[command]), *(["experiment"] if command == "train" else [])]
    if key in keys:
        return f"{key}: the chosen {key.partition('.')[0]} has no such key"
    word = key.rpartition(".")[2]
    for setting, words, what in ELSEWHERE:
        if word in words and setting in keys:
            return f"{key}: unknown key; {what}"
    names = {key.rpartition(".")[2]: key for key in reversed(keys)} | {key: key for key in keys}
    return f"{key}: unknown key" + (_hint(key, names) or _hint(word, names))


def _hint(name: str, known: dict[str, str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean '{known[nearest[0]]}'?" if nearest else ""


def _known_keys(schema: type, prefix: str = "") -> Iterator[str]:
    nested = groups(schema)
    for setting in dataclasses.fields(schema):
        yield prefix + setting.name
        if setting.name in nested:
            yield from _known_keys(nested[setting.name], f"{prefix}{setting.name}.")
    variants: list[type] = schema.__subclasses__()
    for variant in variants:
        yield from _known_keys(variant, prefix)


def _extra_keys(values: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys that were added with `+`, which Hydra allows even if the schema has no such key."""
    known = {setting.name for setting in dataclasses.fields(cast(Any, OmegaConf.get_type(values)))}
    for name in map(str, values):
        if name not in known:
            yield prefix + name
        elif dataclasses.is_dataclass(OmegaConf.get_type(values, name)):
            yield from _extra_keys(values[name], f"{prefix}{name}.")


def _check_overrides(command: str, overrides: Sequence[str]) -> None:
    """Refuses several values of a key, and values of groups that cannot be choices."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, line = override.key_or_group, override.input_line
        if override.is_sweep_override():
            raise ConfigError(
                f"{key}: one value is needed. For a list, write {key}=[...]; to run a job for each"
                f" value, add -m. Received: {line}"
            )
        value, kinds = override.value(), groups(COMMANDS[command])
        if override.is_delete() or isinstance(value, dict) or key not in kinds:
            continue
        if value is None and type(None) in get_args(get_type_hints(COMMANDS[command])[key]):
            continue
        names = choices(command, key)
        if not names:
            raise ConfigError(f"{key}: has settings of its own, {key}.…. Received: {value}")
        if not isinstance(value, str | list):
            raise ConfigError(_unknown_choice(f"{key}/{'null' if value is None else value}", names))


def _refuse_resolvers(value: Any, key: str = "") -> None:
    """Refuses `${name:...}`: what it reads, perhaps a secret, would get into the run's records."""
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_resolvers(item, f"{key}.{name}".lstrip("."))
    elif RESOLVER.search(str(value)):
        raise ConfigError(f"{key}: interpolations with a resolver are refused. Received: {value}")


AUTO = "auto"
# Validation; these values must be consistent with each other.
VALIDATION = ("validation", "validation_root", "val_split", "best_metric")
# Settings that change no weight of the run, and paths. All others define the run.
FREE = frozenset(
    {
        *("steps", "resume", "outputs"),
        *("log_every", "eval_every", "save_every", "keep_best", "val_batch_size"),
        *VALIDATION,
        *("picture_samples", "xla", "on_nonfinite", "nonfinite_limit", "on_stuck"),
        *("data.root", "data.workers", "data.cache", "data.on_bad"),
    }
)
FREE_GROUPS = ("tracking.", "devices.")


class Resumption(NamedTuple):
    """A run to resume."""

    config: TrainConfig
    run_dir: Path


def resume(overrides: Sequence[str]) -> Resumption | None:
    """The run that the arguments of `train` resume; None: a new run.

    Raises:
        MissingInputError: there is no such run.
        ResumeError: the arguments change settings that define the run.
    """
    given = [text for text in overrides if text.lstrip("+").startswith("resume=")]
    which = compose_command("train", given).values.resume if given else None
    if which is None:
        return None
    if which == AUTO:
        values, run_dir = compose_command("train", overrides)
        config = cast(TrainConfig, check(values, "train"))
        if any(text.startswith("hydra.run.dir=") for text in overrides):
            return _in_folder(run_dir.absolute(), config)
        return _newest_alike(config)
    run_dir = Path(which).absolute()
    if not (run_dir / CONFIG_FILE).is_file():
        raise MissingInputError(f"resume: not a run, {CONFIG_FILE} is missing: {which}")
    saved = load(run_dir / CONFIG_FILE)
    config = _with_overrides(saved, overrides)
    _refuse(run_dir, identity_changes(saved, config))
    return Resumption(config, run_dir)


def changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings: {key: (then, now)}."""
    then, now = flatten(saved), flatten(config)
    return {
        key: (then.get(key), now.get(key))
        for key in {**then, **now}
        if then.get(key) != now.get(key) and key != "resume" and not key.startswith(CHOICES)
    }


def identity_changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings that define a run."""
    return {key: pair for key, pair in changes(saved, config).items() if not _is_free(key)}


def free_changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings that may change."""
    return {key: pair for key, pair in changes(saved, config).items() if _is_free(key)}


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """`changed` as text, `key then -> now` each."""
    return ", ".join(f"{key} {then} -> {now}" for key, (then, now) in changed.items())


def _refuse(run_dir: Path, changed: Mapping[str, tuple[Any, Any]]) -> None:
    if changed:
        raise ResumeError(
            f"resume: {run_dir} must keep the values that it started with. Received: "
            f"{in_words(changed)}. A new run can start from its weights: init_from={run_dir}"
        )


def _in_folder(run_dir: Path, config: TrainConfig) -> Resumption | None:
    """The run of `hydra.run.dir`, if there is one: a child of a sweep is started like this.

    Only tracking and devices may differ: other children of the sweep have the same steps.
    """
    file = run_dir / CONFIG_FILE
    if not file.is_file():
        return None
    saved = load(file)
    changed = changes(saved, config).items()
    _refuse(run_dir, {key: pair for key, pair in changed if not key.startswith(FREE_GROUPS)})
    return Resumption(dataclasses.replace(config, resume=str(run_dir)), run_dir)


def _newest_alike(config: TrainConfig) -> Resumption | None:
    """The newest run of this name with the same values."""
    folders = sorted(Path(config.outputs, config.name).absolute().glob(f"*/{CONFIG_FILE}"))
    for path in reversed(folders):
        try:
            saved = load(path)
        except ValueError:  # of a version with other settings
            continue
        if not identity_changes(saved, config):
            found = dataclasses.replace(config, resume=str(path.parent))
            return Resumption(found, path.parent)
    return None


def _with_overrides(saved: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """`saved`, updated by the keys and groups in `overrides`."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    named = [override.key_or_group for override in parsed]
    if "experiment" in named:
        raise ConfigError("experiment: cannot be combined with resume; the run has its values")
    unnamed = [f"{key}={choice}" for key, choice in variants(saved).items() if key not in named]
    composed = _complete(saved, [*unnamed, *overrides])
    for key in VALIDATION:
        if key not in named:
            composed[key] = getattr(saved, key)
    given = OmegaConf.structured(check(composed, "train"))
    values = OmegaConf.structured(saved)
    for key in named:
        if "." in key:
            OmegaConf.update(values, key, OmegaConf.select(given, key))
        else:
            values[key] = given[key]
    return cast(TrainConfig, OmegaConf.to_object(values))


def _complete(saved: TrainConfig, overrides: Sequence[str]) -> DictConfig:
    """The composition of `overrides`; required values that are missing are taken from `saved`."""
    values = compose_command("train", overrides).values
    before = flatten(saved)
    needed = OmegaConf.missing_keys(values)
    if "root" in values.data and values.data.root is None:  # which a data set on disk refuses
        needed.add("data.root")
    for key in needed:
        if key in before:
            OmegaConf.update(values, key, before[key])
    return values


def _is_free(key: str) -> bool:
    return key in FREE or key.startswith(FREE_GROUPS)
