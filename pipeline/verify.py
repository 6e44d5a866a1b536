"""Does the catalog hold what its manifests say, and would other readers see the same?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import accounting
from pipeline.catalog import INPUTS, MARGIN, PRIMARY, REJECTS, RUNS, STAGING, UNPLACED, StagedFile, decode
from pipeline.commit import INTENT
from pipeline.drift_table import check_drift, drift_files
from pipeline.hats import CatalogError, derived
from pipeline.inspection import Fault, check_file, check_margins, margin_rows
from pipeline.ledger import INPUT_COLUMNS, Ledger
from pipeline.manifest import Run, live
from transforms.store import Store

__all__ = ["Fault", "verify"]


class _Keys(NamedTuple):
    """What tells rows apart: one table of keys for each night and table."""

    night: str
    table: str


def verify(root: str) -> list[Fault]:
    """Check everything.

    Parameters
    ----------
    root : str
        The catalog.

    Returns
    -------
    list of Fault
        Empty where every count, digest, schema, unit and place holds.

    Raises
    ------
    FileNotFoundError
        Where there is no catalog at all.
    """
    store = Store(root)
    if not store.exists(RUNS):
        raise FileNotFoundError(f"{root!r} is no catalog: it has no folder {RUNS!r}")
    try:
        manifests = Ledger(store).manifests()
    except CatalogError as error:
        return [Fault("manifest", root, sentence) for sentence in error.faults]
    runs = live(manifests)
    faults = list(_unfinished(store, manifests, runs))
    faults += _listing(store, runs)
    keys: dict[_Keys, list[pa.Table]] = {}
    for run in runs:
        faults += _run(store, run, keys)
    faults += _duplicates(keys)
    faults += _derived(store, runs)
    faults += [Fault(*fault) for fault in check_drift(store)]
    return faults


def _unfinished(store: Store, manifests: Iterable[Run], runs: list[Run]) -> Iterator[Fault]:
    for path in store.find(STAGING):
        if path.endswith(f"/{INTENT}"):
            yield Fault("unfinished", path, "a commit was cut off; the next run finishes it")
    for run in manifests:
        if run not in runs:
            yield Fault("unfinished", f"{RUNS}/{run.run_id}.json", "superseded, but its files are still here")
    orders = {run.order for run in runs}
    if len(orders) > 1:
        yield Fault("order", RUNS, f"runs have pixels of different orders: {sorted(orders)}")


def _listing(store: Store, runs: Iterable[Run]) -> Iterator[Fault]:
    """Compare what a reader of the folders sees with what the manifests name."""
    named = {file.path for run in runs for file in run.files} | {f"{RUNS}/{run.run_id}.inputs.parquet" for run in runs}
    with suppress(CatalogError):  # a damaged index is a fault of its own
        named |= {file.path for file in drift_files(store)}
    found = {path for path in store.find() if path.endswith(".parquet") and not path.startswith(STAGING)}
    found |= {path for path in store.find() if "/Npix=" in path and not path.startswith(STAGING)}
    for path in sorted(found - named):
        yield Fault("orphan", path, "no manifest names this file")
    for path in sorted(named - found):
        yield Fault("missing", path, "a manifest names this file, but it is not there")


def _run(store: Store, run: Run, keys: dict[_Keys, list[pa.Table]]) -> Iterator[Fault]:
    wanted: dict[str, dict[int, list[pa.Table]]] = {}
    margins: dict[str, dict[int, pa.Table]] = {}
    counts: dict[str, list[int]] = {}
    for file in run.files:
        table, faults = check_file(store, file, run)
        yield from faults
        if table is None:
            continue
        if file.kind == PRIMARY:
            for pixel, rows in margin_rows(table, run.order).items():
                wanted.setdefault(file.table, {}).setdefault(pixel, []).append(rows)
        if file.kind == MARGIN:
            margins.setdefault(file.table, {})[file.pixel] = table
            continue
        if file.kind in (PRIMARY, UNPLACED):
            keys.setdefault(_Keys(run.night, file.table), []).append(table.select(["source", "hdu", "row"]))
        for pair in table["source"].value_counts().to_pylist():
            counts.setdefault(pair["values"], [0, 0])[int(file.kind == REJECTS)] += pair["counts"]
    for name in sorted({*wanted, *margins}):
        yield from check_margins(run, name, wanted.get(name, {}), margins.get(name, {}))
    yield from _sums(run)
    yield from _inputs(store, run, counts)


def _sums(run: Run) -> Iterator[Fault]:
    where, manifest = f"{RUNS}/{run.run_id}.json", run.manifest
    counts = manifest["counts"]
    total = {"rows": 0, "rejects": 0}
    for file in run.files:
        if file.kind != MARGIN:
            total["rejects" if file.kind == REJECTS else "rows"] += file.rows
    for name, value in total.items():
        if not value == counts["total"][name] == counts["fresh"][name] + counts["carried"][name]:
            yield Fault("count", where, f"files hold {value} {name}, the manifest says {counts}")
    if "stages" in manifest:
        accounts = accounting.from_plain(manifest["stages"])
        tasks = tuple(manifest.get("tasks_per_record", (1, max(1, len(manifest.get("models", ()))))))
        fresh = counts["fresh"]
        for sentence in accounting.check(
            accounts, fresh["rows"], fresh["rejects"], tasks=tasks, items=manifest.get("replayed_items", 0)
        ):
            yield Fault("count", where, sentence)


def _inputs(store: Store, run: Run, counts: dict[str, list[int]]) -> Iterator[Fault]:
    """Compare the ledger's counts of each input file with the rows themselves."""
    path = f"{RUNS}/{run.run_id}.inputs.parquet"
    try:
        table = decode(store.read(path))
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        yield Fault("ledger", path, f"cannot be read: {error}")
        return
    if table.column_names != [column.name for column in INPUT_COLUMNS]:
        yield Fault("ledger", path, f"has columns {table.column_names}, which is no list of {INPUTS}")
        return
    entries = {entry["source"]: (entry["rows"], entry["rejects"]) for entry in table.to_pylist()}
    for source in sorted({*entries, *counts}):
        there = tuple(counts.get(source, (0, 0)))
        if source not in entries:
            yield Fault("ledger", path, f"does not list {source!r}, which has {there[0]} rows and {there[1]} rejects")
        elif entries[source] != there:
            yield Fault("ledger", path, f"{source!r} has (rows, rejects) {there}, not {entries[source]}")


