"""Rows of superseded runs whose files are not done again: they move into the new run, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalog import MARGIN, REJECTS, StagedFile, conform, data_path, decode, encode, staged_file
from pipeline.footers import columns_of
from pipeline.hats import merge_columns
from pipeline.ledger import Ledger
from pipeline.manifest import Run
from pipeline.plan import Again
from pipeline.store import Store
from transforms.columns import Column

_Key = tuple[str, str, int]


@dataclass(slots=True)
class _Keep:
    """What stays of one superseded run, by source: tables of these tasks (None: all), and its rejects or not."""

    tables: dict[str, frozenset[str] | None] = field(default_factory=dict)
    rejects: set[str] = field(default_factory=set)


def carry(
    catalog: Store,
    staging: Store,
    run_id: str,
    order: int,
    staged: Sequence[StagedFile],
    old: Sequence[Run],
    again: Again,
) -> tuple[list[StagedFile], list[dict[str, Any]]]:
    """Merge what is left of superseded runs into the staged files, one file after the other.

    Parameters
    ----------
    catalog, staging : Store
        The catalog, and the staging folder of the new run.
    run_id : str
        Of the new run.
    order : int
        Of the pixels.
    staged : sequence of StagedFile
        Of the new run.
    old : sequence of Run
        Runs that it supersedes.
    again : Again
        What the new run does again.

    Returns
    -------
    staged : list of StagedFile
        With the carried rows.
    entries : list of dict
        Ledger entries of the carried files; one of which only other tasks stay is among them.
    """
    ledger = Ledger(catalog)
    kept, keep = _left(ledger, old, again)
    parts: dict[_Key, list[tuple[str, StagedFile]]] = {}
    for one in old:
        for file in one.files if keep.get(one.run_id) else ():
            parts.setdefault((file.table, file.kind, file.pixel), []).append((one.run_id, file))
    out = {(file.table, file.kind, file.pixel): file for file in staged}
    for key in sorted(parts):
        path = data_path(*key[:2], order, key[2], run_id)
        fresh = decode(staging.read(path)) if key in out else None
        tables = [_kept(decode(catalog.read(file.path)), key, keep[run], fresh) for run, file in parts[key]]
        tables = [table for table in tables if table.num_rows]
        if tables:
            out[key] = _write(staging, path, key, tables if fresh is None else [*tables, fresh])
    return sorted(out.values()), kept


def _left(ledger: Ledger, old: Sequence[Run], again: Again) -> tuple[list[dict[str, Any]], dict[str, _Keep]]:
    """Entries of superseded runs that live on, and what of each."""
    retried = ledger.retried(ledger.runs())
    kept: list[dict[str, Any]] = []
    keep: dict[str, _Keep] = {}
    for run, entry in ledger.inputs(old):
        told = (run.run_id, entry["url"]) in retried or again.hides(entry)  # its rejects are told anew
        tasks = again.keeps(entry) if again.redone(entry) else None
        if tasks == frozenset() or (told and not entry["rows"]):
            continue
        kept.append(entry)
        mine = keep.setdefault(run.run_id, _Keep())
        mine.tables[entry["source"]] = tasks
        if not told:
            mine.rejects.add(entry["source"])
    return kept, keep


def _kept(table: pa.Table, key: _Key, keep: _Keep, fresh: pa.Table | None) -> pa.Table:
    """Rows of one file of a superseded run that stay."""
    name, kind, _ = key
    if kind != REJECTS:
        wanted = [source for source, tasks in keep.tables.items() if tasks is None or name in tasks]
        return table.filter(pc.is_in(table["source"], pa.array(sorted(wanted), pa.string())))
    said = {_identity(row) for row in fresh.to_pylist()} if fresh is not None else set()
    mask = []
    for row in table.to_pylist():
        tasks = keep.tables.get(row["source"])
        # what was refused before any task saw it, the new run refuses again, if its tasks read such files at all
        mine = tasks is None or row.get("task") in tasks or (not row.get("task") and _identity(row) not in said)
        mask.append(row["source"] in keep.rejects and mine)
    return table.filter(pa.array(mask, pa.bool_()))


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("source", "hdu", "row", "stage", "error", "task"))


def _write(staging: Store, path: str, key: _Key, tables: Sequence[pa.Table]) -> StagedFile:
    columns: tuple[Column, ...] = ()
    for table in tables:
        columns = merge_columns(key[0], columns, columns_of(table.schema))
    merged = pa.concat_tables([conform(table, columns, key[0]) for table in tables])
    data = encode(merged, columns, key[0])
    staging.write(path, data, durable=False)
    return staged_file(data, path, *key, merged.num_rows)


def examine(
    staging: Store, staged: Iterable[StagedFile]
) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[Column, ...]]]:
    """Count the rows and rejects of each input file, and collect the columns of each table.

    Parameters
    ----------
    staging : Store
        Where the files lie.
    staged : iterable of StagedFile
        Of one run.

    Returns
    -------
    counts : dict of str to tuple of int
        ``(rows, rejects)`` by source.
    columns : dict of str to tuple of Column
        By table.
    """
    counts: dict[str, list[int]] = {}
    columns: dict[str, tuple[Column, ...]] = {}
    for file in staged:
        if file.kind == MARGIN:
            continue
        data = pq.ParquetFile(pa.BufferReader(staging.read(file.path)))
        columns[file.table] = merge_columns(file.table, columns.get(file.table, ()), columns_of(data.schema_arrow))
        for pair in data.read(columns=["source"])["source"].value_counts().to_pylist():
            counts.setdefault(pair["values"], [0, 0])[int(file.kind == REJECTS)] += pair["counts"]
    return {source: (rows, rejects) for source, (rows, rejects) in counts.items()}, columns
