"""SNANA's pairs of FITS files: ``*_HEAD.FITS`` has a row for each supernova, ``*_PHOT.FITS`` their points end to end.

``PTROBS_MIN`` and ``PTROBS_MAX`` of the first count rows of the second from 1; a row of -777 stands after each object
to catch wrong pointers (SNANA manual, section 4; Kessler et al. 2009, PASP 121, 1028).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers import light_curve_cells as cells
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_parsers import Table, read_fits
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.records import FileRef, Item, LightCurve

OBJECTS = 256  #: Objects of one item at most.
SEPARATOR = -777.0
_POINTERS = ("PTROBS_MIN", "PTROBS_MAX")


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What the HEAD file says of each object.

    Parameters
    ----------
    name : list of str
        Identifiers (SNID).
    first, last : ndarray of int, shape (n,)
        Rows of the PHOT file, from 1, both included.
    ra, dec : ndarray of float64, shape (n,)
        Degrees; NaN where the file has none.
    """

    name: list[str]
    first: np.ndarray
    last: np.ndarray
    ra: np.ndarray
    dec: np.ndarray


def _table_with(source: Source, *needed: str) -> int | None:
    """Number of the first extension that has the columns."""
    for index, hdu in enumerate(source.hdus):
        if set(needed) <= set(getattr(getattr(hdu, "columns", None), "names", None) or ()):
            return index
    return None


def _is_head(source: Source) -> bool:
    return source.is_fits and _table_with(source, "SNID", *_POINTERS) is not None


def _is_phot(source: Source) -> bool:
    if not source.is_fits:
        return False
    index = _table_with(source, "MJD", "FLUXCAL", "FLUXCALERR")
    return index is not None and "SNID" not in source.hdus[index].columns.names


def _no_items(source: Source) -> list[Item]:
    return []


def _no_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield from ()


def _heads(source: Source) -> Heads:
    """Read the HEAD file that lies beside a PHOT file."""
    name = source.url.rstrip("/").rsplit("/", 1)[-1]
    before, word, after = name.rpartition("PHOT" if "PHOT" in name else "phot")
    head = before + ("HEAD" if word == "PHOT" else "head") + after if word else name
    wanted = [head, head + ".gz", head.removesuffix(".gz")] if head != name else []
    url = next(filter(None, map(source.sibling, wanted)), None)
    if url is None:
        raise Unusable(
            f"{source.file.source} holds the points of many objects end to end, and the HEAD file that tells which are"
            f" whose, {head if wanted else 'with PHOT as HEAD in its name'}, is not beside it"
        )
    with Source(FileRef(url=url, source=url.rsplit("/", 1)[-1])) as other:
        index = _table_with(other, "SNID", *_POINTERS) if other.is_fits else None
        if index is None:
            raise Unusable(f"{other.file.source} has no columns SNID, {', '.join(_POINTERS)}")
        table = read_fits(other, index)
    everything = slice(None)
    first, last = (table.numbers(column, everything).astype(int) for column in _POINTERS)
    ra, dec = (_angle(table, names) for names in (("RA",), ("DEC", "DECL")))
    return Heads([text.strip() for text in table.strings("SNID", everything)], first, last, ra, dec)


def _angle(table: Table, names: tuple[str, ...]) -> np.ndarray:
    name = next((name for name in names if name in table.names), None)
    return np.full(table.n_row, np.nan) if name is None else table.degrees(name, slice(None), hours=name == "RA")


def _items(source: Source) -> list[Item]:
    index, count = _table_with(source, "MJD", "FLUXCAL"), len(_heads(source).name)
    return [
        Item(file=source.file, format="snana_fits", hdu=str(index), start=i, stop=min(i + OBJECTS, count))
        for i in range(0, count, OBJECTS)
    ]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    heads, table = _heads(source), read_fits(source, int(item.hdu))
    for row in range(item.start, len(heads.name) if item.stop < 0 else item.stop):
        yield Entry(row, partial(_load, source, table, item, heads, row), heads.name[row])


def _load(source: Source, table: Table, item: Item, heads: Heads, row: int) -> LightCurve:
    name, first, last = heads.name[row], int(heads.first[row]), int(heads.last[row])
    if not 1 <= first <= last <= table.n_row:
        raise Unusable(f"object {name}: rows {first} to {last} of {source.file.source}, which has {table.n_row} rows")
    rows = slice(first - 1, last)
    time = table.numbers("MJD", rows)
    if np.any(time == SEPARATOR):
        raise Unusable(
            f"object {name}: rows {first} to {last} of {source.file.source} hold the separator MJD = {SEPARATOR:g}, so"
            " its HEAD file belongs to another PHOT file"
        )
    band = next((column for column in ("FLT", "BAND") if column in table.names), None)
    if band is None:
        raise Unreadable(f"{source.file.source} has neither column FLT nor BAND")
    unit, factor = cells.flux_unit("FLUXCAL", "")
    return make_light_curve(
        Columns(
            time=time,
            value=table.numbers("FLUXCAL", rows) * factor,
            error=table.numbers("FLUXCALERR", rows) * factor,
            band=table.strings(band, rows),
            magnitudes=False,
            unit=unit,
            system="mjd",
            identity={
                "source": source.file.source,
                "hdu": item.hdu,
                "row": row,
                "object_id": name,
                **cells.place(heads.ra[row], heads.dec[row]),
            },
        )
    )


def _format(name: str, description: str, sniff: Any, items: Any, entries: Any) -> Format:
    return Format(name=name, record=LightCurve, description=description, sniff=sniff, items=items, entries=entries)


FORMATS: tuple[Format, ...] = (
    _format(
        "snana_head",
        "SNANA FITS, *_HEAD.FITS: read with the PHOT file beside it, no object of its own",
        _is_head,
        _no_items,
        _no_entries,
    ),
    _format(
        "snana_fits",
        "SNANA FITS, *_PHOT.FITS: FLUXCAL with zero point 27.5; needs its HEAD file beside it",
        _is_phot,
        _items,
        _entries,
    ),
)
