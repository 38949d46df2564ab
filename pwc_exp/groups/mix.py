"""Several data sets as one, and the class of each data set."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.checks import check, nearest
from pwc_exp.errors import ConfigError
from pwc_exp.groups.data import (
    CsvConfig,
    DataConfig,
    Dataset,
    FilesConfig,
    FlyingChairs2Config,
    FlyingChairsConfig,
    FlyingThings3DConfig,
    FlyingThings3DHalfResConfig,
    FolderConfig,
    Hd1kConfig,
    KittiConfig,
    MiddleburyConfig,
    SintelConfig,
    SpringConfig,
    TartanAirConfig,
)
from pwc_exp.groups.synthetic import SyntheticConfig


@dataclass(kw_only=True)
class MixConfig(FilesConfig):
    """Several data sets as one."""

    first_entries: ClassVar[str] = "the folders of the parts"
    name: Dataset = Dataset.mix
    parts: list[Any]  # a mapping each: name, root (within root), knobs of that data set, weight

    def __post_init__(self) -> None:
        super().__post_init__()
        check(len(self.parts) > 0, "data.parts", "must name at least one data set", self.parts)
        self.part_configs()
        weights = [part.get("weight") for part in self.parts]
        given = all(isinstance(weight, int | float) and weight > 0 for weight in weights)
        requirement = "need a positive weight each, or none at all"
        check(given or set(weights) == {None}, "data.parts", requirement, weights)

    @property
    def weights(self) -> list[float] | None:
        """How many examples are drawn from each part, relative to the others."""
        weights = [part.get("weight") for part in self.parts]
        return None if None in weights else weights

    def part_configs(self) -> list[DataConfig]:
        """The data set of each part; what a part must share with the others is the mix's."""
        return [self._part(f"data.parts[{n}]", part) for n, part in enumerate(self.parts)]

    def _part(self, key: str, part: Any) -> DataConfig:
        check_dataset(key, part)
        schema = DATASETS[part["name"]]
        shared = {knob.name: getattr(self, knob.name) for knob in fields(FilesConfig)}
        del shared["name"], shared["root"], shared["quarantine"]
        values = {k: v for k, v in shared.items() if k in {knob.name for knob in fields(schema)}}
        for name, value in part.items():
            check(name not in shared, f"{key}.{name}", "must be stated for the whole mix", value)
            if name != "weight":
                values[name] = value
        return part_config(key, values, root=self.root)


def check_dataset(key: str, part: Any) -> None:
    """Refuses a part, one of several data sets, unless its name is that of a single one."""
    known = [name for name in DATASETS if name != Dataset.mix]
    name = part.get("name") if isinstance(part, dict) else part
    requirement = f"must be one of {', '.join(known)}{nearest(str(name), known)}"
    check(isinstance(part, dict) and name in known, f"{key}.name", requirement, part)


def part_config(key: str, values: Mapping[str, Any], *, root: str | None) -> DataConfig:
    """The configuration of a part, from its name and settings; its root is within `root`."""
    if "root" in values:
        values = {**values, "root": str(Path(root or "") / values["root"])}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(DATASETS[values["name"]]), values)
        return cast(DataConfig, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error


DATASETS: dict[str, type[DataConfig]] = {
    schema.name: schema
    for schema in (
        SyntheticConfig,
        FlyingChairsConfig,
        FlyingChairs2Config,
        FlyingThings3DConfig,
        FlyingThings3DHalfResConfig,
        SintelConfig,
        KittiConfig,
        Hd1kConfig,
        MiddleburyConfig,
        SpringConfig,
        TartanAirConfig,
        FolderConfig,
        CsvConfig,
        MixConfig,
    )
}


def name_of(data: DataConfig) -> str:
    """The data set; of a mix, those that it has, with + between."""
    parts = data.part_configs() if isinstance(data, MixConfig) else [data]
    return "+".join(dict.fromkeys(str(part.name) for part in parts))
