"""What a run is validated on: held-out samples of its own data, and other data sets."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pwc_exp.checks import check
from pwc_exp.errors import ConfigError
from pwc_exp.groups.data import DataConfig, FilesConfig, Split
from pwc_exp.groups.mix import DATASETS, MixConfig, check_dataset, part_config

OWN = "val"  # prefix of the metrics of the held-out samples; of a data set: val/<name>
METRICS = ("aepe", "aepe_per_image", "fl_all", "outlier_3px")  # of each set; lower is better
BEST_METRIC = f"{OWN}/aepe"  # by which checkpoints and runs are ranked, if nothing else is said
MEAN_AEPE = f"{OWN}/mean/aepe"  # geometric mean over the data sets of `validation`, if several
_NAME = re.compile(r"[\w.-]+")


class ValidationSet(NamedTuple):
    """A data set to validate on.

    prefix: of its metrics and pictures, val/<name>.
    """

    prefix: str
    data: DataConfig
    split: Split


def validation_sets(
    entries: Sequence[Any], *, root: str | None, data: DataConfig
) -> list[ValidationSet]:
    """The data sets that `validation` lists.

    Args:
        entries: a name, `name:root`, or a mapping with name, root, as (its name in metrics), split
            and the settings of that data set.
        root: folder that their roots are relative to.
        data: what the run trains on.
    """
    found = [_set(f"validation[{n}]", entry, root, data) for n, entry in enumerate(entries)]
    taken = [str(part["name"]) for part in data.parts] if isinstance(data, MixConfig) else []
    for place, each in enumerate(found):
        name = each.prefix.removeprefix(f"{OWN}/")
        known = [
            *taken,
            *METRICS,
            "mean",
            *(s.prefix.removeprefix(f"{OWN}/") for s in found[:place]),
        ]
        requirement = "needs a name of its own in metrics: {name: …, as: …}"
        check(name not in known, f"validation[{place}]", requirement, name)
    return found


def metrics(sets: Sequence[ValidationSet], *, own: bool) -> list[str]:
    """The keys of all curves of a validation. own: with those of the held-out samples."""
    prefixes = [*([OWN] if own else []), *(each.prefix for each in sets)]
    keys = [f"{prefix}/{metric}" for prefix in prefixes for metric in METRICS]
    return [*keys, *([MEAN_AEPE] if len(sets) > 1 else [])]


def _set(key: str, entry: Any, root: str | None, data: DataConfig) -> ValidationSet:
    if isinstance(entry, str):
        name, colon, place = entry.partition(":")
        entry = {"name": name, **({"root": place} if colon else {})}
    check_dataset(key, entry)
    values = {"crop": data.crop, **entry}
    called = str(values.pop("as", values["name"]))
    check(bool(_NAME.fullmatch(called)), f"{key}.as", "must be letters, digits, _, . or -", called)
    split = str(values.pop("split", Split.all))
    check(split in list(Split), f"{key}.split", f"must be one of {', '.join(Split)}", split)
    schema = DATASETS[values["name"]]
    if issubclass(schema, FilesConfig) and "root" not in values:
        if root is None or not schema.folder:
            raise ConfigError(
                f"{key}: {values['name']} needs its root, the folder that holds "
                f"{schema.first_entries}: validation=[{values['name']}:<root>]"
                + (f", or validation_root=<folder with {schema.folder}>" if schema.folder else "")
            )
        values["root"] = schema.folder
    return ValidationSet(f"{OWN}/{called}", part_config(key, values, root=root), Split(split))


def roots_of(sets: Sequence[ValidationSet]) -> dict[str, Path]:
    """The roots of the sets that have one, by the prefix of their metrics."""
    return {
        each.prefix: Path(each.data.root or "")
        for each in sets
        if isinstance(each.data, FilesConfig)
    }
