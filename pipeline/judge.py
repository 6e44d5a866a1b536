"""A catalog against known truth: for each task the learned, the classical and the best answer side by side."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

MATCH_ARCSEC = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one table fares against its truth.

    Parameters
    ----------
    task : str
        Name of the table.
    truth, rows, matched : int
        Objects of the truth, rows of the catalog, pairs.
    figures : mapping of str to dict
        By ``"learned"``, ``"classical"`` and ``"best"``: metric to value.
    """

    task: str
    truth: int
    rows: int
    matched: int
    figures: Mapping[str, Mapping[str, float]]


def judge(catalog: str, truth: Path, tasks: Sequence[str]) -> list[Verdict]:
    """Compare every table that has a truth file.

    Parameters
    ----------
    catalog : str
        Root of a local catalog.
    truth : Path
        Folder with ``<task>.csv``: labels with ``source`` and ``row``, or with ``ra`` and ``dec`` in degrees.
    tasks : sequence of str
        Names.

    Returns
    -------
    list of Verdict
        In the order of the tasks.
    """
    from finetune import tasks as registry

    verdicts = []
    for name in tasks:
        path = truth / f"{name}.csv"
        if not path.is_file():
            continue
        labels = read_truth(path)
        rows = read_rows(catalog, name)
        pairs = match(rows, labels)
        task = registry.get(name)
        found = [rows[i] for i, _ in pairs]
        known = [labels[j] for _, j in pairs]
        figures = {
            kind: task.metrics(found, known, prefix) if pairs else {}
            for kind, prefix in (("learned", ""), ("classical", "baseline_"), ("best", "best_"))
        }
        verdicts.append(Verdict(name, len(labels), len(rows), len(pairs), figures))
    return verdicts


def read_truth(path: Path) -> list[dict[str, Any]]:
    """Read a truth file; what looks like a number is one, what is empty is None.

    Parameters
    ----------
    path : Path
        CSV with a header.

    Returns
    -------
    list of dict
        One for each object.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(stream)]


def _value(text: str) -> Any:
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def read_rows(catalog: str, table: str) -> list[dict[str, Any]]:
    """Read all rows of a table, placed and unplaced.

    Parameters
    ----------
    catalog : str
        Root of a local catalog.
    table : str
        Name.

    Returns
    -------
    list of dict
        By column name.
    """
    root = Path(catalog) / table
    files = [*sorted((root / table / "dataset").rglob("*.parquet")), *sorted((root / "unplaced").glob("*.parquet"))]
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def match(rows: Sequence[Mapping[str, Any]], labels: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Pair rows with labels: by file and row where the truth has them, else by position.

    Parameters
    ----------
    rows, labels : sequence of mapping
        Of the catalog and of the truth.

    Returns
    -------
    list of (int, int)
        Indices of rows and labels; each stands in one pair at most, the nearest.
    """
    named = {(label["source"], int(label["row"])): j for j, label in enumerate(labels) if label.get("source")}
    pairs = [(i, named[key]) for i, row in enumerate(rows) if (key := (row["source"], int(row["row"]))) in named]
    loose = [j for j, label in enumerate(labels) if not label.get("source") and label.get("ra") is not None]
    placed = [i for i, row in enumerate(rows) if row["ra"] is not None]
    if loose and placed:
        from astropy import units as u
        from astropy.coordinates import SkyCoord

        sky = SkyCoord([rows[i]["ra"] for i in placed], [rows[i]["dec"] for i in placed], unit="deg")
        true = SkyCoord([labels[j]["ra"] for j in loose], [labels[j]["dec"] for j in loose], unit="deg")
        nearest, apart, _ = true.match_to_catalog_sky(sky)
        taken: set[int] = set()
        for n in np.argsort(apart):
            if apart[n] < MATCH_ARCSEC * u.arcsec and int(nearest[n]) not in taken:
                taken.add(int(nearest[n]))
                pairs.append((placed[int(nearest[n])], loose[int(n)]))
    return pairs
