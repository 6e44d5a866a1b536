"""Read the nights of a catalog, watch them for drift, and write the drift table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune import tasks
from finetune.dataset import RADIUS, Join
from finetune.drift import FEWEST_NIGHTS, DriftLimits, against_labels, compared_numbers, compared_texts, watch
from finetune.drift_scores import OTHER, Night, Statistic
from finetune.labels import read_labels
from finetune.task import Task
from pipeline.catalog import DRIFT, PRIMARY, REJECTS, UNPLACED, decode
from pipeline.drift_table import read_drift, read_index, to_rows, write_drift
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.manifest import Run
from pipeline.plan import COPY
from pipeline.sources import is_night
from pipeline.version import version
from transforms.columns import IDENTITY, PROVENANCE
from transforms.records import Identity
from transforms.store import Store

DEFAULT_NIGHTS = 14  #: Nights of the reference: half a lunation.
_UNWATCHED = {column.name for column in (*IDENTITY, *PROVENANCE)}
_KEYS = ["source", "hdu", "row"]


class DriftError(ValueError):
    """The drift of this catalog cannot be told; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Labels that have arrived for some objects.

    Parameters
    ----------
    file : str
        Label file.
    radius : float
        Of a match by position, arcsec.
    columns : mapping of str to str
        Our name of a column to the one in the file, where they differ.
    """

    file: str
    radius: float = RADIUS
    columns: Mapping[str, str] = field(default_factory=dict)


def run_drift(
    root: str,
    *,
    task: str = "",
    reference: str = "",
    labels: Labelled | None = None,
    rate: float = DriftLimits().rate,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Watch all nights of a catalog and write its drift table.

    Parameters
    ----------
    root : str
        The catalog.
    task : str
        Only this table; all, and the rejects, where empty.
    reference : str
        ``FIRST:LAST`` night, or how many nights from the first; 14 where empty.
    labels : Labelled, optional
        Labels of some objects of the task.
    rate : float
        Chance of any alarm in 30 undisturbed nights.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``nights``, ``reference`` (first, last, number), ``watched`` (nights), ``rate``, ``tables`` and ``drifted``:
        what drifted in order of significance.

    Raises
    ------
    DriftError, CatalogError, LabelError
        Where catalog, reference or labels are at fault.
    """
    if not 0 < rate < 1:
        raise DriftError(f"--alarm {rate!r} is not a probability between 0 and 1")
    store = Store(root)
    ledger = Ledger(store)
    runs = ledger.runs()
    if not runs:
        raise DriftError(f"{root!r} is no catalog: no run was committed to it")
    nights = sorted({run.night for run in runs})
    before = _reference(reference, nights)
    after = [night for night in nights if night > before[-1]] if before else []
    tables = [*sorted({f.table for run in runs for f in run.files if f.kind in (PRIMARY, UNPLACED)}), REJECTS]
    if task and task not in tables:
        raise DriftError(f"{root}: no table {task!r}; there are {', '.join(tables)}")
    if labels is not None and not (task and task in tasks.names()):
        raise DriftError("--labels belong to one task: name it with --task")
    limits = DriftLimits(rate=rate, tables=len(tables))
    with store.held(f"{DRIFT}/.lock", f"the drift table of {root!r}"):
        rows: list[dict[str, Any]] = []
        watched: list[str] = []
        for name in [task] if task else tables:
            say(f"{name}: {len(before)} nights of reference, {len(after)} nights to watch")
            reader = _Rejects(ledger, runs, before) if name == REJECTS else _Table(store, runs, name, labels)
            first = [night for night in map(reader.night, before) if len(night.groups)]
            if len(first) < FEWEST_NIGHTS:
                say(f"{name}: the reference has {len(first)} nights with objects, {FEWEST_NIGHTS} are needed")
                continue
            watched.append(name)
            found = watch(first, map(reader.night, after), limits)
            rows += to_rows(name, found, reader.units, before, version())
        about = {"rate": rate, "nights": limits.nights, "windows": list(limits.windows), "tables": watched}
        about |= {"reference": {"first": before[0], "last": before[-1], "number": len(before)}}
        kept = _others(store, task, about) if task else []
        about["tables"] = sorted({*watched, *(row["table_name"] for row in kept)})
        write_drift(store, [*kept, *rows], about)
    return {**about, "catalog": root, "watched": after, "drifted": summary(rows)}


