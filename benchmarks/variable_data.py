"""Light curves for training and judging ``variable_star``: simulated on real stamps, real RR Lyrae, EROS-1, ZTF.

Every set is measured and prepared once and kept as ``CACHE/<set>.npz``. Stripe 82 stars are halved: stars of half A
lend their stamps to the training sky and their labels to fine-tuning, stars of half B only judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.light_curve_tokens import prepare
from finetune.task import Example
from transforms.period import measure_light_curve
from transforms.readers import Source
from transforms.readers.light_curves import FORMATS
from transforms.records import FileRef, LightCurve
from transforms.simulate.light_curve_cadence import Cadence, thinned
from transforms.simulate.light_curves import simulate_light_curves

SPLIT_SEED = 2026

_TABLE = next(f for f in FORMATS if f.name == "light_curve_table")


def read(path: Path, root: Path) -> Iterator[LightCurve]:
    """All light curves of a table."""
    ref = FileRef(
        url=str(path), source=str(path.relative_to(root)), digest=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    with Source(ref) as source:
        for item in _TABLE.items(source):
            for entry in _TABLE.entries(source, item):
                yield entry.load()


def labels(data: Path) -> dict[str, list[str]]:
    lines = (data / "lightcurves" / "labels.csv").read_text().splitlines()[1:]
    return {line.split(",")[0]: line.split(",") for line in lines}


def stripe_82(data: Path) -> list[tuple[LightCurve, str]]:
    """Real RR Lyrae with class, sorted by file."""
    root = data / "lightcurves"
    known = labels(data)
    files = sorted(name for name in known if name.startswith("rrlyr_s82/"))
    return [(next(read(root / name, root)), known[name][1].lower()) for name in files]


def halves(stars: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    order = np.random.default_rng(SPLIT_SEED).permutation(len(stars))
    first = set(order[: len(stars) // 2].tolist())
    return [s for i, s in enumerate(stars) if i in first], [s for i, s in enumerate(stars) if i not in first]


def donor(record: LightCurve, depth: float, floor: float) -> Cadence:
    """Stamps of a real star: points that have a brightness and an error below one magnitude."""
    ratio = record.flux_err / np.where(record.flux > 0, record.flux, np.nan)
    good = (ratio > 0) & (ratio < 0.4 * np.log(10))
    return Cadence(record.time[good], record.band[good], depth, floor, record.object_id)


def ztf_donors(data: Path) -> list[Cadence]:
    """Stamps of 80 ZTF supernovae with twenty points or more."""
    root = data / "lightcurves"
    found = []
    for name in sorted(name for name in labels(data) if name.startswith("snia_ztf")):
        cadence = donor(next(read(root / name, root)), 20.6, 0.015)
        if cadence.time.size >= 20:
            found.append(cadence)
    rng = np.random.default_rng(SPLIT_SEED)
    rng.permutation(381)  # the draw of ``halves``
    rng.shuffle(found)  # type: ignore[arg-type]
    return found[:80]


def ready(record: LightCurve, truth: dict[str, Any], group: str, origin: str) -> Example:
    """Measure, prepare, and keep only what the model takes."""
    arrays = prepare(measure_light_curve(record, {}))
    empty = np.zeros(0)
    stub = LightCurve(
        source=record.source, object_id=record.object_id, row=record.row, measured={"prepared": arrays},
        time=empty, flux=empty, flux_err=empty, band=empty.astype(str), quality=empty.astype(bool),
    )  # fmt: skip
    return Example(record=stub, labels=truth, group=group, origin=origin)


def prepared(record: LightCurve) -> dict[str, np.ndarray]:
    """In place of the task's ``prepare`` for examples made by ``ready``."""
    return record.measured["prepared"]


def simulated(
    n: int, seed: int, donors: Sequence[Cadence], hard: bool, origin: str, margin: float = 1.0
) -> list[Example]:
    return [
        ready(record, {"variable_class": truth.kind, "period": truth.period}, truth.donor, origin)
        for record, truth in simulate_light_curves(n, seed, donors, hard=hard, margin=margin)
    ]


