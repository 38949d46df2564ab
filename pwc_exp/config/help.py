"""The text of `--help`: usage, examples, one line for each setting from the schema's comments."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, cast, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf

from pwc_exp.config.composition import choices
from pwc_exp.config.schema import COMMANDS, groups

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "train": (
        "experiment=quickstart",
        "model=small schedule=onecycle data=flyingchairs data.root=FlyingChairs_release",
        "resume=outputs/train/2026-11-30_10-30-00",
    ),
    "evaluate": (
        "run=outputs/train/2026-11-30_10-30-00 data=sintel data.root=MPI-Sintel",
        "weights=fast estimate=[zero,dis] data=kitti data.root=kitti2015",
        "predictions=flows data=middlebury data.root=Middlebury",
    ),
    "compare": ("outputs/train/2026-11-30_10-30-00 outputs/train/2026-11-30_14-00-00",),
    "leaderboard": ("", "dataset=synthetic top=5", "metric=val/sintel/aepe out=board.md"),
    "predict": (
        "frame1.png frame2.png",
        "frames=clip.mp4 outputs=[flow_video]",
        "frames=folder outputs=[kitti,picture] out=flows",
    ),
    "submit": ("benchmark=sintel root=MPI-Sintel weights=fast out=submission",),
    "export": ("out=exported", "out=exported formats=[onnx] run=outputs/train/2026-11-30_10-30-00"),
    "export_weights": ("run=outputs/train/2026-11-30_10-30-00 out=mine.safetensors",),
    "export_card": ("weights=mine.safetensors data=sintel data.root=MPI-Sintel",),
    "serve": ("", "port=8000 exported=exported/savedmodel"),
    "sync": ("outputs/train/2026-11-30_10-30-00",),
    "ui": ("", "outputs=results mlflow_port=0 tensorboard_port=0"),
    "replay": ("outputs/train/2026-11-30_10-30-00/blackbox/step-00001234",),
    "describe": ("model=lg", "model=fast size=[384,512]"),
    "benchmark": ("model=small models=[fast]", "model=sm precision=bf16"),
    "benchmark_pipeline": ("augment=modern", "data=sintel data.root=MPI-Sintel"),
    "data_check": ("data=sintel data.root=MPI-Sintel decode=true",),
    "data_stats": ("data=flyingchairs data.root=FlyingChairs_release",),
    "data_index": ("data=kitti data.root=kitti2015 out=kitti.csv",),
    "data_show": ("data=scenes augment=modern out=samples.png",),
    "data_halfres": ("root=FlyingThings3D out=FlyingThings3D_HalfRes",),
    "data_fetch": ("data=middlebury data.root=Middlebury accept_licence=true",),
}
RECORD = "choices"  # not a setting, but a record
_SETTING = re.compile(r"    (\w+): [^#]*?(?:# (.*))?$")


def help_text(command: str, values: DictConfig | None, group: str | None) -> str:
    """The help of a command, or of one of its groups.

    Args:
        command: name in `COMMANDS`.
        values: the composed configuration, for the values shown; None: the defaults of the schema.
        group: a group, such as "schedule"; None: the command as a whole.
    """
    program = f"python -m pwc_exp.{command.replace('_', ' ')}"
    schema = COMMANDS[command]
    if group is not None:
        shown = values[group] if values is not None else None
        chosen = OmegaConf.get_type(values, group) if values is not None else None
        kind = chosen if dataclasses.is_dataclass(chosen) else groups(schema)[group]
        names = choices(command, group)
        listed = [f"choices: {', '.join(names)}"] if names else []
        head = [f"{group}: {_first_line(kind)}", *listed, ""]
        return "\n".join([*head, *_settings(kind, shown, f"{group}.")])
    lines = [f"usage: {program} [setting=value ...]", "", _first_line(schema), "", "examples:"]
    lines += [f"  {program} {example}".rstrip() for example in EXAMPLES[command]]
    if nested := groups(schema):
        lines += ["", f"groups (settings of a group: {program} --help <group>):"]
        lines += [f"  {n}: {'|'.join(names)}" for n in nested if (names := choices(command, n))]
    lines += ["", "settings:", *_settings(schema, values, "")]
    for name, kind in nested.items():
        if not choices(command, name):
            lines += _settings(kind, values[name] if values is not None else None, f"{name}.")
    return "\n".join(lines)


@functools.cache
def explanations(schema: Any) -> dict[str, str]:
    """What each setting of a schema means: the comment at its line, or right above it."""
    found: dict[str, str] = {}
    for kind in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        above: list[str] = []
        for line in inspect.getsource(cast(type, kind)).splitlines():
            if line.startswith("    # "):
                above.append(line.removeprefix("    # "))
            elif match := _SETTING.match(line):
                found[match[1]] = match[2] or " ".join(above) or found.get(match[1], "")
                above = []
            elif line.startswith("    ") and not line.startswith("     "):
                above = []
    return {each.name: found.get(each.name, "") for each in dataclasses.fields(schema)}


def _settings(schema: type, values: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(schema)
    for name, meaning in explanations(schema).items():
        if name in groups(schema) or name == RECORD:
            continue
        kinds = [hints[name], *get_args(hints[name])]
        enum = next((k for k in kinds if isinstance(k, type) and issubclass(k, StrEnum)), None)
        allowed = f" ({'|'.join(enum)})" if enum else ""
        yield f"  {prefix}{name}={_value(schema, name, values) or '(required)'}  {meaning}{allowed}"


def _value(schema: type, name: str, values: Any) -> str:
    """The value as it would be written; empty if it must be given."""
    if values is not None and not OmegaConf.is_missing(values, name):
        value = values[name]
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, enum_to_str=True)
    else:
        field = next(each for each in dataclasses.fields(cast(Any, schema)) if each.name == name)
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is dataclasses.MISSING:
            return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace("'", "").replace(" ", "")


def _first_line(schema: Any) -> str:
    return (schema.__doc__ or "").strip().splitlines()[0]
