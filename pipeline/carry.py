"""Rows of superseded runs whose files are not done again: they move into the new run, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.assemble import assemble
from pipeline.catalog import MARGIN, REJECTS, StagedFile, conform, data_path
from pipeline.footers import columns_of
from pipeline.hats import merge_columns
from pipeline.ledger import Ledger
from pipeline.manifest import Run
from pipeline.plan import Again
from transforms.columns import Column
from transforms.store import Store

_Key = tuple[str, str, int]
_IDENTITY = ["source", "hdu", "row", "stage", "error", "task"]  #: Columns that tell one reject from another.


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
        with ExitStack() as stack:
            fresh = _open(staging, out[key].path, stack) if key in out else None
            said = _said(fresh) if fresh is not None and key[0] == REJECTS else set()
            old_files = [(_open(catalog, file.path, stack), _Choice(key, keep[run], said)) for run, file in parts[key]]
            files: list[_File] = [(data, choice) for data, choice in old_files if choice.of_any(data)]
            if files:
                if fresh is not None:
                    files.append((fresh, None))
                merged = _merge(staging, data_path(*key[:2], order, key[2], run_id), key, files)
                if merged is not None:
                    out[key] = merged
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


def _open(store: Store, path: str, stack: ExitStack) -> pq.ParquetFile:
    return pq.ParquetFile(stack.enter_context(store.open(path)))


def _said(fresh: pq.ParquetFile) -> set[tuple[Any, ...]]:
    """What the new run refuses."""
    groups = range(fresh.num_row_groups)
    return {_identity(row) for group in groups for row in fresh.read_row_group(group, columns=_IDENTITY).to_pylist()}


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _IDENTITY)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which rows of one file of a superseded run stay."""

    key: _Key
    keep: _Keep
    said: set[tuple[Any, ...]]

    def of(self, table: pa.Table) -> pa.Table:
        if self.key[0] != REJECTS:
            tables = self.keep.tables.items()
            wanted = [source for source, tasks in tables if tasks is None or self.key[0] in tasks]
            return table.filter(pc.is_in(table["source"], pa.array(sorted(wanted), pa.string())))
        return table.filter(pa.array([self._stays(row) for row in table.to_pylist()], pa.bool_()))

    def _stays(self, row: Mapping[str, Any]) -> bool:
        tasks = self.keep.tables.get(row["source"])
        # what was refused before any task saw it, the new run refuses again, if its tasks read such files at all
        mine = tasks is None or row.get("task") in tasks or (not row.get("task") and _identity(row) not in self.said)
        return row["source"] in self.keep.rejects and mine

    def of_any(self, data: pq.ParquetFile) -> bool:
        columns = _IDENTITY if self.key[0] == REJECTS else ["source"]
        groups = (data.read_row_group(group, columns=columns) for group in range(data.num_row_groups))
        return any(self.of(table).num_rows for table in groups)


_File = tuple[pq.ParquetFile, _Choice | None]  #: Rows, and which of them stay; None for all.


def _merge(staging: Store, path: str, key: _Key, files: Sequence[_File]) -> StagedFile | None:
    columns: tuple[Column, ...] = ()
    for data, _ in files:
        columns = merge_columns(key[0], columns, columns_of(data.schema_arrow))
    parts = [
        partial(_group, data, group, choice, columns, key[0])
        for data, choice in files
        for group in range(data.num_row_groups)
    ]
    return assemble(staging, path, key, parts, columns)


def _group(
    data: pq.ParquetFile, group: int, choice: _Choice | None, columns: tuple[Column, ...], name: str
) -> pa.Table:
    table = data.read_row_group(group)
    return conform(table if choice is None else choice.of(table), columns, name)


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
        with staging.open(file.path) as stream:
            data = pq.ParquetFile(stream)
            columns[file.table] = merge_columns(file.table, columns.get(file.table, ()), columns_of(data.schema_arrow))
            for batch in data.iter_batches(columns=["source"]):
                for pair in batch["source"].value_counts().to_pylist():
                    counts.setdefault(pair["values"], [0, 0])[int(file.kind == REJECTS)] += pair["counts"]
    return {source: (rows, rejects) for source, (rows, rejects) in counts.items()}, columns
