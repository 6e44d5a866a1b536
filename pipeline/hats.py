"""What makes a folder of Parquet files a HATS collection: properties, partition lists, the common schema.

All of it is derived: from the manifests (which pixels, how many rows) and from the columns of the tables. A file is
only written where it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog import MARGIN, MARGIN_ARCSEC, PRIMARY, REJECTS, StagedFile, hats_folder
from pipeline.footers import arrow_schema, columns_of, votable_keys
from transforms.columns import Column
from transforms.store import Store

COMMON = "dataset/_common_metadata"


class CatalogError(ValueError):
    """The catalog on disk and this run do not fit together.

    Parameters
    ----------
    faults : iterable of str
        Sentences.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def properties(table: str, kind: str, order: int, rows: int) -> str:
    """Text of ``hats.properties``.

    Parameters
    ----------
    table, kind : str
        Name of the table; ``"primary"`` or ``"margin"``.
    order : int
        Of the pixels.
    rows : int
        In all files.

    Returns
    -------
    str
        ``key=value`` lines.
    """
    lines = {
        "obs_collection": hats_folder(table, kind).rpartition("/")[2],
        "dataproduct_type": "object" if kind == PRIMARY else "margin",
        "hats_version": "v1.0",
        "hats_builder": "nightcat",
        "hats_nrows": str(rows),
        "hats_order": str(order),
        "hats_npix_suffix": "/",
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": "29",
    }
    if kind == MARGIN:
        lines["hats_primary_table_url"] = table
        lines["hats_margin_threshold"] = str(MARGIN_ARCSEC)
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def collection(table: str) -> str:
    """Text of ``collection.properties``.

    Parameters
    ----------
    table : str
        Name of the table.

    Returns
    -------
    str
        ``key=value`` lines.
    """
    margin = hats_folder(table, MARGIN).rpartition("/")[2]
    lines = {
        "obs_collection": table,
        "hats_primary_table_url": table,
        "all_margins": margin,
        "default_margin": margin,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def read_properties(store: Store, name: str) -> dict[str, str]:
    """Read a properties file.

    Parameters
    ----------
    store : Store
        The catalog.
    name : str
        Relative path.

    Returns
    -------
    dict of str to str
        Empty where there is no such file.
    """
    try:
        text = store.read(name).decode()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def partition_info(order: int, pixels: Iterable[int]) -> str:
    """Text of ``partition_info.csv``.

    Parameters
    ----------
    order : int
        Of the pixels.
    pixels : iterable of int
        Those with rows.

    Returns
    -------
    str
        One line a pixel, sorted.
    """
    return "Norder,Npix\n" + "".join(f"{order},{pixel}\n" for pixel in sorted(set(pixels)))


def common_metadata(table: str, columns: tuple[Column, ...]) -> bytes:
    """Bytes of ``_common_metadata``, whose schema rules over those of the files.

    Parameters
    ----------
    table : str
        Name of the table.
    columns : tuple of Column
        All that any file has.

    Returns
    -------
    bytes
        A Parquet file without rows.
    """
    schema = arrow_schema(table, columns)
    keys: dict[Any, Any] = {**(schema.metadata or {}), **votable_keys(table, columns)}
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema.with_metadata(keys), sink)
    return bytes(sink.getvalue().to_pybytes())


def known_columns(store: Store, table: str) -> tuple[Column, ...]:
    """Columns that a table on disk has.

    Parameters
    ----------
    store : Store
        The catalog.
    table : str
        Name of the table.

    Returns
    -------
    tuple of Column
        Empty where the table is not there yet.

    Raises
    ------
    CatalogError
        Where the file that lists them is damaged.
    """
    path = f"{hats_folder(table, PRIMARY)}/{COMMON}"
    try:
        data = store.read(path)
    except FileNotFoundError:
        return ()
    try:
        return columns_of(pq.read_schema(pa.BufferReader(data)))
    except (ValueError, OSError) as error:  # Arrow's own errors are ValueErrors, those of Thrift are OSErrors
        raise CatalogError([f"{path!r} is damaged: {error}"]) from error


def merge_columns(table: str, old: tuple[Column, ...], new: tuple[Column, ...]) -> tuple[Column, ...]:
    """Add the columns that a table does not have yet; descriptions follow the newest.

    Parameters
    ----------
    table : str
        Name of the table.
    old, new : tuple of Column
        On disk, and of this run.

    Returns
    -------
    tuple of Column
        Old ones first.

    Raises
    ------
    CatalogError
        Where a column has changed its type, unit, UCD or whether it may be null.
    """
    merged = {column.name: column for column in old}
    faults = []
    for column in new:
        before = merged.setdefault(column.name, column)
        for what in ("type", "unit", "ucd", "nullable"):
            if getattr(before, what) != getattr(column, what):
                faults.append(
                    f"column {column.name!r} of table {table!r} has {what} {getattr(before, what)!r} in the catalog "
                    f"and {getattr(column, what)!r} in this run: write to a new catalog"
                )
        merged[column.name] = column
    if faults:
        raise CatalogError(faults)
    return tuple(merged.values())


def refresh(
    store: Store, order: int, files: Iterable[StagedFile], columns: Mapping[str, tuple[Column, ...]]
) -> list[str]:
    """Write the derived files of all tables anew, where they change.

    Parameters
    ----------
    store : Store
        The catalog.
    order : int
        Of its pixels.
    files : iterable of StagedFile
        Of all live runs.
    columns : mapping of str to tuple of Column
        Columns that a run adds, by table.

    Returns
    -------
    list of str
        What was written.
    """
    wanted: dict[str, bytes] = {}
    for name, data in derived(store, order, files, columns).items():
        try:
            if store.read(name) == data:
                continue
        except FileNotFoundError:
            pass
        wanted[name] = data
    for name, data in wanted.items():
        store.write(name, data)
    return list(wanted)


def derived(
    store: Store, order: int, files: Iterable[StagedFile], columns: Mapping[str, tuple[Column, ...]]
) -> dict[str, bytes]:
    """Contents of the derived files of all tables.

    Parameters
    ----------
    store : Store
        The catalog.
    order : int
        Of its pixels.
    files : iterable of StagedFile
        Of all live runs.
    columns : mapping of str to tuple of Column
        Columns that a run adds, by table.

    Returns
    -------
    dict of str to bytes
        By relative path.
    """
    rows: dict[tuple[str, str], dict[int, int]] = {}
    tables = {name for name in store.folders() if store.exists(f"{name}/{name}")}
    for file in files:
        if file.kind != REJECTS:
            tables.add(file.table)  # a table whose rows are all unplaced has a schema all the same
        if file.kind in (PRIMARY, MARGIN):
            pixels = rows.setdefault((file.table, file.kind), {})
            pixels[file.pixel] = pixels.get(file.pixel, 0) + file.rows
    out: dict[str, bytes] = {}
    for table in sorted(tables):
        merged = merge_columns(table, known_columns(store, table), columns.get(table, ()))
        for kind in (PRIMARY, MARGIN):
            folder, pixels = hats_folder(table, kind), rows.get((table, kind), {})
            out[f"{folder}/{COMMON}"] = common_metadata(table, merged)
            out[f"{folder}/hats.properties"] = properties(table, kind, order, sum(pixels.values())).encode()
            out[f"{folder}/partition_info.csv"] = partition_info(order, pixels).encode()
        out[f"{table}/collection.properties"] = collection(table).encode()
    return out
