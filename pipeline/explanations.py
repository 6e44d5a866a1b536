"""The side table of explanations as a Parquet file, and the objects of a night that is in a catalog already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.catalog import EXPLANATIONS, PRIMARY, UNPLACED, decode, encode
from pipeline.footers import arrow_schema
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.manifest import Run
from pipeline.replay import replay_configs
from pipeline.sources import digest_and_size
from transforms.columns import Column
from transforms.records import FileRef


def explanation_bytes(arrays: Mapping[str, Any], columns: tuple[Column, ...]) -> bytes:
    """Make a Parquet file of explanations, with units and descriptions in its footer as in the catalog's.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        From ``finetune.explanation_table.table_arrays``.
    columns : tuple of Column
        Of the table.

    Returns
    -------
    bytes
        The same whatever the order of the objects.
    """
    schema = arrow_schema(EXPLANATIONS, columns)
    made = []
    for column, field in zip(columns, schema, strict=True):
        values = arrays[column.name]
        missing = np.array([v == "" for v in values]) if pa.types.is_string(field.type) and column.nullable else None
        made.append(pa.array(values, field.type, mask=missing, from_pandas=True))
    return encode(pa.Table.from_arrays(made, schema=schema), columns, EXPLANATIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightObjects:
    """Some objects of a night.

    Parameters
    ----------
    files : tuple of FileRef
        Where they are.
    places : set of tuple
        Source, HDU and row of each.
    reader_options, measure_options : mapping
        As the night was made with.
    digests : tuple of str
        Of the models that made their rows.
    """

    files: tuple[FileRef, ...]
    places: set[tuple[str, str, int]]
    reader_options: Mapping[str, Any]
    measure_options: Mapping[str, Any]
    digests: tuple[str, ...]


def night_objects(catalog: str, night: str, task: str, n: int, seed: int) -> NightObjects:
    """Draw objects of a night from a catalog, each with the same chance.

    Parameters
    ----------
    catalog : str
        Root of the catalog.
    night : str
        The night.
    task : str
        Name of the table.
    n : int
        How many.
    seed : int
        Of the draw.

    Returns
    -------
    NightObjects
        Their places, and the files as the ledger names them.

    Raises
    ------
    CatalogError
        Where the night has no such rows, or a file is gone or is another one now.
    """
    ledger = Ledger(catalog)
    runs = ledger.runs(night)
    found = [(run, *row) for run in runs for row in _rows(ledger, run, task)]
    if not found:
        raise CatalogError([f"{catalog!r} has no row of {task} in the night {night!r}"])
    found.sort(key=lambda row: row[1:4])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found))[:n])
    picked = [found[i] for i in chosen]
    wanted = {(run.run_id, source) for run, source, *_ in picked}
    files = {
        entry["source"]: FileRef(
            url=entry["url"], source=entry["source"], size=entry["size"], digest=entry["digest"]
        )
        for run, entry in ledger.inputs(runs)
        if (run.run_id, entry["source"]) in wanted and entry["rows"]
    }  # fmt: skip
    faults = [fault for name in sorted(files) if (fault := _changed(files[name]))]
    faults += [f"no place is known for {source}" for _, source in sorted(wanted) if source not in files]
    if faults:
        raise CatalogError(faults)
    config = replay_configs(catalog, night, None)[night]
    return NightObjects(
        files=tuple(files[name] for name in sorted(files)),
        places={(source, hdu, row) for _, source, hdu, row, _ in picked},
        reader_options=config.reader_options(),
        measure_options=config.measure_options(),
        digests=tuple(sorted({digest for *_, digest in picked})),
    )


def _rows(ledger: Ledger, run: Run, task: str) -> list[tuple[str, str, int, str]]:
    names = ("source", "hdu", "row", "model_digest")
    out: list[tuple[str, str, int, str]] = []
    for file in run.files:
        if file.table == task and file.kind in (PRIMARY, UNPLACED):
            table = decode(ledger.store.read(file.path), names)
            out += list(zip(*(table[name].to_pylist() for name in names), strict=True))
    return out


def _changed(file: FileRef) -> str:
    try:
        digest, _ = digest_and_size(file.url)
    except OSError as error:
        return f"{file.url} cannot be read any more: {error}"
    return "" if digest == file.digest else f"{file.url} is another file now than when the night was processed"