def _duplicates(keys: dict[_Keys, list[pa.Table]]) -> Iterator[Fault]:
    for key, tables in sorted(keys.items()):
        rows = pa.concat_tables(table.cast(tables[0].schema) for table in tables)
        counted = rows.group_by(["source", "hdu", "row"]).aggregate([([], "count_all")])
        many = counted.filter(pc.greater(counted["count_all"], 1))
        many = many.sort_by([(name, "ascending") for name in ("source", "hdu", "row")])
        for twice in many.slice(0, 10).to_pylist():
            where = f"row {twice['row']} of hdu {twice['hdu']!r} of {twice['source']!r}"
            yield Fault("duplicate", key.table, f"{where} stands {twice['count_all']} times in night {key.night}")


def _derived(store: Store, runs: list[Run]) -> Iterator[Fault]:
    """Compare properties, partition lists and common schemas with the manifests."""
    if not runs:
        return
    files: list[StagedFile] = [file for run in runs for file in run.files]
    try:
        wanted = derived(store, runs[0].order, files, {})
    except CatalogError as error:  # the common schema of a table is damaged, and all else derives from it
        yield from (Fault("derived", "_common_metadata", sentence) for sentence in error.faults)
        return
    for path, data in wanted.items():
        try:
            if store.read(path) != data:
                yield Fault("derived", path, "does not say what the manifests say")
        except FileNotFoundError:
            yield Fault("missing", path, "a reader of HATS needs this file")
