"""Labelled stellar spectra, their split, and what other instruments would make of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune import spectral_augment as degradation
from finetune import spectral_grid as grid
from finetune.task import Example, Prepared
from finetune.tasks.stellar_parameters import TASK
from transforms.readers import spectra, survey_spectra
from transforms.readers.format import Source
from transforms.records import FileRef
from transforms.velocity import measure_spectrum

CONDITIONS = ("clean", "sn30", "sn10", "red half", "blue half", "half resolution", "rv 100", "hard", "random")


@dataclass(frozen=True)
class Stars:
    """Labelled spectra, prepared."""

    examples: list[Example]
    prepared: list[Prepared]
    labels: np.ndarray
    groups: list[str]

    def take(self, rows: Iterable[int]) -> Stars:
        """Some of them."""
        rows = [int(i) for i in rows]
        return Stars(
            [self.examples[i] for i in rows], [self.prepared[i] for i in rows], self.labels[rows],
            [self.groups[i] for i in rows],
        )  # fmt: skip

    def array(self, name: str) -> np.ndarray:
        """One of the prepared arrays."""
        return np.stack([item[name] for item in self.prepared])


def read_record(path: Path) -> Any:
    """The first record of a file, by the package's own readers."""
    with Source(FileRef(url=str(path), source=path.name, size=path.stat().st_size)) as source:
        kind = next(kind for kind in (*survey_spectra.FORMATS, *spectra.FORMATS) if kind.sniff(source))
        item = next(iter(kind.items(source)))
        return next(iter(kind.entries(source, item))).load()


def cluster(name: str) -> str:
    """Group of a MILES star: members of one cluster share a catalogue metallicity."""
    name = " ".join(name.split())
    if not name.endswith("Cl"):
        return name
    found = re.match(r"(NGC ?\d+|M\d+|Mel)", name)
    return found.group(1) if found else "HD cluster members"


def number(text: str) -> float | None:
    """A cell of a CSV file."""
    return float(text) if text else None


def load(data: Path, kind: str) -> Stars:
    """MILES stars with a name and three labels, or all stars of LAMOST, with their measured velocities."""
    examples, groups = [], []
    folder = {"miles": "miles", "lamost": "lamost_dr1"}[kind]
    with (data / "spectra" / f"{kind}_labels.csv").open() as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["file"])
    for row in rows:
        labels = {"teff": number(row["teff"]), "logg": number(row["logg"]), "fe_h": number(row["feh"])}
        if kind == "miles" and (None in labels.values() or not row["star"]):
            continue
        record = read_record(data / "spectra" / folder / row["file"])
        if kind == "lamost":
            record = measure_spectrum(record, {})
        group = cluster(row["star"]) if kind == "miles" else row["file"]
        groups.append(group)
        examples.append(Example(record=record, labels=labels, group=group, origin=kind))
    labels = np.stack([TASK.encode(example.labels)["labels"] for example in examples])
    return Stars(examples, [TASK.prepare(example.record) for example in examples], labels, groups)


def split(groups: Sequence[str], k: int, seed: int) -> np.ndarray:
    """Fold of each star, groups kept whole."""
    names = sorted(set(groups))
    fold = {names[j]: i % k for i, j in enumerate(np.random.default_rng(seed).permutation(len(names)))}
    return np.array([fold[group] for group in groups])


def degraded(stars: Stars, condition: str, seed: int) -> Stars:
    """The same stars as another instrument would see them."""
    rng = np.random.default_rng(1000 + seed)
    flux, ivar = stars.array("flux").astype(float), stars.array("ivar").astype(float)
    if condition == "random":
        batch, _ = degradation.degrade(
            {"flux": flux, "ivar": ivar}, {"labels": stars.labels}, rng, degradation.Degradation(mix=0)
        )
        flux, ivar = batch["flux"].astype(float), batch["ivar"].astype(float)
    if condition in ("half resolution", "hard"):
        flux = degradation.variable_blur(flux, np.full((1, grid.N_PIXEL), 1.6 if condition != "hard" else 1.2))
    if condition in ("rv 100", "hard"):
        flux, ivar = degradation.shift(flux, ivar, np.full(len(flux), 100 / grid.PIXEL_KMS))
    if condition == "hard":
        flux = flux * degradation.tilt(len(flux), rng, 0.15)
    sn = {"sn30": 30.0, "sn10": 10.0, "hard": 20.0}.get(condition)
    if sn:
        how = degradation.Degradation(sn=(sn, sn * 1.0001), noise_free=0, no_errors=0)
        flux, ivar = degradation.add_noise(flux, ivar, rng, how)
    wave = grid.wavelengths()
    first, last = {"red half": (5480, 9e9), "blue half": (0, 5480), "hard": (4000, 5600)}.get(condition, (0, 9e9))
    keep = (wave >= first) & (wave < last)
    if condition == "hard":
        keep = keep & degradation.draw_range(len(flux), rng, degradation.Degradation(clip=0, gap=0, chunks=1))
    ivar = np.where(keep, ivar, 0.0)
    scale = grid.flux_scale(flux, ivar)[:, None]
    flux, ivar = np.where(ivar > 0, flux / scale, 0).astype(np.float32), (ivar * scale**2).astype(np.float32)
    prepared = [{**item, "flux": f, "ivar": i} for item, f, i in zip(stars.prepared, flux, ivar, strict=True)]
    return replace(stars, prepared=prepared)
