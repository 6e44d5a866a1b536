"""The drift table on disk: plain Parquet by night, and one file that names what stands there.

::

    drift/<night>.parquet    every statistic of the night
    drift/drift.json         reference, limits and the digest of each file; written last
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.catalog import DRIFT, StagedFile, decode, encode, to_table
from pipeline.hats import CatalogError
from transforms.columns import BOOL, FLOAT64, INT32, INT64, STRING, Column
from transforms.store import Store

if TYPE_CHECKING:
    from finetune.drift import Finding

INDEX = f"{DRIFT}/drift.json"
FORMAT = 1
COLUMNS = (
    Column("night", STRING, "", "time.epoch", "Night, the last one of its window", nullable=False),
    Column("table_name", STRING, "", "meta.id", "Table that was watched: a task, or rejects", nullable=False),
    Column("kind", STRING, "", "meta.code.class", "Kind of statistic: value, spread, null ...", nullable=False),
    Column("column_name", STRING, "", "meta.id", "Column, flag bit, class or reason", nullable=False),
    Column("window", INT32, "d", "time.duration", "Nights that were taken together", nullable=False),
    Column("value", FLOAT64, "", "stat.value", "Median, interquartile range, share or mean, in the unit of unit_name"),
    Column("reference", FLOAT64, "", "stat.value", "The same of the reference nights"),
    Column("unit_name", STRING, "", "meta.unit", "Unit of value and reference, empty for none"),
    Column(
        "difference",
        FLOAT64,
        "",
        "stat.value;arith.diff",
        "Difference of the means: in reference deviations, or of shares",
    ),
    Column("significance", FLOAT64, "", "stat.snr", "Difference over its predicted scatter; null in the reference"),
    Column("false_alarm_probability", FLOAT64, "", "stat.probability", "That undisturbed nights hold such a thing"),
    Column("alarm", BOOL, "", "meta.code", "The probability is at most the allowed rate", nullable=False),
    Column("since", STRING, "", "time.epoch", "First night of the unbroken series of alarms that this belongs to"),
    Column("objects", INT64, "", "meta.number", "Objects (for rejects files) that it rests on", nullable=False),
    Column("files", INT64, "", "meta.number", "Files that it rests on", nullable=False),
    Column("in_reference", BOOL, "", "meta.code", "The night is one of the reference", nullable=False),
    Column("package_version", STRING, "", "meta.version", "Version of nightcat", nullable=False),
)


def to_rows(
    table: str, findings: Sequence[Finding], units: Mapping[str, str], reference: Sequence[str], version: str
) -> list[dict[str, Any]]:
    """Findings as rows.

    Parameters
    ----------
    table : str
        That was watched.
    findings : sequence of Finding
        From ``finetune.drift.watch``.
    units : mapping of str to str
        Of the table's columns.
    reference : sequence of str
        Nights of the reference.
    version : str
        Of the package.

    Returns
    -------
    list of dict
        Keys as in ``COLUMNS``.
    """
    inside = set(reference)
    measured = ("value", "spread", "error", "disagreement")
    return [
        {
            "night": f.night,
            "table_name": table,
            "kind": f.statistic.kind,
            "column_name": f.statistic.column,
            "window": f.window,
            "value": _number(f.value),
            "reference": _number(f.reference),
            "unit_name": units.get(f.statistic.column.split(" - ")[0], "") if f.statistic.kind in measured else "",
            "difference": _number(f.difference),
            "significance": _number(f.z),
            "false_alarm_probability": _number(f.false_alarm),
            "alarm": f.alarm,
            "since": f.since or None,
            "objects": f.objects,
            "files": f.files,
            "in_reference": f.night in inside,
            "package_version": version,
        }
        for f in findings
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_drift(store: Store, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write the table in place of the one that was there; a file only where it changes.

    Parameters
    ----------
    store : Store
        The catalog.
    rows : sequence of mapping
        From ``to_rows``.
    about : mapping
        Reference and limits, for the index.

    Returns
    -------
    dict
        The index.
    """
    old = {file.path: file.sha256 for file in _files(store)}
    by_night: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_night.setdefault(row["night"], []).append(row)
    files = []
    for night, own in sorted(by_night.items()):
        data, path = encode(to_table(own, COLUMNS, DRIFT), COLUMNS, DRIFT), f"{DRIFT}/{night}.parquet"
        digest = hashlib.sha256(data).hexdigest()
        if old.get(path) != digest or not store.exists(path) or store.read(path) != data:
            store.write(path, data)
        files.append(
            StagedFile(path=path, table=DRIFT, kind=DRIFT, pixel=-1, rows=len(own), size=len(data), sha256=digest)
        )
    index = {"format": FORMAT, **about, "files": [file.plain() for file in files]}
    store.write(INDEX, (json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
    for path in old.keys() - {file.path for file in files}:
        store.remove(path)
    return index


def read_index(store: Store) -> dict[str, Any] | None:
    """What stands in the drift table.

    Parameters
    ----------
    store : Store
        The catalog.

    Returns
    -------
    dict or None
        None where no drift was computed.

    Raises
    ------
    CatalogError
        Where it is damaged.
    """
    try:
        index: dict[str, Any] = json.loads(store.read(INDEX))
        for entry in index["files"]:
            StagedFile(**entry)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError([f"{INDEX!r} is damaged: {error}; nightcat drift writes it anew"]) from error
    return index


def read_drift(store: Store, nights: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of the drift table.

    Parameters
    ----------
    store : Store
        The catalog.
    nights : sequence of str, optional
        Only those.

    Returns
    -------
    list of dict
        Keys as in ``COLUMNS``; empty where no drift was computed.

    Raises
    ------
    CatalogError
        Where a file is damaged or missing.
    """
    found: list[dict[str, Any]] = []
    for file in drift_files(store):
        if nights is not None and file.path.rpartition("/")[2].removesuffix(".parquet") not in nights:
            continue
        try:
            data = store.read(file.path)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise ValueError("its bytes are not those of the index")
            found += decode(data).to_pylist()
        except (FileNotFoundError, ValueError) as error:
            raise CatalogError([f"{file.path!r} is damaged: {error}; nightcat drift writes it anew"]) from error
    return found


def drift_files(store: Store) -> list[StagedFile]:
    """Files of the drift table.

    Parameters
    ----------
    store : Store
        The catalog.

    Returns
    -------
    list of StagedFile
        As the index names them.
    """
    index = read_index(store)
    return [StagedFile(**entry) for entry in index["files"]] if index else []


def _files(store: Store) -> list[StagedFile]:
    try:
        return drift_files(store)
    except CatalogError:
        return []


def check_drift(store: Store) -> Iterator[tuple[str, str, str]]:
    """Compare the drift table with its index.

    Parameters
    ----------
    store : Store
        The catalog.

    Yields
    ------
    tuple of str
        Kind of fault, file, sentence.
    """
    try:
        files = drift_files(store)
    except CatalogError as error:
        yield from (("drift", INDEX, sentence) for sentence in error.faults)
        return
    schema = to_table([], COLUMNS, DRIFT).schema
    for file in files:
        try:
            data = store.read(file.path)
        except FileNotFoundError:
            continue  # the listing says so
        if hashlib.sha256(data).hexdigest() != file.sha256:
            yield "digest", file.path, "has bytes that are not those of drift.json; nightcat drift writes it anew"
            continue
        table: pa.Table = decode(data)
        if table.num_rows != file.rows:
            yield "count", file.path, f"has {table.num_rows} rows, drift.json says {file.rows}"
        if not table.schema.equals(schema):
            yield "schema", file.path, "has other columns than a drift table"
