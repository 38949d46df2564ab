"""The commands of `python -m pwc_exp.data`: check, stats, index, show, halfres, fetch."""

import csv
import io
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np

from pwc_exp import storage
from pwc_exp.build import build_augment, build_skipped, build_source, index, index_settings
from pwc_exp.config.commands import (
    DataCheckConfig,
    DataFetchConfig,
    DataHalfresConfig,
    DataIndexConfig,
    DataShowConfig,
    DataStatsConfig,
)
from pwc_exp.config.data import DataConfig, FilesConfig, MixConfig, Split
from pwc_exp.data import check as checking
from pwc_exp.data import convention, quarantine
from pwc_exp.data import halfres as halving
from pwc_exp.data.datasets import CATALOGUE, known_pairs
from pwc_exp.data.datasets.layout import IncompleteError
from pwc_exp.data.fetch import fetch as fetch_entry
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.pipeline import EvalFeed, train_feed
from pwc_exp.data.sample import Sample, take_split
from pwc_exp.data.source import distinct, read_sample, read_truth
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.machine import processors
from pwc_exp.report import pictures

MOST_LISTED = 20  # findings of a kind on the terminal; the report has all


def check(config: DataCheckConfig) -> None:
    """Prints what is wrong with the files, writes it as report.json and quarantine.txt."""
    out = _out(config.out, config.data, "check")
    report: dict[str, object] = {}
    bad: dict[str, str] = {}
    wrong = []
    for name, part in _parts(config.data):
        samples = take_split(_samples(part), config.split, val_share=part.val_share)
        found = checking.check_samples(
            samples,
            read=read_sample if config.decode else None,
            workers=_workers(part),
            expected=known_pairs(part.name, Path(part.root or ""), **index_settings(part))
            if config.split == Split.all
            else None,
        )
        listed = checking.bad_samples(found)
        flow = convention.find_convention(
            [sample for sample in samples if sample.id not in listed],
            read=read_sample,
            workers=_workers(part),
            limit=config.convention_samples,
        )
        print(f"{part.name}: {part.root}", checking.text(found, most=MOST_LISTED), sep="\n")
        print(convention.text(flow))
        report[name] = checking.to_json(found) | {"convention": convention.to_json(flow)}
        prefix = f"{name}/" if isinstance(config.data, MixConfig) else ""
        bad |= {f"{prefix}{sample_id}": reason for sample_id, reason in listed.items()}
        if flow.verdict not in (convention.STANDARD, convention.UNDECIDED):
            wrong.append(f"flow of {name} is {flow.verdict}")
        elif not flow.fits:
            wrong.append(f"flow of {name} does not lead from frame 1 to frame 2")
    storage.write_file(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print(f"written: {out / 'report.json'}")
    if bad:
        quarantine.write(out / quarantine.FILE, bad)
        wrong.append(
            f"{len(bad)} pairs are unusable; repair them, or leave them out with "
            f"data.quarantine={out / quarantine.FILE}"
        )
    if wrong:
        raise DataError("; ".join(wrong))


def stats(config: DataStatsConfig) -> None:
    """Prints statistics of the motion and of valid pixels, and writes stats.json."""
    out = _out(config.out, config.data, "stats")
    if isinstance(config.data, FilesConfig) and not isinstance(config.data, MixConfig):
        found = checking.flow_statistics(
            take_split(index(config.data), config.split, val_share=config.data.val_share),
            read=read_truth,
            workers=_workers(config.data),
            limit=config.samples,
        )
    else:
        source = build_source(config.data, config.split)
        feed = EvalFeed(source, batch_size=1, multiple=1, limit=config.samples)
        found = checking.summarize(
            checking.tally(
                source.ids[int(batch.index[0])], batch.flow[0].numpy(), batch.valid[0].numpy()
            )
            for batch in feed
        )
    print(config.data.name, checking.statistics_text(found), sep="\n")
    content = json.dumps(checking.statistics_json(found), indent=2) + "\n"
    storage.write_file(out / "stats.json", content.encode())
    print(f"written: {out / 'stats.json'}")


def list_samples(config: DataIndexConfig) -> None:
    """Prints how many pairs each scene has in which split, or writes all pairs as CSV."""
    if not isinstance(config.data, FilesConfig):
        raise ConfigError(f"data: {config.data.name} is not a data set of files")
    samples = index(config.data)
    held_out = {s.id for s in take_split(samples, "val", val_share=config.data.val_share)}
    chosen = take_split(samples, config.split, val_share=config.data.val_share)
    if config.out is not None:
        storage.make_folder(Path(config.out).parent)
        storage.write_file(Path(config.out), _as_csv(chosen, config.data, held_out).encode())
        print(f"{len(chosen)} pairs written: {config.out}")
        return
    by_scene = sorted(chosen, key=lambda sample: sample.scene)
    for scene, pairs in itertools.groupby(by_scene, key=lambda sample: sample.scene):
        ids = [sample.id for sample in pairs]
        split = "val" if ids[0] in held_out else "train"
        print(f"{split:<6}{len(ids):>6}  {scene}  ({ids[0]} .. {ids[-1]})")
    print(f"{len(chosen)} pairs, {sum(sample.id in held_out for sample in chosen)} of them in val")


def show(config: DataShowConfig) -> None:
    """Draws samples as training sees them: frames, flow, and frame 2 warped back to frame 1."""
    storage.make_folder(Path(config.out).parent)
    source = build_source(config.data, config.split)
    feed = train_feed(
        source,
        batch_size=1,
        crop=config.data.crop,
        augment=build_augment(config.augment),
        seed=config.seed,
        start_step=0,
        steps=config.samples,
        skipped=build_skipped(config.data, source),
    )
    examples: dict[str, list[np.ndarray]] = {}
    for batch in feed:
        name = source.ids[int(batch.index[0])]
        examples[f"{len(examples) + 1}. {name}"] = [part[0].numpy() for part in batch[:4]]
    write_image(Path(config.out), pictures.sheet(examples))
    print(f"{len(examples)} samples drawn: {config.out}")


def _parts(config: DataConfig) -> list[tuple[str, FilesConfig]]:
    """The data sets of files, each with a name of its own."""
    parts = config.part_configs() if isinstance(config, MixConfig) else [config]
    files = [part for part in parts if isinstance(part, FilesConfig)]
    if not files:
        raise ConfigError(f"data: {config.name} has no files to check")
    names = distinct([part.name for part in files])
    return list(zip(names, files, strict=True))


def _samples(config: FilesConfig) -> list[Sample]:
    """All samples, also those that lack a file: `check` lists every one of these."""
    try:
        return index(config)
    except IncompleteError as error:
        return error.samples


def _as_csv(samples: list[Sample], config: FilesConfig, held_out: set[str]) -> str:
    text = io.StringIO()
    masks = ("valid", "invalid", "occlusion", "visible", "objects")
    roles = ("frame1", "frame2", "flow", *masks)
    used = [role for role in roles if any(getattr(sample, role) for sample in samples)]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "scene", "split", "flow_stride", *used])
    for sample in samples:
        paths = [getattr(sample, role) for role in used]
        relative = ["" if path is None else os.path.relpath(path, config.root) for path in paths]
        split = "val" if sample.id in held_out else "train"
        rows.writerow([sample.id, sample.scene, split, sample.flow_stride, *relative])
    return text.getvalue()