def real_rr(stars: Sequence[tuple[LightCurve, str]], copies: int = 0) -> list[Example]:
    """Real stars, and copies of each with fewer visits and bands; copies share the star's group."""
    out = []
    for index, (record, kind) in enumerate(stars):
        out.append(ready(record, {"variable_class": kind}, record.object_id, "s82"))
        rng = np.random.default_rng([SPLIT_SEED, index])
        for _ in range(copies):
            out.append(ready(_fewer(record, rng), {"variable_class": kind}, record.object_id, "s82"))
    return out


def _fewer(record: LightCurve, rng: np.random.Generator) -> LightCurve:
    from dataclasses import replace

    names = sorted(set(record.band.tolist()))
    bands = tuple(rng.permutation(names)[: int(rng.integers(1, 4))]) if rng.random() < 0.7 else None
    stamps = Cadence(np.arange(record.time.size) * 0 + record.time, record.band, 0.0, 0.0, "")
    kept = thinned(stamps, int(rng.integers(12, 40)), bands, rng)
    keep = np.isin(record.time, kept.time) & np.isin(record.band, np.unique(kept.band))
    cut = {name: getattr(record, name)[keep] for name in ("time", "flux", "flux_err", "band", "quality")}
    return replace(record, **cut)


def eros(data: Path) -> list[Example]:
    """EROS-1 variables, four classes by eye; human periods are not read. Evaluation only: no licence file."""
    import pyarrow.parquet

    path = data / "lightcurves" / "eros1" / "eros1_variables.parquet"
    names = pyarrow.parquet.read_table(path, columns=["label"]).column("label").to_pylist()
    records = read(path, data / "lightcurves")
    return [
        ready(r, {"variable_class": str(name)}, r.object_id, "eros1") for r, name in zip(records, names, strict=True)
    ]


def sets(data: Path) -> dict[str, Callable[[], list[Example]]]:
    """What can be made, by name."""

    def stamps(half: int) -> list[Cadence]:
        return [donor(record, 22.3, 0.01) for record, _ in halves(stripe_82(data))[half]]

    return {
        "genA": lambda: simulated(9000, 33, stamps(0) + ztf_donors(data), False, "sim"),
        "moreA": lambda: simulated(11000, 36, stamps(0) + ztf_donors(data), False, "sim"),
        "hardA": lambda: simulated(3000, 32, stamps(0), True, "hard"),
        "hardB": lambda: simulated(1040, 31, stamps(1), True, "hard"),
        "fairB": lambda: simulated(1040, 35, stamps(1), True, "fair", margin=4.0),
        "realA": lambda: real_rr(halves(stripe_82(data))[0], copies=3),
        "realB": lambda: real_rr(halves(stripe_82(data))[1]),
        "eros": lambda: eros(data),
    }


def load(name: str, data: Path, cache: Path) -> list[Example]:
    """One set, from the cache where it is there."""
    path = cache / f"{name}.npz"
    if not path.exists():
        save(sets(data)[name](), path)
    with np.load(path, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    rows = json.loads(str(arrays.pop("rows")))
    empty = np.zeros(0)
    out = []
    for index, row in enumerate(rows):
        one = {key: value[index] for key, value in arrays.items()}
        stub = LightCurve(
            source=row["source"], object_id=row["object_id"], measured={"prepared": one}, time=empty, flux=empty,
            flux_err=empty, band=empty.astype(str), quality=empty.astype(bool),
        )  # fmt: skip
        out.append(Example(record=stub, labels=row["labels"], group=row["group"], origin=row["origin"]))
    return out


def save(examples: Sequence[Example], path: Path) -> None:
    """Arrays and labels of a set."""
    first = prepared(examples[0].record)
    stacked = {key: np.stack([prepared(e.record)[key] for e in examples]) for key in first}
    rows = [
        {"source": e.record.source, "object_id": e.record.object_id, "labels": dict(e.labels), "group": e.group,
         "origin": e.origin}
        for e in examples
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, rows=json.dumps(rows), **stacked)


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 over arrays and labels, in order."""
    digest = hashlib.sha256()
    for example in examples:
        for key, value in sorted(prepared(example.record).items()):
            digest.update(key.encode() + np.ascontiguousarray(value).tobytes())
        digest.update(json.dumps([dict(example.labels), example.group, example.origin], sort_keys=True).encode())
    return digest.hexdigest()
