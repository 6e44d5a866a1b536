"""Rows of a table that have an embedding, read a row group at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalog import PRIMARY, UNPLACED
from pipeline.footers import arrow_schema
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.tables import known_classes, table_columns

EMBEDDING = "embedding"
SHOWN = 3  #: Objects that a message names.
IDENTITY = ("object_id", "ra", "dec", "night", "source", "hdu", "row", "model_digest")


def read_rows(
    catalog: str, table: str, columns: Sequence[str], *, night: str | None = None, embedded: bool = True
) -> Iterator[pa.Table]:
    """Read some columns of a table.

    Parameters
    ----------
    catalog : str
        The catalog.
    table : str
        A task's name.
    columns : sequence of str
        Wanted; of rows of an older version that lack one, it is null.
    night : str, optional
        Only this night.
    embedded : bool
        Only rows that have an embedding.

    Yields
    ------
    pyarrow.Table
        Rows of one row group, in the order of runs and files.

    Raises
    ------
    CatalogError
        Where there is no such table, or nothing was committed.
    """
    wanted = _schema(catalog, table, columns)
    for data in _files(catalog, table, night):
        for group in range(data.num_row_groups):
            found = _group(data, group, wanted, embedded)
            if found.num_rows:
                yield found


def read_named(catalog: str, table: str, ids: Sequence[str], some: list[str]) -> Iterator[pa.Table]:
    """Read the rows of some objects that have an embedding; the embeddings of all others stay unread.

    Parameters
    ----------
    catalog, table : str
        Where to look.
    ids : sequence of str
        Their ``object_id``.
    some : list of str
        Filled with the names of three objects that are there.

    Yields
    ------
    pyarrow.Table
        With the columns of ``IDENTITY`` and the embedding.

    Raises
    ------
    CatalogError
        As ``read_rows``.
    """
    wanted, names = _schema(catalog, table, (*IDENTITY, EMBEDDING)), pa.array(sorted(set(ids)), pa.string())
    for data in _files(catalog, table, None):
        if EMBEDDING not in data.schema_arrow.names:
            continue
        for group in range(data.num_row_groups):
            there = data.read_row_group(group, columns=["object_id"])["object_id"]
            if len(some) < SHOWN and _any_embedding(data, group):
                some += [one for one in there.to_pylist()[: SHOWN - len(some)] if one is not None]
            if pc.any(pc.is_in(there, names)).as_py():
                found = _group(data, group, wanted, True)
                yield found.filter(pc.is_in(found["object_id"], names))


def _any_embedding(data: pq.ParquetFile, group: int) -> bool:
    return bool(pc.any(pc.is_valid(data.read_row_group(group, columns=[EMBEDDING])[EMBEDDING])).as_py())


def classes_there(catalog: str, table: str) -> tuple[str, ...]:
    """Classes that a table of a catalog knows: those of its task, and those that were added to a model that ran.

    Parameters
    ----------
    catalog : str
        The catalog.
    table : str
        A task's name.

    Returns
    -------
    tuple of str
        Those that were added last, in the order in which they came; empty for no classifier.

    Raises
    ------
    CatalogError
        Where there is no such table, or nothing was committed.
    """
    runs = Ledger(catalog).runs()
    if not runs:
        raise CatalogError([f"{catalog!r}: no run was committed to it"])
    columns = [c.name for run in runs for c in run.columns.get(table, ())]
    try:
        return known_classes(table, columns)
    except KeyError as error:
        raise CatalogError([str(error.args[0])]) from error


def _schema(catalog: str, table: str, columns: Sequence[str]) -> pa.Schema:
    try:
        known = {column.name: column for column in table_columns(table)}
    except KeyError as error:
        raise CatalogError([str(error.args[0])]) from error
    if not set(columns) <= set(known):  # only then is it worth asking the catalog
        known = {column.name: column for column in table_columns(table, classes_there(catalog, table))}
    odd = [name for name in columns if name not in known]
    if odd:
        raise CatalogError([f"table {table!r} has no column {odd[0]!r}; nightcat describe {table} lists them"])
    return arrow_schema(table, tuple(known[name] for name in columns))


def _files(catalog: str, table: str, night: str | None) -> Iterator[pq.ParquetFile]:
    """Data files of a table, in the order of runs, each open while it is looked at."""
    ledger = Ledger(catalog)
    runs = ledger.runs(night)
    if not runs:
        what = f"no run of night {night}" if night else "no run"
        raise CatalogError([f"{catalog!r}: {what} was committed to it"])
    for run in runs:
        for file in sorted(run.files):
            if file.table == table and file.kind in (PRIMARY, UNPLACED):
                with ledger.store.open(file.path) as stream:
                    yield pq.ParquetFile(stream)


def _group(data: pq.ParquetFile, group: int, wanted: pa.Schema, embedded: bool) -> pa.Table:
    there = set(data.schema_arrow.names)
    if embedded and EMBEDDING not in there:
        return wanted.empty_table()
    names = {*wanted.names, EMBEDDING} if embedded else {*wanted.names}
    read = data.read_row_group(group, columns=sorted(names & there))
    if embedded:
        read = read.filter(pc.is_valid(read[EMBEDDING]))
    arrays = [read[f.name] if f.name in there else pa.nulls(read.num_rows, f.type) for f in wanted]
    return pa.Table.from_arrays([a.cast(f.type) for a, f in zip(arrays, wanted, strict=True)], schema=wanted)


def vectors(table: pa.Table) -> np.ndarray:
    """The embeddings of some rows.

    Parameters
    ----------
    table : pyarrow.Table
        With ``embedding``, nowhere null.

    Returns
    -------
    ndarray of float32, shape (n, width)
        One row each.

    Raises
    ------
    CatalogError
        Where they are of different widths: of different models.
    """
    column = table[EMBEDDING].combine_chunks()
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(widths) > 1:
        raise CatalogError([f"embeddings of {' and '.join(map(str, sorted(widths)))} numbers stand in one table"])
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(table.num_rows, widths[0] if widths else 0)


class NoEmbedding(CatalogError):
    """No row of a table has an embedding."""


def one_model(parts: Iterator[pa.Table], table: str, digest: str = "") -> tuple[list[pa.Table], str]:
    """Take the rows of one model: embeddings of different models cannot be compared.

    Parameters
    ----------
    parts : iterator of pyarrow.Table
        From ``read_rows``, with ``model_digest``.
    table : str
        Name, for the message.
    digest : str
        The model; the one that made most of the rows where empty.

    Returns
    -------
    rows, digest : list of pyarrow.Table, str
        Those rows, and the model.

    Raises
    ------
    NoEmbedding
        Where there are none.
    """
    found = list(parts)
    counts: dict[str, int] = {}
    for part in found:
        for pair in part["model_digest"].value_counts().to_pylist():
            counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
    if digest not in counts:
        if digest or not counts:
            who = f" of model {digest}" if digest else ""
            raise NoEmbedding([f"no row{who} of {table!r} has an embedding; nightcat run --embeddings writes them"])
        digest = max(sorted(counts), key=lambda name: counts[name])
    return [rows for part in found if (rows := part.filter(pc.equal(part["model_digest"], digest))).num_rows], digest


def model_of_most(parts: Iterator[pa.Table], table: str) -> str:
    """The model that made most of some rows.

    Parameters
    ----------
    parts : iterator of pyarrow.Table
        From ``read_rows``, with ``model_digest``; none is kept.
    table : str
        Name, for the message.

    Returns
    -------
    str
        Its digest.

    Raises
    ------
    NoEmbedding
        Where there are none.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update({pair["values"]: pair["counts"] for pair in part["model_digest"].value_counts().to_pylist()})
    if not counts:
        raise NoEmbedding([f"no row of {table!r} has an embedding; nightcat run --embeddings writes them"])
    return max(sorted(counts), key=lambda name: counts[name])