def _out(out: str | None, data: DataConfig, what: str) -> Path:
    folder = Path(out or f"outputs/data/{data.name}-{what}/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    storage.make_folder(folder)
    return folder


def _workers(config: DataConfig) -> int:
    return config.workers or len(processors())


def halfres(config: DataHalfresConfig) -> None:
    """Makes FlyingThings3D at half its size, or what an earlier call left to make."""
    made = halving.halve(
        Path(config.root), Path(config.out), workers=config.workers or len(processors())
    )
    print(f"{made.frames} frames and {made.flows} flows found, {made.ignored} other files left")
    print(f"{made.made} made, {made.kept} there already: {config.out}")
    if failures := made.failures:
        raise DataError(f"{len(failures)} files could not be halved. The first: {failures[0]}")


def fetch(config: DataFetchConfig) -> None:
    """Shows what would be downloaded and on what terms; with accept_licence, does it."""
    name = config.entry or str(config.data.name)
    if name not in CATALOGUE or not isinstance(config.data, FilesConfig):
        alike = [known for known in CATALOGUE if known.startswith(config.data.name)] or CATALOGUE
        raise ConfigError(f"entry must be one of {', '.join(alike)}. Received: {name}")
    fetched = fetch_entry(
        CATALOGUE[name],
        Path(config.data.root or ""),
        accept_licence=config.accept_licence,
        keep_archives=config.keep_archives,
    )
    if fetched.pending:
        print("To download on these terms: accept_licence=true")