def _others(store: Store, task: str, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the tables that were not asked for, where they were made under the same reference and rate."""
    try:
        index = read_index(store)
        same = index is not None and all(index.get(name) == about[name] for name in ("reference", "rate"))
        return [row for row in read_drift(store) if row["table_name"] != task] if same else []
    except CatalogError:
        return []


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What drifted, each statistic once, in order of significance.

    Parameters
    ----------
    rows : sequence of mapping
        Of the drift table.

    Returns
    -------
    list of dict
        The most significant row of the latest series of alarms of each statistic, with ``until``, the last night of
        that series, and ``nights``, the number of nights with an alarm in it.
    """
    series: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["alarm"]:
            series.setdefault((row["table_name"], row["kind"], row["column_name"]), []).append(row)
    found = []
    for own in series.values():
        latest = max(own, key=lambda row: row["since"])["since"]
        own = [row for row in own if row["since"] == latest]
        best = min(own, key=_order)
        nights = sorted({row["night"] for row in own})
        found.append({**best, "until": nights[-1], "nights": len(nights)})
    return sorted(found, key=lambda row: (_order(row), row["table_name"], row["kind"], row["column_name"]))


def _order(row: Mapping[str, Any]) -> tuple[float, str, int]:
    return (-abs(row["significance"]), row["night"], row["window"])


def _reference(text: str, nights: Sequence[str]) -> list[str]:
    if re.fullmatch(r"\d+", text or str(DEFAULT_NIGHTS)):
        number = int(text or DEFAULT_NIGHTS)
        if number < FEWEST_NIGHTS:
            raise DriftError(f"--reference {text!r}: fewer than {FEWEST_NIGHTS} nights do not tell how nights differ")
        return list(nights[:number])
    first, colon, last = text.partition(":")
    if not (colon and is_night(first) and is_night(last) and first <= last):
        raise DriftError(f"--reference {text!r} is neither FIRST:LAST, two dates, nor a number of nights")
    found = [night for night in nights if first <= night <= last]
    if len(found) < FEWEST_NIGHTS:
        raise DriftError(
            f"--reference {text!r} holds {len(found)} nights of the catalog ({nights[0]} to {nights[-1]}); "
            f"{FEWEST_NIGHTS} are needed"
        )
    return found


class _Table:
    """Nights of one table of a task."""

    def __init__(self, store: Store, runs: Sequence[Run], name: str, labels: Labelled | None) -> None:
        self.store, self.runs, self.name = store, runs, name
        self.task: Task | None = tasks.get(name) if name in tasks.names() else None
        self.units: dict[str, str] = {c.name: c.unit for run in runs for c in run.columns.get(name, ())}
        self.join = None
        if labels is not None and self.task is not None:
            self.units |= {f"best_{c}": self.units.get(f"best_{c}", "") for c in self.task.label_columns}
            self.join = Join(read_labels(labels.file, self.task.label_columns, labels.columns), labels.radius)

    def night(self, night: str) -> Night:
        table = self._read(night, self.name, None)
        if table is None or not table.num_rows:
            return Night(name=night, groups=np.zeros(0, str))
        numbers, texts = _columns(table)
        values = {Statistic("value", name): array for name, array in numbers.items()}
        shares: dict[Statistic, np.ndarray] = {}
        if self.task is not None:
            values |= compared_numbers(self.task, numbers)
            shares |= compared_texts(self.task, texts)
        if self.join is not None and self.task is not None:
            errors, right = against_labels(self.task, table.to_pydict(), self._labels(table, self.join))
            values, shares = values | errors, shares | right
        return Night(
            name=night, groups=_strings(table["source"]), numbers=values, texts=texts,
            flags=table["flags"].to_numpy() if "flags" in table.column_names else None, shares=shares,
            embedding=_embeddings(table),
        )  # fmt: skip

    def _read(self, night: str, name: str, columns: Collection[str] | None) -> pa.Table | None:
        parts = []
        for run in self.runs:
            for file in run.files if run.night == night else ():
                if file.table == name and file.kind in (PRIMARY, UNPLACED):
                    try:
                        parts.append(decode(self.store.read(file.path), list(columns) if columns else None))
                    except FileNotFoundError as error:
                        raise CatalogError([f"{file.path!r} is gone: the catalog changed; run it again"]) from error
        if not parts:
            return None
        table = pa.concat_tables([part.replace_schema_metadata(None) for part in parts], promote_options="permissive")
        return table.sort_by([(key, "ascending") for key in _KEYS])

    def _labels(self, table: pa.Table, join: Join) -> list[Mapping[str, Any]]:
        rows = table.select(["object_id", "ra", "dec", *_KEYS]).to_pylist()
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["source"]] = counts.get(row["source"], 0) + 1
        found = [join.find(Identity(**row), counts[row["source"]] == 1) for row in rows]
        return [{} if number is None else join.rows[number] for number in found]


class _Rejects:
    """Nights of input files: which were refused, for what, and how many rows each gave."""

    units: Mapping[str, str] = MappingProxyType({})

    def __init__(self, ledger: Ledger, runs: Sequence[Run], reference: Sequence[str]) -> None:
        self.entries: dict[str, dict[str, int]] = {}
        for run, entry in ledger.inputs(runs):
            if entry["outcome"] != COPY:
                self.entries.setdefault(run.night, {})[entry["source"]] = entry["rows"]
        self.reasons: dict[str, dict[str, set[str]]] = {}
        for row in ledger.rejects():
            why = f"{row['stage']}: {row['error']}"
            self.reasons.setdefault(row["night"], {}).setdefault(why, set()).add(row["source"])
        self.known = sorted({why for night in reference for why in self.reasons.get(night, {})})

    def night(self, night: str) -> Night:
        files = sorted(self.entries.get(night, {}))
        refused = self.reasons.get(night, {})
        cases = {why: refused.get(why, set()) for why in self.known}
        cases[OTHER] = {file for why, own in refused.items() if why not in cases for file in own}
        return Night(
            name=night,
            groups=np.array(files, str),
            numbers={Statistic("value", "rows of a file"): np.array([self.entries[night][f] for f in files], float)},
            shares={
                Statistic("reject", why): np.array([float(file in own) for file in files]) for why, own in cases.items()
            },
        )


def _columns(table: pa.Table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    numbers, texts = {}, {}
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if name in _UNWATCHED:
            continue
        if pa.types.is_string(kind):
            texts[name] = _strings(table[name])
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            numbers[name] = pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    return numbers, texts


def _embeddings(table: pa.Table) -> np.ndarray | None:
    """Vectors of the rows, NaN for a row without one; None where the night was run without ``--embeddings``."""
    if "embedding" not in table.column_names:
        return None
    vectors = table["embedding"].to_pylist()
    wide = max((len(vector) for vector in vectors if vector is not None), default=0)
    if not wide:
        return None
    gap = [np.nan] * wide
    return np.array([gap if vector is None else vector for vector in vectors], float)


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([value or "" for value in column.to_pylist()], str)
