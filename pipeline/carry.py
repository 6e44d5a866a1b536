"""Rows of superseded runs whose files are not done again: they move into the new run, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalog import MARGIN, REJECTS, StagedFile, conform, data_path, decode, encode, staged_file
from pipeline.footers import columns_of
from pipeline.hats import merge_columns
from pipeline.ledger import Ledger
from pipeline.manifest import Run
from pipeline.store import Store
from transforms.columns import Column

_Key = tuple[str, str, int]


def carry(
    catalog: Store,
    staging: Store,
    run_id: str,
    order: int,
    staged: Sequence[StagedFile],
    old: Sequence[Run],
    redone: Callable[[Mapping[str, Any]], bool],
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
    redone : callable
        ``redone(entry)``: whether the new run does an input file again.

    Returns
    -------
    staged : list of StagedFile
        With the carried rows.
    entries : list of dict
        Ledger entries of the carried files.
    """
    ledger = Ledger(catalog)
    again = ledger.retried(ledger.runs())
    entries = [
        (run.run_id, entry)
        for run, entry in ledger.inputs(old)
        if not redone(entry) and not (not entry["rows"] and (run.run_id, entry["source"]) in again)
    ]
    keep: dict[str, set[str]] = {}
    for run, entry in entries:
        keep.setdefault(run, set()).add(entry["source"])
    parts: dict[_Key, list[tuple[str, StagedFile]]] = {}
    for one in old:
        for file in one.files if keep.get(one.run_id) else ():
            parts.setdefault((file.table, file.kind, file.pixel), []).append((one.run_id, file))
    out = {(file.table, file.kind, file.pixel): file for file in staged}
    for key in sorted(parts):
        tables = [
            _kept(decode(catalog.read(file.path)), keep[run], again if file.kind == REJECTS else set(), run)
            for run, file in parts[key]
        ]
        tables = [table for table in tables if table.num_rows]
        if tables:
            path = data_path(*key[:2], order, key[2], run_id)
            if key in out:
                tables.append(decode(staging.read(path)))
            out[key] = _write(staging, path, key, tables)
    return sorted(out.values()), [entry for _, entry in entries]


def _kept(table: pa.Table, sources: Iterable[str], again: set[tuple[str, str]], run: str) -> pa.Table:
    wanted = [source for source in sorted(sources) if (run, source) not in again]
    mask = pc.is_in(table["source"], pa.array(wanted, pa.string()))
    return table.filter(mask)


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
